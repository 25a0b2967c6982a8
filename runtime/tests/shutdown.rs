//! The end of a runtime: who is let finish, who is abandoned, and what those who wait for them are told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_runtime::{
    JoinHandle, Runtime, SpawnError, sleep, spawn,
    sync::{Chan, WaitGroup},
    task::{self, Abandoned},
    time, yield_now,
};

const LONG: Duration = Duration::from_secs(60);

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("threads")
}

#[track_caller]
fn assert_abandoned<T: std::fmt::Debug>(joined: thread::Result<T>) {
    let payload = joined.expect_err("it has not ended");
    assert!(payload.is::<Abandoned>(), "it has not panicked");
}

/// Ends an endless loop also when an assertion fails.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_shutdown_lets_tasks_end_and_says_how_many() {
    for workers in [1, 2] {
        let runtime = runtime(workers);
        let handle = runtime.handle();
        let fired = Arc::new(AtomicBool::new(false));
        let in_timer = fired.clone();
        let tasks: Vec<_> = (0..20_u64)
            .map(|n| {
                let spawner = handle.clone();
                let task = move || {
                    while !spawner.is_shutting_down() {
                        sleep(Duration::from_millis(1));
                    }
                    // In order to end, it needs another task.
                    spawn(move || n).join().unwrap() + task::scope(|scope| scope.spawn(|| n).join().unwrap())
                };
                handle.spawn(task).unwrap()
            })
            .collect();
        let spawner = handle.clone();
        let waits_for_timer = handle
            .spawn(move || {
                while !spawner.is_shutting_down() {
                    sleep(Duration::from_millis(1));
                }
                let told = Chan::new();
                let tell = told.clone();
                time::after_func(Duration::from_millis(20), move || {
                    in_timer.store(true, Ordering::Relaxed);
                    tell.close();
                });
                told.recv()
            })
            .unwrap();
        assert!(!handle.is_shutting_down());
        let report = runtime.shutdown_timeout(LONG);
        assert!(handle.is_shutting_down() && fired.load(Ordering::Relaxed));
        assert_eq!((report.abandoned, report.workers_left), (0, 0), "{report}");
        // With two more for each of the twenty, and the timer's.
        assert_eq!(report.ended, 62, "{report}");
        assert_eq!(handle.alive_tasks(), 0);
        assert!(tasks.into_iter().map(|task| task.join().unwrap()).eq((0..20).map(|n| 2 * n)));
        assert_eq!(waits_for_timer.join().unwrap(), None::<()>);
        assert!(matches!(handle.spawn(|| ()), Err(SpawnError::ShutDown)));
    }
}

#[test]
fn a_shutdown_refuses_threads_and_tasks_of_other_runtimes() {
    let (first, second) = (runtime(1), runtime(1));
    let handle = first.handle();
    let gate = Chan::<()>::new();
    let held = gate.clone();
    let holds = handle.spawn(move || held.recv()).unwrap();
    let shutting = thread::spawn(move || first.shutdown_timeout(LONG));
    while !handle.is_shutting_down() {
        thread::yield_now();
    }
    assert!(matches!(handle.spawn(|| ()), Err(SpawnError::ShutDown)));
    let from_there = handle.clone();
    second.run(move || assert!(matches!(from_there.spawn(|| ()), Err(SpawnError::ShutDown))));
    gate.close();
    holds.join().unwrap();
    let report = shutting.join().unwrap();
    assert_eq!((report.ended, report.abandoned, report.workers_left), (1, 0, 0));
    assert_eq!(report.to_string(), "1 tasks ended, 0 were abandoned, 0 workers are still in a task");
}

#[test]
fn who_joins_an_abandoned_task_is_told() {
    let other = runtime(2);
    for with_timeout in [false, true] {
        let runtime = runtime(2);
        let handle = runtime.handle();
        let wait = |_| handle.spawn(|| Chan::<u32>::new().recv()).unwrap();
        let tasks: Vec<JoinHandle<Option<u32>>> = (0..40).map(wait).collect();
        let (ready, started) = mpsc::channel();
        let mut joiners = Vec::new();
        let mut later = Vec::new();
        let mut joining_tasks = Vec::new();
        for (n, task) in tasks.into_iter().enumerate() {
            let ready = ready.clone();
            let join = move || {
                ready.send(()).unwrap();
                task.join().map_err(|payload| payload.downcast::<Abandoned>().unwrap().task())
            };
            match n % 4 {
                0 => joiners.push(thread::spawn(join)),
                1 => joining_tasks.push(other.handle().spawn(join).unwrap()),
                // These join at about the same time, or after it.
                2 => joiners.push(thread::spawn(move || {
                    thread::sleep(Duration::from_micros(100 * n as u64));
                    join()
                })),
                _ => later.push(join),
            }
        }
        started.iter().take(20).for_each(drop);
        if with_timeout {
            let report = runtime.shutdown_timeout(Duration::from_millis(2));
            assert_eq!((report.ended, report.abandoned), (0, 40));
        } else {
            drop(runtime);
        }
        assert!(joiners.into_iter().all(|thread| thread.join().unwrap().is_err()));
        assert!(joining_tasks.into_iter().all(|task| task.join().unwrap().is_err()));
        assert!(later.into_iter().all(|join| join().is_err()));
        assert_eq!(handle.alive_tasks(), 40);
    }
}

#[test]
fn tasks_end_and_are_abandoned_at_the_same_moment() {
    // Whoever joins gets a result or is told, and never both or neither.
    let other = runtime(1);
    for round in 0..60_u64 {
        let runtime = runtime(2);
        let handle = runtime.handle();
        let tasks: Vec<_> = (0..30)
            .map(|n| {
                handle
                    .spawn(move || {
                        sleep(Duration::from_micros((n * 37 + round * 13) % 900));
                        Arc::new(n)
                    })
                    .unwrap()
            })
            .collect();
        let (threads, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
        let count = |joined: thread::Result<Arc<u64>>| match joined {
            Ok(_) => 1,
            Err(payload) => {
                assert!(payload.is::<Abandoned>());
                0
            }
        };
        let joiner = thread::spawn(move || threads.into_iter().map(|(_, task)| count(task.join())).sum::<u64>());
        let task = move || tasks.into_iter().map(|(_, task)| count(task.join())).sum::<u64>();
        let task = other.handle().spawn(task).unwrap();
        thread::sleep(Duration::from_micros(round * 10));
        let abandoned = if round % 2 == 0 {
            let report = runtime.shutdown_timeout(Duration::from_micros(300));
            // If the system has kept a worker from running in a task, that one may end after it was counted.
            (report.workers_left == 0).then_some(report.abandoned)
        } else {
            drop(runtime);
            Some(handle.alive_tasks())
        };
        let ended = joiner.join().unwrap() + task.join().unwrap();
        assert!(abandoned.is_none_or(|abandoned| ended + abandoned == 30));
    }
}

#[test]
fn a_worker_that_its_task_does_not_leave_is_left() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = StopOnDrop(stop.clone());
    let runtime = runtime(2);
    let handle = runtime.handle();
    let (started, is_started) = mpsc::channel();
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let (stop, started) = (stop.clone(), started.clone());
            let endless = move || {
                started.send(()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                7
            };
            handle.spawn(endless).unwrap()
        })
        .collect();
    is_started.iter().take(2).for_each(drop);
    let waits = handle.spawn(|| Chan::<()>::new().recv()).unwrap();
    let report = runtime.shutdown_timeout(Duration::from_millis(5));
    assert_eq!((report.ended, report.abandoned, report.workers_left), (0, 3, 2), "{report}");
    assert_abandoned(waits.join());
    let mut stuck = stuck.into_iter();
    assert_abandoned(stuck.next().unwrap().join());
    drop(stopper);
    // The other one ends after all, and is joined after that.
    let late = stuck.next().unwrap();
    let start = Instant::now();
    while !late.is_finished() {
        assert!(start.elapsed() < LONG, "its thread goes on");
        thread::yield_now();
    }
    assert_eq!(late.join().unwrap(), 7);
}

#[test]
fn a_task_may_end_its_runtime_and_go_on_until_it_waits() {
    /// How the task ends it.
    #[derive(Clone, Copy, PartialEq)]
    enum Way {
        Drop,
        GiveUpOnOne,
        WaitForOne,
    }
    for workers in [1, 2] {
        for way in [Way::Drop, Way::GiveUpOnOne, Way::WaitForOne] {
            let runtime = runtime(workers);
            let handle = runtime.handle();
            let gate = Chan::<()>::new();
            let held = gate.clone();
            let waits = handle.spawn(move || held.recv()).unwrap();
            let (give, take) = mpsc::channel::<Runtime>();
            let ends = handle
                .spawn(move || {
                    let runtime = task::blocking(|| take.recv().unwrap());
                    match way {
                        Way::Drop => drop(runtime),
                        Way::GiveUpOnOne => {
                            let report = runtime.shutdown_timeout(Duration::from_millis(5));
                            assert_eq!((report.ended, report.abandoned), (0, 1), "itself does not count");
                        }
                        Way::WaitForOne => {
                            gate.close();
                            let report = runtime.shutdown_timeout(LONG);
                            assert_eq!(report.abandoned, 0, "itself does not count");
                        }
                    }
                    task::current_id()
                })
                .unwrap();
            let id = ends.id();
            give.send(runtime).unwrap();
            assert_eq!(ends.join().unwrap(), Some(id), "it was not abandoned while it ran");
            match way {
                Way::WaitForOne => assert!(waits.join().is_ok()),
                _ => assert_abandoned(waits.join()),
            }
            assert!(matches!(handle.spawn(|| ()), Err(SpawnError::ShutDown)));
        }
    }
}

#[test]
fn a_task_that_waits_after_it_has_dropped_its_runtime_is_abandoned() {
    let runtime = runtime(1);
    let (give, take) = mpsc::channel::<Runtime>();
    let task = runtime
        .handle()
        .spawn(move || {
            drop(task::blocking(|| take.recv().unwrap()));
            Chan::<()>::new().recv();
        })
        .unwrap();
    give.send(runtime).unwrap();
    assert_abandoned(task.join());
}

#[test]
fn a_task_shuts_another_runtime_down() {
    runtime(1).run(|| {
        let other = runtime(1);
        let (to, from) = (Chan::new(), Chan::new());
        let (there, back) = (to.clone(), from.clone());
        let echo = other.handle().spawn(move || back.send(there.recv().unwrap() + 1).unwrap()).unwrap();
        // Runs on the only worker while the shutdown waits, or the echo would never end.
        let helper = spawn(move || {
            yield_now();
            to.send(1).unwrap();
            from.recv().unwrap()
        });
        let report = other.shutdown_timeout(LONG);
        assert_eq!((report.ended, report.abandoned, report.workers_left), (1, 0, 0));
        echo.join().unwrap();
        assert_eq!(helper.join().unwrap(), 2);
    });
}

#[test]
fn spawns_that_race_with_a_shutdown_end_or_are_refused_or_abandoned() {
    for round in 0..100_u64 {
        let runtime = runtime(2);
        let spawners: Vec<_> = (0..2)
            .map(|_| {
                let handle = runtime.handle();
                thread::spawn(move || {
                    let mut tasks = Vec::new();
                    loop {
                        match handle.spawn(|| ()) {
                            Ok(task) => tasks.push(task),
                            Err(SpawnError::ShutDown) => return tasks,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_micros(round * 3));
        let handle = runtime.handle();
        if round % 2 == 0 {
            let report = runtime.shutdown_timeout(LONG);
            assert_eq!((report.abandoned, report.workers_left), (0, 0), "what was let in has ended");
        } else {
            drop(runtime);
        }
        let tasks: Vec<_> = spawners.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let lost = tasks.into_iter().map(JoinHandle::join).filter(|joined| joined.is_err()).count();
        assert_eq!(lost as u64, handle.alive_tasks());
    }
}

#[test]
fn a_runtime_goes_while_somebody_wakes_its_last_task() {
    // The sender's last steps and the end of the runtime overlap. Nothing to see unless memory is checked.
    for _ in 0..300 {
        let runtime = runtime(1);
        let chan = Chan::new();
        let sender = chan.clone();
        let thread = thread::spawn(move || sender.send(1).unwrap());
        assert_eq!(runtime.run(|| chan.recv()), Some(1));
        drop(runtime);
        thread.join().unwrap();
    }
}

#[test]
fn a_join_with_a_timeout_gives_the_handle_back() {
    let runtime = runtime(2);
    let gate = Chan::<()>::new();
    let held = gate.clone();
    let task = runtime.handle().spawn(move || held.recv().is_none()).unwrap();
    let task = task.join_timeout(Duration::from_millis(5)).expect_err("it waits");
    let task = runtime.run(|| task.join_timeout(Duration::from_millis(5))).expect_err("it still waits");
    let task = task.join_timeout(Duration::ZERO).expect_err("it still waits");
    gate.close();
    assert!(task.join_timeout(LONG).expect("in time").unwrap());

    // Ends of tasks and of joiners' patience that fall together.
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    runtime.run(move || {
        for round in 0..500_u64 {
            let count = count.clone();
            let mut task = spawn(move || {
                sleep(Duration::from_micros(round % 90));
                count.fetch_add(1, Ordering::Relaxed)
            });
            loop {
                match task.join_timeout(Duration::from_micros(round * 7 % 100)) {
                    Ok(result) => break assert_eq!(result.unwrap() as u64, round),
                    Err(again) => task = again,
                }
            }
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 500);
    let waits = runtime.handle().spawn(|| WaitGroup::new().wait()).unwrap();
    assert!(waits.join_timeout(LONG).unwrap().is_ok(), "a counter at zero");
    let waits = runtime.handle().spawn(|| Chan::<()>::new().recv()).unwrap();
    drop(runtime);
    assert_abandoned(waits.join_timeout(LONG).expect("at once"));
}
