//! What the closure sees.

use std::{
    arch::asm,
    fs, iter, ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::{
    Runtime, spawn,
    sync::Chan,
    task,
    world::{
        self, TaskState,
        stop::{StackKind, ThreadState},
    },
    yield_now,
};

use crate::{Companion, PATIENT, alone, sleep_until, thread_id};

#[test]
fn a_sleeping_and_a_running_thread_are_stopped_and_shown() {
    let _alone = alone();
    let sleeper = Companion::new(sleep_until);
    let runner = Companion::new(|end| while !end.load(Ordering::Acquire) {});
    let own = thread_id();
    let local = 0_u8;
    let stop = world::stop(PATIENT, |world| {
        let states = [own, sleeper.id, runner.id].map(|id| world.thread(id).map(|thread| thread.state()));
        let here = world.thread(own).and_then(|thread| thread.stacks().next()).map(|stack| stack.range);
        let runner = world.thread(runner.id);
        let registers = runner.map_or((0, 0, 0), |thread| (thread.pc(), thread.sp(), thread.registers().len()));
        let mut pages = 0;
        let stack = runner.and_then(|thread| thread.stacks().next());
        let unreadable = stack.clone().map_or(1, |stack| world.words(stack.range, |_, _| pages += 1));
        (states, here, registers, stack, unreadable, pages)
    })
    .unwrap();
    assert!(stop.complete);
    let (states, here, (pc, sp, general), stack, unreadable, words) = stop.value;
    assert_eq!(states, [Some(ThreadState::Requester), Some(ThreadState::Stopped), Some(ThreadState::Stopped)]);
    assert!(here.unwrap().contains(&(ptr::from_ref(&local) as usize)));
    assert!(pc != 0 && sp != 0 && general >= 16);
    let stack = stack.unwrap();
    assert_eq!(stack.kind, StackKind::Thread);
    assert!(stack.range.start <= sp && sp < stack.range.end);
    assert_eq!((unreadable, words), (0, stack.range.len() / size_of::<usize>()));
    assert!(stop.pause.threads >= 2 && stop.pause.attempts == 1 && stop.pause.stopped >= stop.pause.stopping);
    let pauses = world::stop::pauses();
    assert!(pauses.complete >= 1 && pauses.stopped.count() >= 1 && pauses.threads >= 2);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn values_that_are_only_in_registers_are_found() {
    const GENERAL: usize = 0x5eed_0001_c0de_cafe;
    const VECTOR: usize = 0x5eed_0002_c0de_cafe;
    // Not in the program as they are, so that no other thread has them.
    const KEY: usize = 0x1111_2222_3333_4444;
    fn holds(end: &AtomicBool) {
        let (general, vector) = (std::hint::black_box(GENERAL ^ KEY), std::hint::black_box(VECTOR ^ KEY));
        // SAFETY: reads a byte until it changes; what it uses is declared.
        unsafe {
            asm!(
                "xor r12, {key}",
                "xor {vector}, {key}",
                "movq xmm7, {vector}",
                "xor {vector}, {vector}",
                "2:",
                "pause",
                "cmp byte ptr [{end}], 0",
                "je 2b",
                "xor r12d, r12d",
                key = in(reg) KEY,
                vector = inout(reg) vector => _,
                end = in(reg) end.as_ptr(),
                inout("r12") general => _,
                out("xmm7") _,
                options(nostack),
            );
        }
    }
    let _alone = alone();
    let companion = Companion::new(holds);
    thread::sleep(Duration::from_millis(50));
    for _ in 0..50 {
        let (general, vector) = world::stop(PATIENT, |world| {
            let thread = world.thread(companion.id).expect("listed");
            (thread.registers().contains(&GENERAL), thread.extended_registers().contains(&VECTOR))
        })
        .unwrap()
        .value;
        assert!(general, "the value in r12");
        assert!(vector, "the value in xmm7");
    }
}

#[test]
fn a_preserved_register_of_the_requester_is_found() {
    #[inline(never)]
    fn look(secret: usize) -> bool {
        let own = thread_id();
        let found = world::stop(PATIENT, |world| {
            let thread = world.thread(own).expect("listed");
            let mut found = thread.registers().iter().any(|word| *word == !std::hint::black_box(!secret));
            for stack in thread.stacks() {
                world.words(stack.range, |_, word| found |= word == secret);
            }
            found
        });
        found.unwrap().value
    }
    let _alone = alone();
    assert!(look(std::hint::black_box(0x5eed_0003_c0de_cafe)));
}

thread_local! {
    static LOCAL: AtomicUsize = const { AtomicUsize::new(0) };
}

#[test]
fn thread_locals_of_others_are_found() {
    const VALUE: usize = 0x5eed_0004_c0de_cafe;
    let _alone = alone();
    let companion = Companion::new(|end| {
        LOCAL.with(|local| local.store(!std::hint::black_box(!VALUE), Ordering::Relaxed));
        sleep_until(end);
    });
    thread::sleep(Duration::from_millis(20));
    let (found, all) = world::stop(PATIENT, |world| {
        let thread = world.thread(companion.id).expect("listed");
        let mut found = false;
        let locals = thread.thread_locals().expect("it has a thread pointer");
        world.words(locals, |_, word| found |= word == VALUE);
        (found, thread.dynamic_thread_locals(|_| {}))
    })
    .unwrap()
    .value;
    assert!(found && all);
}

#[test]
fn an_idle_timer_thread_is_told() {
    let _alone = alone();
    let waiting = || {
        let mut ids = [0; 8];
        let stop = world::stop(PATIENT, |world| {
            let waiting = world.threads().filter(|thread| thread.is_idle_timer_thread()).map(|thread| thread.id());
            ids.iter_mut().zip(waiting).for_each(|(place, id)| *place = id);
        });
        assert!(stop.unwrap().complete);
        ids.into_iter().filter(|id| *id != 0).collect::<Vec<_>>()
    };
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let before = waiting();
    let never = runtime.handle().after_func(Duration::from_secs(3600), || ());
    let told = iter::repeat_with(|| {
        thread::sleep(Duration::from_millis(1));
        waiting()
    });
    let told = told.take(10_000).find(|ids| ids.len() > before.len()).expect("it waits for the timer");
    for id in told {
        let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap();
        assert_eq!(name.trim(), "greenprof-timer");
    }
    never.stop();
}

#[test]
fn tasks_are_shown_where_they_stand() {
    let _alone = alone();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let gate: Chan<()> = Chan::new();
        let (running, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let waiting = {
            let gate = gate.clone();
            task::Builder::new().name("waiting").spawn(move || gate.recv()).unwrap()
        };
        let busy = {
            let (running, end) = (running.clone(), end.clone());
            spawn(move || {
                running.store(true, Ordering::Release);
                while !end.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            })
        };
        while !running.load(Ordering::Acquire) {
            yield_now();
        }
        // Its worker takes it first: it waits when the other one has begun, or soon after.
        task::blocking(|| thread::sleep(Duration::from_millis(50)));
        let own = task::current_id().unwrap();
        let local = 0_u8;
        let stop = world::stop(PATIENT, |world| {
            let mut seen = [None; 3];
            for task in world.tasks() {
                let mut name = [0; 48];
                let at = if task.id() == own {
                    0
                } else if task.name(&mut name) == "waiting" {
                    1
                } else {
                    2
                };
                let sp = task.thread().map(|thread| thread.sp());
                seen[at] = Some((task.state(), sp, task.stack_in_use().start, task.stack().start, task.stack().end));
            }
            let thread = world.thread(thread_id()).expect("listed");
            let mut stacks = thread.stacks().map(|stack| (stack.kind, stack.range.start, stack.range.end));
            (seen, world.tasks().count(), [stacks.next(), stacks.next()], thread.task().map(|task| task.id()))
        })
        .unwrap();
        end.store(true, Ordering::Release);
        assert!(stop.complete);
        let ([caller, waits, runs], count, stacks, task) = stop.value;
        assert_eq!((count, task), (3, Some(own)));
        let local = ptr::from_ref(&local) as usize;
        let (state, sp, in_use, low, high) = caller.unwrap();
        assert_eq!(state, TaskState::Running);
        assert!(sp.is_some() && (low..high).contains(&local) && (in_use..high).contains(&local));
        let [(kind, start, end), (own_kind, ..)] = stacks.map(Option::unwrap);
        assert_eq!((kind, own_kind), (StackKind::Task, StackKind::Thread));
        assert!((start..end).contains(&local));
        let (state, sp, in_use, low, high) = waits.unwrap();
        assert!(matches!(state, TaskState::Waiting(reason) if reason.as_str() == "chan receive"), "{state:?}");
        assert!(sp.is_none() && low < in_use && in_use < high);
        let (state, sp, ..) = runs.unwrap();
        assert!(state == TaskState::Running && sp.is_some(), "{state:?}");
        gate.close();
        assert!(waiting.join().unwrap().is_none());
        busy.join().unwrap();
    });
}

#[test]
fn the_map_and_unreadable_pages() {
    let _alone = alone();
    const PAGE: usize = 4096;
    // SAFETY: a fresh mapping, whose second page is made unreadable.
    let pages = unsafe {
        let pages = libc::mmap(
            ptr::null_mut(),
            3 * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(pages, libc::MAP_FAILED);
        pages.cast::<usize>().write(11);
        pages.byte_add(2 * PAGE).cast::<usize>().write(33);
        assert_eq!(libc::mprotect(pages.byte_add(PAGE), PAGE, libc::PROT_NONE), 0);
        pages as usize
    };
    let code = the_map_and_unreadable_pages as *const () as usize;
    let stop = world::stop(PATIENT, |world| {
        let (mut sum, mut count) = (0, 0);
        let unreadable = world.words(pages..pages + 3 * PAGE, |_, word| {
            sum += word;
            count += 1;
        });
        let code = world.mapping(code).is_some_and(|mapping| mapping.is_executable() && mapping.is_file());
        let guard = world.mapping(pages + PAGE).is_some_and(|mapping| !mapping.is_readable());
        let main = world.mappings().iter().filter(|mapping| mapping.is_main_stack()).count();
        (sum, count, unreadable, code, guard, main)
    });
    assert_eq!(stop.unwrap().value, (44, 2 * PAGE / size_of::<usize>(), PAGE, true, true, 1));
}
