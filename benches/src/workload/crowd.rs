//! A crowd of tasks that all wait on one channel.

use std::{
    fs,
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime, sleep, spawn,
    sync::{Chan, WaitGroup},
};

use crate::case::{Effort, nanoseconds_each};
use crate::statistics::Summary;

/// What one crowd took.
pub struct Wave {
    /// From the first spawn until all tasks have run and are about to wait.
    pub spawn: Duration,
    /// From the moment when they are let go until all have run again.
    pub wake: Duration,
    /// By how much the resident memory of the process grew while they waited.
    pub resident: u64,
}

/// What several crowds in a row took, of a task.
pub struct Crowd {
    /// Nanoseconds of a spawn in the first wave: its stacks have never been used.
    pub fresh: f64,
    /// Nanoseconds of a spawn in the later waves, whose stacks have been used.
    pub recycled: f64,
    /// Nanoseconds to wake one.
    pub wake: f64,
    /// Bytes of the first wave that were resident.
    pub resident: f64,
}

impl Crowd {
    /// Runs `effort.batches` waves, two at least, of `effort.operations` tasks.
    pub fn run(effort: Effort, mut wave: impl FnMut(u64) -> Wave) -> Self {
        let tasks = effort.operations;
        let waves: Vec<Wave> = (0..effort.batches.max(2)).map(|_| wave(tasks)).collect();
        let each = |part: fn(&Wave) -> Duration| waves.iter().map(move |wave| nanoseconds_each(part(wave), tasks));
        let spawns: Vec<f64> = each(|wave| wave.spawn).collect();
        let wakes: Vec<f64> = each(|wave| wave.wake).collect();
        Self {
            fresh: spawns[0],
            recycled: Summary::of(&spawns[1..]).median,
            wake: Summary::of(&wakes).median,
            resident: waves[0].resident as f64 / tasks as f64,
        }
    }
}

/// Spawns `tasks` tasks that wait on a rendezvous channel, and closes it when all are there. Nobody joins them.
pub fn parked(runtime: &Runtime, tasks: u64) -> Wave {
    let wave = runtime.run(move || {
        let gate = Chan::<()>::new();
        let (arrived, woken) = (WaitGroup::new(), WaitGroup::new());
        arrived.add(tasks as usize);
        woken.add(tasks as usize);
        let before = resident();
        let start = Instant::now();
        for _ in 0..tasks {
            let (gate, arrived, woken) = (gate.clone(), arrived.clone(), woken.clone());
            drop(spawn(move || {
                arrived.done();
                gate.recv();
                woken.done();
            }));
        }
        arrived.wait();
        let spawn = start.elapsed();
        let resident = resident().saturating_sub(before);
        let start = Instant::now();
        gate.close();
        woken.wait();
        Wave { spawn, wake: start.elapsed(), resident }
    });
    // Until the last one has given its stack back.
    let handle = runtime.handle();
    runtime.run(move || {
        while handle.alive_tasks() > 1 {
            sleep(Duration::from_millis(1));
        }
    });
    wave
}

/// Bytes of the process that are in memory.
///
/// # Panics
/// If there is no `/proc`.
pub fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("a /proc file system");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the format of statm");
    pages * 4096
}
