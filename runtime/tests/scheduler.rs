//! Workers that are lost to a task, and what the others do meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime, sleep, spawn,
    sync::Chan,
    task,
    world::{self, TaskState},
    yield_now,
};

/// Ends endless loops also when an assertion fails, or the runtime's drop would wait for ever.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn process_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn endless_loops_do_not_stop_the_others() {
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopper = StopOnDrop(stop.clone());
        let handle = runtime.handle();
        // One more than there are workers.
        let endless: Vec<_> = (0..=workers)
            .map(|_| {
                let stop = stop.clone();
                handle
                    .spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            std::hint::spin_loop();
                        }
                    })
                    .unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(5));
        runtime.run(|| {
            let (ping, pong) = (Chan::new(), Chan::new());
            let (ping2, pong2) = (ping.clone(), pong.clone());
            let echo = spawn(move || ping2.iter().for_each(|n: u32| pong2.send(n + 1).unwrap()));
            for n in 0..100 {
                ping.send(n).unwrap();
                assert_eq!(pong.recv(), Some(n + 1));
                if n % 10 == 0 {
                    sleep(Duration::from_millis(1));
                }
            }
            ping.close();
            echo.join().unwrap();
        });
        drop(stopper);
        endless.into_iter().for_each(|task| task.join().unwrap());
    }
}

#[test]
fn what_a_stuck_worker_has_queued_is_taken_over() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let in_task = done.clone();
    runtime.run(move || {
        let gate = Chan::new();
        let (woken, counter) = (gate.clone(), in_task.clone());
        let waiter = spawn(move || {
            woken.recv();
            counter.fetch_add(1, Ordering::Relaxed);
        });
        yield_now();
        for _ in 0..10 {
            let counter = in_task.clone();
            spawn(move || counter.fetch_add(1, Ordering::Relaxed));
        }
        gate.send(()).unwrap(); // its task is in the next slot now
        let start = Instant::now();
        while in_task.load(Ordering::Relaxed) < 11 {
            assert!(start.elapsed() < Duration::from_secs(10), "stranded behind a task that does not leave");
            std::hint::spin_loop();
        }
        waiter.join().unwrap();
    });
    assert_eq!(done.load(Ordering::Relaxed), 11);
}

#[test]
fn a_hundred_blocking_calls_do_not_stop_the_others() {
    for announced in [true, false] {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let handle = runtime.handle();
        runtime.run(move || {
            let blocked: Vec<_> = (0..100)
                .map(|_| {
                    spawn(move || {
                        let wait = || std::thread::sleep(Duration::from_millis(300));
                        if announced { task::blocking(wait) } else { wait() }
                    })
                })
                .collect();
            let turns = spawn(|| (0..1000).for_each(|_| yield_now()));
            let start = Instant::now();
            while !turns.is_finished() {
                assert!(start.elapsed() < Duration::from_secs(20), "no turn for a task that only yields");
                sleep(Duration::from_millis(1));
            }
            blocked.into_iter().for_each(|task| task.join().unwrap());
        });
        assert!(handle.threads() <= 2 + 101, "{} threads for 100 blocked tasks", handle.threads());
        assert_eq!(handle.starved(), 0);
    }
}

#[test]
fn surplus_threads_are_used_again_and_bounded() {
    let runtime = Runtime::builder().workers(1).max_threads(4).build().unwrap();
    let handle = runtime.handle();
    runtime.run(|| {
        for _ in 0..20 {
            let tasks: Vec<_> =
                (0..8).map(|_| spawn(|| task::blocking(|| std::thread::sleep(Duration::from_millis(2))))).collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        }
    });
    assert!(handle.threads() <= 4, "{} threads", handle.threads());
    assert!(handle.starved() > 0, "eight at once do not fit into four threads");
}

#[test]
fn blocking_code_may_panic_and_may_wait() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let panicking = spawn(|| task::blocking(|| std::panic::panic_any(5)));
        assert!(panicking.join().is_err());
        let chan = Chan::new();
        let receiver = chan.clone();
        let waiting = spawn(move || task::blocking(|| receiver.recv()));
        chan.send(3).unwrap();
        assert_eq!(waiting.join().unwrap(), Some(3));
    });
    assert_eq!(task::blocking(|| 7), 7, "on a thread that runs no task as well");
}

#[test]
fn a_task_that_has_not_begun_is_seen_with_a_stack() {
    Runtime::builder().workers(1).build().unwrap().run(|| {
        let task = spawn(|| ());
        let all = world::tasks(8);
        let info = all.iter().find(|info| info.id == task.id()).expect("it exists");
        assert_eq!(info.state, TaskState::Runnable);
        assert_eq!(all.stack(info).map(<[usize]>::len), Some(1), "the place where it will begin");
        assert!(!info.spawn_stack.is_empty());
        task.join().unwrap();
    });
}

#[test]
fn an_idle_runtime_uses_no_cpu() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let gate = Chan::<()>::new();
    let waiting = gate.clone();
    let task = runtime.handle().spawn(move || waiting.recv()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    // The other tests of this process may be busy: what is looked for is a second in which hardly anything is used.
    let idle = (0..60).any(|_| {
        let before = process_cpu();
        std::thread::sleep(Duration::from_secs(1));
        process_cpu() - before < Duration::from_millis(5)
    });
    assert!(idle, "there was no second with less than 5 ms of CPU");
    gate.close();
    task.join().unwrap();
}

#[test]
fn two_tasks_that_wake_each_other_do_not_starve_a_third() {
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let handle = runtime.handle();
        let stopper = StopOnDrop(stop.clone());
        runtime.run(|| {
            // Each wake puts the other into the next slot, before all that are queued. A pair for each worker and one
            // more.
            let pairs: Vec<_> = (0..=workers)
                .flat_map(|_| {
                    let (ping, pong) = (Chan::<()>::new(), Chan::<()>::new());
                    let player = |from: Chan<()>, to: Chan<()>| {
                        let stop = stop.clone();
                        spawn(move || {
                            while from.recv().is_some() && to.send(()).is_ok() {
                                if stop.load(Ordering::Relaxed) {
                                    to.close();
                                    from.close();
                                }
                            }
                        })
                    };
                    let pair = [player(ping.clone(), pong.clone()), player(pong, ping.clone())];
                    ping.send(()).unwrap();
                    pair
                })
                .collect();
            // One that yields, one that was spawned from inside, one from outside, and one that sleeps.
            for _ in 0..20 {
                yield_now();
            }
            spawn(|| ()).join().unwrap();
            let handle = handle.clone();
            task::blocking(|| std::thread::spawn(move || handle.spawn(|| ()).unwrap().join().unwrap()).join().unwrap());
            sleep(Duration::from_millis(1));
            drop(stopper);
            pairs.into_iter().for_each(|task| task.join().unwrap());
        });
    }
}
