//! Tasks that stay on one worker.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use greenprof_runtime::{
    Runtime, SpawnError, sleep, spawn,
    sync::{Chan, WaitGroup},
    task, yield_now,
};

#[test]
fn a_pinned_task_stays_on_its_thread_whoever_wakes_it() {
    let runtime = Runtime::builder().workers(3).build().unwrap();
    let wake = Chan::new();
    let outside = thread::spawn({
        let wake = wake.clone();
        move || (0..300).for_each(|n| wake.send(n).unwrap())
    });
    runtime.run(|| {
        // Keeps all workers busy, and moves what may be moved.
        let stop = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..6)
            .map(|_| {
                let stop = stop.clone();
                spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        yield_now();
                    }
                })
            })
            .collect();
        let pinned: Vec<_> = (0..3)
            .map(|worker| {
                let wake = wake.clone();
                let task = move || {
                    let mut threads = HashSet::from([thread::current().id()]);
                    for _ in 0..100 {
                        wake.recv().unwrap();
                        threads.insert(thread::current().id());
                        yield_now();
                        threads.insert(thread::current().id());
                        sleep(Duration::from_micros(10));
                        threads.insert(thread::current().id());
                    }
                    threads
                };
                task::Builder::new().pinned(worker).spawn(task).unwrap()
            })
            .collect();
        let threads: Vec<HashSet<ThreadId>> = pinned.into_iter().map(|task| task.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|task| task.join().unwrap());
        assert!(threads.iter().all(|threads| threads.len() == 1));
        let distinct: HashSet<_> = threads.iter().flatten().collect();
        assert_eq!(distinct.len(), 3, "each worker is a thread of its own");
    });
    outside.join().unwrap();
}

#[test]
fn tasks_pinned_to_two_workers_wake_each_other() {
    const ROUNDS: usize = 20_000;
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let (ping, pong) = (Chan::new(), Chan::new());
        let echo = task::Builder::new().pinned(1).spawn({
            let (ping, pong) = (ping.clone(), pong.clone());
            move || ping.iter().for_each(|n: usize| pong.send(n).unwrap())
        });
        let caller = task::Builder::new().pinned(0).spawn(move || {
            for n in 0..ROUNDS {
                ping.send(n).unwrap();
                assert_eq!(pong.recv(), Some(n));
            }
            ping.close();
        });
        caller.unwrap().join().unwrap();
        echo.unwrap().join().unwrap();
    });
}

#[test]
fn pinned_tasks_and_others_take_turns() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let finished = runtime.run(|| {
        let finished = WaitGroup::new();
        finished.add(4);
        for i in 0..4 {
            let (counts, stop, finished) = (counts.clone(), stop.clone(), finished.clone());
            let yields = move || {
                while !stop.load(Ordering::Relaxed) {
                    counts[i % 2].fetch_add(1, Ordering::Relaxed);
                    yield_now();
                }
                finished.done();
            };
            let builder = task::Builder::new();
            let builder = if i % 2 == 0 { builder.pinned(0) } else { builder };
            drop(builder.spawn(yields).unwrap());
        }
        finished
    });
    let seen = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    while seen().into_iter().any(|count| count < 1000) {
        thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    finished.wait();
    let [pinned, others] = seen();
    assert!(pinned < 2 * others && others < 2 * pinned, "{pinned} and {others}");
}

#[test]
fn a_pinned_task_waits_for_its_worker_and_no_other_runs_it() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    runtime.run(|| {
        let started = Chan::new();
        let blocker = task::Builder::new().pinned(1).spawn({
            let (order, started) = (order.clone(), started.clone());
            move || {
                started.send(()).unwrap();
                task::blocking(|| thread::sleep(Duration::from_millis(30)));
                order.lock().unwrap().push("blocker");
            }
        });
        started.recv();
        let second = task::Builder::new().pinned(1).spawn({
            let order = order.clone();
            move || order.lock().unwrap().push("second")
        });
        second.unwrap().join().unwrap();
        blocker.unwrap().join().unwrap();
    });
    assert_eq!(*order.lock().unwrap(), ["blocker", "second"]);
}

#[test]
fn a_worker_that_does_not_exist_is_an_error() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let error = runtime.handle().spawn_with(task::Builder::new().pinned(2), || ()).unwrap_err();
    assert!(matches!(error, SpawnError::NoWorker { asked: 2, workers: 2 }));
    assert_eq!(error.to_string(), "a task was pinned to worker 2; the runtime's workers are 0 to 1");
}
