//! Spawning, joining, panicking, and moving between workers, from the outside.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    BuildError, Handle, Runtime, SpawnError, sleep, spawn,
    sync::{Chan, Mutex, WaitGroup},
    task, yield_now,
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("threads")
}

#[test]
fn run_returns_the_value_and_may_borrow() {
    let mut numbers = vec![1, 2, 3];
    let sum: i32 = runtime(1).run(|| {
        numbers.push(4);
        numbers.iter().sum()
    });
    assert_eq!(sum, 10);
    assert_eq!(numbers.len(), 4);
}

#[test]
fn results_and_panics_come_back_through_join() {
    runtime(2).run(|| {
        let good = spawn(|| "done".to_owned());
        let bad = spawn(|| -> u32 { std::panic::panic_any(17_u8) });
        assert_eq!(good.join().unwrap(), "done");
        assert_eq!(*bad.join().unwrap_err().downcast::<u8>().unwrap(), 17);
    });
}

/// Results without bytes are kept nowhere, so what there is to tell must not be mixed up when stacks are used again.
#[test]
fn tasks_without_a_result_tell_how_they_have_ended() {
    runtime(1).run(|| {
        let ended: Vec<_> = (0..10).map(|i| spawn(move || assert!(i % 3 > 0, "{i}"))).collect();
        yield_now();
        // These run on the stacks of those.
        (0..20).map(|_| spawn(|| ())).for_each(|task| task.join().unwrap());
        for (i, task) in ended.into_iter().enumerate() {
            assert!(task.is_finished());
            let message = task.join().map_err(|panic| *panic.downcast::<String>().unwrap());
            assert_eq!(message, if i % 3 > 0 { Ok(()) } else { Err(i.to_string()) });
        }
    });
}

#[test]
fn a_panic_that_nobody_wants_is_dropped_with_the_handle_or_by_the_task() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let of_task = dropped.clone();
    runtime(1).run(move || {
        let fail = || {
            let payload = Counted(of_task.clone());
            spawn(move || std::panic::panic_any(payload))
        };
        let first = fail();
        yield_now();
        assert!(first.is_finished());
        assert_eq!(of_task.load(Ordering::Relaxed), 0);
        drop(first);
        assert_eq!(of_task.load(Ordering::Relaxed), 1);
        drop(fail());
        yield_now();
        assert_eq!(of_task.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_result_without_bytes_is_dropped_once() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Unit;
    impl Drop for Unit {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    runtime(1).run(|| {
        let unit = spawn(|| Unit).join().unwrap();
        assert_eq!(DROPPED.load(Ordering::Relaxed), 0);
        drop(unit);
        drop(spawn(|| Unit));
        yield_now();
        assert_eq!(DROPPED.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_panic_of_the_main_task_continues_in_the_caller() {
    let runtime = runtime(1);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.run(|| panic!("from inside"));
    }));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "from inside");
    assert_eq!(runtime.run(|| 3), 3, "the runtime works on");
}

#[test]
fn destructors_run_while_a_panic_unwinds_through_waits() {
    struct Notify(Chan<u32>);
    impl Drop for Notify {
        fn drop(&mut self) {
            // Waits: nobody receives yet.
            self.0.send(1).unwrap();
        }
    }
    let innocent = Arc::new(std::sync::Mutex::new(0));
    let counter = innocent.clone();
    runtime(2).run(move || {
        let chan = Chan::new();
        let notify = Notify(chan.clone());
        let unwinding = spawn(move || {
            let _notify = notify;
            panic!("on purpose");
        });
        // Others take and release a std lock on the same workers while that task unwinds.
        let others: Vec<_> = (0..50)
            .map(|_| {
                let counter = counter.clone();
                spawn(move || {
                    for _ in 0..20 {
                        *counter.lock().unwrap() += 1;
                        yield_now();
                    }
                })
            })
            .collect();
        sleep(Duration::from_millis(5));
        assert_eq!(chan.recv(), Some(1));
        assert!(unwinding.join().is_err());
        others.into_iter().for_each(|task| task.join().unwrap());
    });
    assert_eq!(*innocent.lock().unwrap(), 1000, "and it is not poisoned");
}

#[test]
fn tasks_run_on_all_workers_and_move_between_them() {
    let runtime = runtime(2);
    let threads: HashSet<_> = runtime.run(|| {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                spawn(|| {
                    let mut seen = HashSet::new();
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(100) {
                        seen.insert(std::thread::current().id());
                        yield_now();
                    }
                    seen
                })
            })
            .collect();
        tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
    });
    // More, if the machine has kept a worker from running for so long that another stood in.
    assert!(threads.len() >= 2, "{threads:?}");
}

#[test]
fn a_woken_task_is_not_stranded_behind_a_busy_one() {
    runtime(2).run(|| {
        let ping = Chan::with_capacity(1);
        let pong = Chan::with_capacity(1);
        let (ping2, pong2) = (ping.clone(), pong.clone());
        let echo = spawn(move || pong2.send(ping2.recv().unwrap()).unwrap());
        sleep(Duration::from_millis(5)); // the echo waits, the other worker sleeps
        ping.send(1).unwrap();
        // Does not leave its worker: the echo must be run by the other one.
        let start = Instant::now();
        while pong.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "the woken task was never run");
            std::hint::spin_loop();
        }
        echo.join().unwrap();
    });
}

#[test]
fn many_tasks_wait_at_once() {
    const TASKS: usize = 20_000;
    let runtime = runtime(2);
    runtime.run(|| {
        let gate = Chan::<()>::new();
        let group = WaitGroup::new();
        group.add(TASKS);
        for _ in 0..TASKS {
            let (gate, group) = (gate.clone(), group.clone());
            spawn(move || {
                gate.recv();
                group.done();
            });
        }
        sleep(Duration::from_millis(20));
        gate.close();
        group.wait();
    });
}

#[test]
fn tasks_spawned_by_plain_threads_run() {
    let runtime = runtime(2);
    let handle = runtime.handle();
    let done = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (handle, done) = (handle.clone(), done.clone());
            std::thread::spawn(move || {
                let tasks: Vec<_> = (0..100)
                    .map(|_| {
                        let done = done.clone();
                        handle.spawn(move || done.fetch_add(1, Ordering::Relaxed)).unwrap()
                    })
                    .collect();
                tasks.into_iter().for_each(|task| {
                    task.join().unwrap();
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(done.load(Ordering::Relaxed), 300);
}

#[test]
fn primitives_connect_tasks_and_threads() {
    let runtime = runtime(1);
    let (to_task, to_thread) = (Chan::new(), Chan::new());
    let lock = Arc::new(Mutex::new(0));
    let thread = {
        let (to_task, to_thread, lock) = (to_task.clone(), to_thread.clone(), lock.clone());
        std::thread::spawn(move || {
            for n in 0..1000 {
                to_task.send(n).unwrap();
                assert_eq!(to_thread.recv(), Some(n + 1));
                *lock.lock() += 1;
            }
            to_task.close();
        })
    };
    runtime.run(|| {
        for n in &to_task {
            *lock.lock() += 1;
            to_thread.send(n + 1).unwrap();
        }
    });
    thread.join().unwrap();
    assert_eq!(*lock.lock(), 2000);
}

#[test]
fn sleep_lasts_at_least_as_long_as_asked() {
    runtime(2).run(|| {
        let tasks: Vec<_> = (0..100)
            .map(|i| {
                spawn(move || {
                    let asked = Duration::from_millis(i % 20);
                    let start = Instant::now();
                    sleep(asked);
                    (asked, start.elapsed())
                })
            })
            .collect();
        for task in tasks {
            let (asked, slept) = task.join().unwrap();
            assert!(slept >= asked, "asked for {asked:?}, slept {slept:?}");
        }
    });
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Spawns a closure with so many bytes, by a task and by a scope, in ways that work and in ways that do not.
fn closures_are_dropped_once<const BYTES: usize>() {
    let drops = Arc::new(AtomicUsize::new(0));
    let closure = || {
        let (counted, bytes) = (Counted(drops.clone()), [7_u8; BYTES]);
        move || {
            let _counted = &counted;
            bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>()
        }
    };
    let mut dropped = 0;
    let mut more = |when: &str| {
        dropped += 1;
        assert_eq!(drops.load(Ordering::SeqCst), dropped, "{BYTES} bytes, {when}");
    };
    assert!(task::Builder::new().spawn(closure()).is_err());
    more("outside of a runtime");
    runtime(1).run(|| {
        assert!(task::Builder::new().pinned(7).spawn(closure()).is_err());
        more("no such worker");
        assert!(task::Builder::new().stack_size(1 << 40).spawn(closure()).is_err());
        more("no such stack");
        assert_eq!(spawn(closure()).join().unwrap(), 7 * BYTES);
        more("spawned");
        assert_eq!(task::scope(|scope| scope.spawn(closure()).join().unwrap()), 7 * BYTES);
        more("scoped");
        let handle = Handle::current().expect("a task has one");
        assert_eq!(handle.spawn(closure()).expect("memory").join().unwrap(), 7 * BYTES);
        more("by a handle");
    });
    assert_eq!(runtime(1).run(closure()), 7 * BYTES);
    more("the main task");
}

#[test]
fn a_closure_is_dropped_once_whether_it_was_spawned_or_not() {
    closures_are_dropped_once::<0>();
    closures_are_dropped_once::<100>();
    closures_are_dropped_once::<10_000>();
}

#[test]
fn unusable_settings_are_refused_with_a_sentence() {
    let error = Runtime::builder().workers(0).build().unwrap_err();
    assert!(matches!(error, BuildError::NoWorkers));
    assert_eq!(error.to_string(), "a runtime needs at least one worker: call `workers(n)` with n from 1 to 1024");
    assert!(matches!(Runtime::builder().workers(5000).build(), Err(BuildError::TooManyWorkers { asked: 5000 })));
    assert!(matches!(Runtime::builder().stack_size(10).build(), Err(BuildError::Stack(_))));
    assert!(matches!(task::Builder::new().spawn(|| ()), Err(SpawnError::NoRuntime)));
    assert!(Handle::current().is_none());
    runtime(1).run(|| {
        let error = task::Builder::new().stack_size(1 << 40).spawn(|| ()).unwrap_err();
        assert!(matches!(error, SpawnError::StackSize { asked }  if asked == 1 << 40));
        assert!(Handle::current().is_some());
    });
}

#[test]
fn a_runtime_that_is_gone_takes_no_tasks_and_its_leftovers_stay() {
    let runtime = runtime(1);
    let handle = runtime.handle();
    let chan = Chan::<u32>::new();
    let waiting = chan.clone();
    runtime.run(move || {
        spawn(move || waiting.recv());
        yield_now();
    });
    drop(runtime);
    assert_eq!(handle.alive_tasks(), 1);
    assert!(matches!(handle.spawn(|| ()), Err(SpawnError::ShutDown)));
    // The abandoned task still stands in the channel's queue: a value is handed to it, and goes nowhere.
    chan.send(1).unwrap();
    assert_eq!(handle.alive_tasks(), 1);
}

#[test]
fn large_closures_and_deep_stacks_work() {
    fn depth(n: u32) -> u32 {
        let frame = std::hint::black_box([n; 64]);
        if n == 0 { 0 } else { 1 + depth(frame[63] - 1) }
    }
    // In a debug build the closure is copied a few times on its way.
    Runtime::builder().workers(1).stack_size(2 << 20).build().unwrap().run(|| {
        let large = [7_u8; 300_000];
        let big = task::Builder::new().stack_size(1 << 20).spawn(move || large.iter().map(|b| *b as u32).sum::<u32>());
        assert_eq!(big.unwrap().join().unwrap(), 2_100_000);
        let deep = task::Builder::new().stack_size(8 << 20).spawn(|| depth(5_000)).unwrap();
        assert_eq!(deep.join().unwrap(), 5_000);
    });
}

#[test]
fn scoped_tasks_borrow_and_end_before_the_scope() {
    let mut words = vec!["a".to_owned(), "b".to_owned()];
    let shouted = runtime(2).run(|| {
        let done = AtomicUsize::new(0);
        let shouted = task::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    yield_now();
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            let tasks: Vec<_> = words
                .iter_mut()
                .map(|word| {
                    scope.spawn(move || {
                        word.push('!');
                        word.as_str()
                    })
                })
                .collect();
            tasks.into_iter().map(|task| task.join().unwrap().len()).sum::<usize>()
        });
        assert_eq!(done.load(Ordering::Relaxed), 20, "also those that nobody joined");
        shouted
    });
    assert_eq!(shouted, 4);
    assert_eq!(words, ["a!", "b!"]);
}

#[test]
fn a_panic_in_a_scope_waits_for_its_tasks() {
    let done = Arc::new(AtomicUsize::new(0));
    let counter = done.clone();
    runtime(2).run(move || {
        let slow = || {
            sleep(Duration::from_millis(10));
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let body = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            task::scope(|scope| {
                scope.spawn(slow);
                std::panic::panic_any(1_u8);
            })
        }));
        assert_eq!(*body.unwrap_err().downcast::<u8>().unwrap(), 1);
        let unjoined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            task::scope(|scope| {
                scope.spawn(slow);
                scope.spawn(|| std::panic::panic_any(2_u8));
            })
        }));
        assert_eq!(*unjoined.unwrap_err().downcast::<&str>().unwrap(), "a scoped task has panicked");
        task::scope(|scope| {
            let joined = scope.spawn(|| std::panic::panic_any(3_u8));
            assert!(joined.join().is_err(), "whose panic was taken, is handled");
        });
    });
    assert_eq!(done.load(Ordering::Relaxed), 2);
}
