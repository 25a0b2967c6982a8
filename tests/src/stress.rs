//! A program that does everything that a scheduler has to do, at random: spawns, exits, waits of every kind, selects, timers, panics,
//! hand-offs, blocking sections, foreign threads, and what it says of itself in traces.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::{
    Runtime, labels, select, sleep, spawn,
    sync::{Chan, Condvar, Mutex, RwLock, Semaphore, WaitGroup},
    task, yield_now,
};

use crate::StopOnDrop;

/// A source of numbers that a seed decides.
pub struct Random(AtomicU64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below the bound.
    pub fn below(&self, bound: u64) -> u64 {
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % bound
    }
}

/// What the tasks of the stress share.
struct Shared {
    stop: Arc<AtomicBool>,
    random: Random,
    numbers: Chan<u64>,
    buffered: Chan<u64>,
    lock: Mutex<u64>,
    readers: RwLock<u64>,
    permits: Semaphore,
    signal: Mutex<bool>,
    signalled: Condvar,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One step of a task that does anything.
fn step(shared: &Arc<Shared>, depth: u32) {
    let random = &shared.random;
    match random.below(17) {
        0 => yield_now(),
        1 => sleep(Duration::from_micros(random.below(300))),
        2 => _ = shared.numbers.try_send(1),
        3 => _ = shared.buffered.try_send(2),
        4 => {
            select! {
                recv(shared.numbers) -> _ => (),
                recv(shared.buffered) -> _ => (),
                timeout(Duration::from_micros(100)) => (),
            }
        }
        5 => {
            select! {
                send(shared.numbers, 3) -> _ => (),
                default => (),
            }
        }
        6 => {
            let mut guard = shared.lock.lock();
            *guard += 1;
            yield_now();
        }
        7 => drop(shared.readers.read()),
        8 => *shared.readers.write() += 1,
        9 => {
            let _permit = shared.permits.acquire();
            yield_now();
        }
        10 if depth < 3 => {
            let inner = shared.clone();
            let tasks: Vec<_> = (0..random.below(4))
                .map(|_| {
                    let inner = inner.clone();
                    spawn(move || step(&inner, depth + 1))
                })
                .collect();
            tasks.into_iter().for_each(|task| drop(task.join()));
        }
        11 => {
            let inner = shared.clone();
            let panics = task::Builder::new().name("panicking").spawn(move || {
                yield_now();
                drop(inner.lock.lock());
                std::panic::resume_unwind(Box::new("a panic of the stress"));
            });
            drop(panics.expect("memory").join());
        }
        12 => task::blocking(|| thread::sleep(Duration::from_micros(50))),
        13 => labels::with(&[("step", "labelled")], yield_now),
        14 => {
            let user = greenprof_tracer::Task::new("request");
            let _outer = user.region("outer");
            yield_now();
            let _inner = user.subtask("part").region("inner");
            greenprof_tracer::log("stress", "a message");
        }
        15 if random.below(8) == 0 => drop(greenprof_tracer::search()),
        _ => {
            let mut signal = shared.signal.lock();
            if *signal {
                *signal = false;
                shared.signalled.notify_all();
            } else {
                *signal = true;
                drop(shared.signalled.wait_timeout(signal, Duration::from_micros(200)));
            }
        }
    }
}

/// Does something while the program runs, and gives its result when the program has ended.
///
/// # Panics
/// If the program does.
pub fn beside<T>(workers: usize, seed: u64, work: impl FnOnce() -> T) -> T {
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(stop.clone());
    let program = {
        let stop = stop.clone();
        thread::spawn(move || run(workers, seed, stop))
    };
    let result = work();
    stop.store(true, Ordering::Relaxed);
    program.join().expect("no panic");
    result
}

/// Does everything at random until it is told to stop.
pub fn run(workers: usize, seed: u64, stop: Arc<AtomicBool>) {
    let shared = Arc::new(Shared {
        stop,
        random: Random::new(seed),
        numbers: Chan::new(),
        buffered: Chan::with_capacity(4),
        lock: Mutex::new(0),
        readers: RwLock::new(0),
        permits: Semaphore::new(2),
        signal: Mutex::new(false),
        signalled: Condvar::new(),
    });
    let foreign = {
        let shared = shared.clone();
        thread::spawn(move || {
            while !shared.stopped() {
                let _ = shared.numbers.try_send(9);
                let _ = shared.buffered.try_recv();
                greenprof_tracer::log("foreign", "from a thread");
                thread::sleep(Duration::from_micros(200));
            }
        })
    };
    let runtime = Runtime::builder().workers(workers).build().expect("a runtime");
    let handle = runtime.handle();
    let outside = {
        let shared = shared.clone();
        thread::spawn(move || {
            while !shared.stopped() {
                let inner = shared.clone();
                if let Ok(task) = handle.spawn(move || step(&inner, 1)) {
                    drop(task.join());
                }
            }
        })
    };
    runtime.run(|| {
        let group = WaitGroup::new();
        for i in 0..12_u64 {
            let (shared, group) = (shared.clone(), group.clone());
            group.add(1);
            let builder = task::Builder::new();
            let builder = if i % 2 == 0 { builder.name(format!("stress-{i}")) } else { builder };
            let body = move || {
                while !shared.stopped() {
                    step(&shared, 0);
                }
                group.done();
            };
            builder.spawn(body).expect("memory");
        }
        group.wait();
    });
    foreign.join().expect("no panic");
    outside.join().expect("no panic");
}
