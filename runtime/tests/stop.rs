//! The stopped world: what it shows of threads and tasks, and how it answers to those who cannot be stopped.

#![cfg(not(loom))]

use std::{
    arch::asm,
    mem, ptr,
    sync::{
        Arc, Barrier, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering},
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
        stop::{Missed, Patience, StackKind, StopError, ThreadState},
    },
    yield_now,
};

/// The world belongs to the process: one test at a time, so that one that blocks the signal does not disturb others.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Long enough for a loaded machine.
const PATIENT: Patience = Patience { deadline: Duration::from_secs(5), attempts: 3 };

fn thread_id() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

/// A thread that does something until it is dropped.
struct Companion {
    id: i32,
    end: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Companion {
    fn new(body: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let id = Arc::new(AtomicI32::new(0));
        let thread = {
            let (end, id) = (end.clone(), id.clone());
            thread::spawn(move || {
                id.store(thread_id(), Ordering::Release);
                body(&end);
            })
        };
        while id.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        Self { id: id.load(Ordering::Relaxed), end, thread: Some(thread) }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn sleep_until(end: &AtomicBool) {
    while !end.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(1));
    }
}

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
fn a_stop_within_a_stop_is_refused() {
    let _alone = alone();
    assert!(!world::stop::inside());
    let stop = world::stop(PATIENT, |_| {
        (world::stop::inside(), matches!(world::stop(PATIENT, |_| ()), Err(StopError::Nested)))
    });
    assert_eq!(stop.unwrap().value, (true, true));
    assert!(!world::stop::inside());
}

#[test]
fn requests_come_one_after_another() {
    let _alone = alone();
    let inside = Arc::new(AtomicU64::new(0));
    let barrier = Arc::new(Barrier::new(4));
    let requesters: Vec<_> = (0..4)
        .map(|_| {
            let (inside, barrier) = (inside.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                for _ in 0..50 {
                    let stop = world::stop(PATIENT, |_| {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                    assert!(stop.unwrap().complete);
                }
            })
        })
        .collect();
    requesters.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_panic_in_the_closure_releases_the_world() {
    let _alone = alone();
    // What panics here has nobody else's locks to wait for: the only other threads sleep.
    let caught = std::panic::catch_unwind(|| world::stop(PATIENT, |_| std::panic::resume_unwind(Box::new(()))));
    assert!(caught.is_err());
    assert!(world::stop(PATIENT, |world| world.complete()).unwrap().value);
}

fn block(signal: Option<i32>) {
    // SAFETY: the set is initialised, and only this thread's mask changes.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigfillset(&mut set);
        if let Some(signal) = signal {
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
    }
}

#[test]
fn a_thread_that_blocks_the_signal_is_missed_and_named() {
    let _alone = alone();
    let signal = libc::SIGRTMIN() + world::stop::DEFAULT_SIGNAL;
    let companion = Companion::new(move |end| {
        block(Some(signal));
        sleep_until(end);
        // SAFETY: as in `block`; the signals that are pending now find no stop.
        unsafe {
            let mut set = mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut());
        }
    });
    thread::sleep(Duration::from_millis(20));
    let short = Patience { deadline: Duration::from_millis(5), attempts: 2 };
    let before = world::stop::pauses();
    let mut asleep = 0;
    for _ in 0..20 {
        let stop = world::stop(short, |world| {
            let thread = world.thread(companion.id).expect("listed");
            (thread.state(), thread.sp(), thread.registers().len())
        })
        .unwrap();
        assert!(!stop.complete && stop.pause.attempts == 2);
        assert!(stop.pause.stopping >= short.deadline);
        let (state, sp, registers) = stop.value;
        assert_eq!((state, registers), (ThreadState::Missed(Missed::Masked), 0));
        asleep += u32::from(sp != 0);
    }
    assert!(asleep > 0, "it sleeps most of the time, and then the kernel tells where");
    let pauses = world::stop::pauses();
    assert_eq!((pauses.incomplete - before.incomplete, pauses.retries - before.retries), (20, 20));
    let status = std::fs::read_to_string(format!("/proc/self/task/{}/status", companion.id)).unwrap();
    let queued = status.lines().find_map(|line| line.strip_prefix("SigQ:\t")).unwrap();
    let queued: u32 = queued.split('/').next().unwrap().parse().unwrap();
    assert!(queued <= 5, "{queued} signals wait: each stop has left another");
    drop(companion);
    assert!(world::stop(PATIENT, |_| ()).unwrap().complete);
}

#[test]
fn a_thread_that_unblocks_the_signal_in_time_is_waited_for() {
    let _alone = alone();
    let companion = Companion::new(|end| {
        while !end.load(Ordering::Acquire) {
            block(None);
            thread::sleep(Duration::from_millis(5));
            // SAFETY: as in `block`.
            unsafe {
                let mut set = mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut());
            }
        }
    });
    for _ in 0..20 {
        let stop = world::stop(PATIENT, |world| world.thread(companion.id).map(|thread| thread.state())).unwrap();
        assert!(stop.complete);
        assert_eq!(stop.value, Some(ThreadState::Stopped));
    }
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

/// Runs `child` in a forked process, and gives its exit code.
fn in_a_fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only stops the world, which allocates nothing, and ends without running anything else.
    unsafe {
        let process = libc::fork();
        if process == 0 {
            libc::_exit(child());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(process, &mut status, 0), process);
        assert!(libc::WIFEXITED(status), "{status:#x}");
        libc::WEXITSTATUS(status)
    }
}

#[test]
fn a_forked_child_knows_nothing_of_its_parents_stop() {
    let _alone = alone();
    let companion = Companion::new(sleep_until);
    let requester = Companion::new(|end| {
        while !end.load(Ordering::Acquire) {
            let stop = world::stop(PATIENT, |_| thread::sleep(Duration::from_micros(300)));
            assert!(stop.unwrap().complete);
        }
    });
    // Some of the forks come while the other thread holds the lock.
    for _ in 0..30 {
        let code = in_a_fork(|| match world::stop(PATIENT, |world| world.threads().count()) {
            Ok(stop) if stop.complete && stop.value == 1 => 0,
            _ => 1,
        });
        assert_eq!(code, 0);
    }
    drop((companion, requester));
}

#[test]
fn a_main_thread_that_has_ended_is_dead() {
    let _alone = alone();
    extern "C" fn last(main: *mut libc::c_void) -> *mut libc::c_void {
        thread::sleep(Duration::from_millis(50));
        let stop = world::stop(PATIENT, |world| world.thread(main as usize as i32).map(|thread| thread.state()));
        let good = stop.is_ok_and(|stop| stop.complete && stop.value == Some(ThreadState::Dead));
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(!good)) }
    }
    let code = in_a_fork(|| {
        // SAFETY: the new thread does not need this one.
        unsafe {
            let mut thread = mem::zeroed();
            libc::pthread_create(&mut thread, ptr::null(), last, libc::getpid() as usize as *mut _);
            libc::syscall(libc::SYS_exit, 0);
        }
        2
    });
    assert_eq!(code, 0);
}
