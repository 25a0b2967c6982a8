//! Runtimes side by side and one after another, plain threads among them, and what a runtime leaves behind.
//!
//! One test, so that nothing else in the process has threads or mappings of its own: its parts run one after another.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::{
    Runtime, sleep, spawn,
    sync::{Chan, Mutex, WaitGroup},
};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("threads")
}

fn threads() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/task").expect("Linux");
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").expect("Linux").lines().count()
}

/// A value goes round four runtimes and a thread, many times, while each also serves requests of all others.
fn runtimes_exchange_over_channels() {
    const ROUNDS: u64 = 2_000;
    let runtimes: Vec<_> = [1, 2, 1, 2].into_iter().map(runtime).collect();
    let ring: Vec<Chan<u64>> = (0..5).map(Chan::with_capacity).collect();
    let forward = |n: usize| {
        let (from, to) = (ring[n].clone(), ring[(n + 1) % 5].clone());
        move || {
            for value in &from {
                if to.send(value + 1).is_err() {
                    break;
                }
            }
            to.close();
        }
    };
    let tasks: Vec<_> = (0..4).map(|n| runtimes[n].handle().spawn(forward(n)).unwrap()).collect();
    let served = Arc::new(AtomicUsize::new(0));
    let clients = WaitGroup::new();
    clients.add(12);
    for (n, server) in runtimes.iter().enumerate() {
        let requests = Chan::<Chan<usize>>::new();
        let (calls, served) = (requests.clone(), served.clone());
        server.handle().spawn(move || calls.iter().for_each(|answer| answer.send(n).unwrap())).unwrap();
        for (m, client) in runtimes.iter().enumerate().filter(|(m, _)| *m != n) {
            let (requests, served, clients) = (requests.clone(), served.clone(), clients.clone());
            let body = move || {
                for round in 0..100 {
                    let answer = Chan::with_capacity(round % 2);
                    requests.send(answer.clone()).unwrap();
                    assert_eq!(answer.recv(), Some(n), "asked by {m}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
                clients.done();
            };
            client.handle().spawn(body).unwrap();
        }
    }
    ring[0].send(0).unwrap();
    for round in 1..=ROUNDS {
        let value = ring[4].recv().unwrap();
        assert_eq!(value, round * 5 - 1);
        ring[0].send(value + 1).unwrap();
    }
    assert_eq!(ring[4].recv(), Some(ROUNDS * 5 + 4));
    clients.wait();
    assert_eq!(served.load(Ordering::Relaxed), 1200);
    ring[0].close();
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

/// Threads that come and go spawn, wake, and are woken.
fn plain_threads_spawn_and_wake() {
    let runtime = runtime(2);
    let lock = Arc::new(Mutex::new(0));
    for _ in 0..20 {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (handle, lock) = (runtime.handle(), lock.clone());
                thread::spawn(move || {
                    let (to, from) = (Chan::new(), Chan::new());
                    let (there, back) = (to.clone(), from.clone());
                    let counted = lock.clone();
                    let echo = handle.spawn(move || {
                        for value in &there {
                            *counted.lock() += 1;
                            back.send(value).unwrap();
                        }
                    });
                    for value in 0..50 + n {
                        to.send(value).unwrap();
                        *lock.lock() += 1;
                        assert_eq!(from.recv(), Some(value));
                    }
                    to.close();
                    echo.unwrap().join().unwrap();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    assert_eq!(*lock.lock(), 20 * 2 * (50 + 51 + 52 + 53));
}

/// Builds and drops a runtime that has done a bit of everything that needs memory or threads.
fn use_a_runtime(n: usize) {
    let runtime = runtime(1 + n % 3);
    runtime.run(|| {
        let gate = Chan::<()>::new();
        let tasks: Vec<_> = (0..40)
            .map(|_| {
                let gate = gate.clone();
                spawn(move || gate.recv())
            })
            .collect();
        sleep(Duration::from_micros(100)); // starts the timers' thread
        greenprof_runtime::task::blocking(|| thread::sleep(Duration::from_micros(100)));
        gate.close();
        tasks.into_iter().for_each(|task| assert!(task.join().unwrap().is_none()));
    });
    if n.is_multiple_of(2) {
        assert_eq!(runtime.shutdown_timeout(Duration::from_secs(60)).abandoned, 0);
    }
}

fn a_runtime_leaves_nothing_behind() {
    // Stacks, cores and allocator arenas that are used again from here on.
    (0..50).for_each(use_a_runtime);
    // The fewest of some looks: a thread that has been joined may be seen for a moment, here as below.
    let look = |_| {
        thread::sleep(Duration::from_millis(1));
        threads().len()
    };
    let threads_before = (0..100).map(look).min().expect("a hundred");
    let mappings_before = mappings();
    (0..200).for_each(use_a_runtime);
    // A thread that has been joined may be seen for a moment.
    for _ in 0..1000 {
        if threads().len() > threads_before {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(threads().len(), threads_before);
    // One mapping for each runtime would be 200, one for each thread more.
    let mappings = mappings();
    assert!(mappings < mappings_before + 30, "from {mappings_before} to {mappings} mappings");
}

/// How often the threads of this process have left a processor because they had nothing to do.
fn waits(threads: &[String]) -> u64 {
    let of = |thread: &String| {
        let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("it is there");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).expect("Linux");
        line.rsplit('\t').next().unwrap().parse::<u64>().expect("a number")
    };
    threads.iter().map(of).sum()
}

/// Threads that look whether there is something to do would wait some hundred times. It is not time that is measured,
/// so that it does not matter what else the machine does.
fn an_idle_runtime_does_not_look_around() {
    let before = threads();
    let runtime = runtime(4);
    let gate = Chan::<()>::new();
    let waiting = gate.clone();
    let task = runtime.run(|| {
        sleep(Duration::from_millis(1)); // the timers' thread is idle, too
        spawn(move || waiting.recv())
    });
    let of_runtime: Vec<_> = threads().into_iter().filter(|thread| !before.contains(thread)).collect();
    assert!(of_runtime.len() >= 6, "four workers, the monitor, and the timers");
    // It takes a while until all sleep; then there are stretches in which none of them wakes.
    let most = (0..100).map(|_| {
        let before = waits(&of_runtime);
        thread::sleep(Duration::from_millis(300));
        waits(&of_runtime) - before
    });
    assert!(most.into_iter().any(|waits| waits <= 5), "they never sleep");
    gate.close();
    assert!(task.join().unwrap().is_none());
}

#[test]
fn several_runtimes() {
    runtimes_exchange_over_channels();
    plain_threads_spawn_and_wake();
    an_idle_runtime_does_not_look_around();
    a_runtime_leaves_nothing_behind();
}
