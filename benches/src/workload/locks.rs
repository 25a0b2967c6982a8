//! A mutex, alone and shared.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use greenprof_runtime::{JoinHandle, Runtime, spawn, sync::Mutex};

use super::{Gate, finished, share};

/// Tasks that share a mutex.
pub const SHARERS: u64 = 8;

/// An operation is a lock, an addition and an unlock, by the only task that knows the mutex.
pub fn mutex_alone(runtime: &Runtime, operations: u64) -> Duration {
    runtime.run(move || {
        let mutex = black_box(Mutex::new(0_u64));
        let start = Instant::now();
        for _ in 0..operations {
            *mutex.lock() += 1;
        }
        let elapsed = start.elapsed();
        assert_eq!(mutex.into_inner(), operations);
        elapsed
    })
}

/// An operation is a lock, an addition and an unlock, by one of [`SHARERS`] tasks, which do nothing else.
pub fn mutex_shared(runtime: &Runtime, operations: u64) -> Duration {
    runtime.run(move || {
        let mutex = Arc::new(Mutex::new(0_u64));
        let gate = Arc::new(Gate::new(SHARERS));
        let tasks: Vec<JoinHandle<()>> = (0..SHARERS)
            .map(|index| {
                let (mutex, gate) = (mutex.clone(), gate.clone());
                spawn(move || {
                    gate.wait();
                    (0..share(operations, SHARERS, index)).for_each(|_| *mutex.lock() += 1);
                })
            })
            .collect();
        let start = gate.open();
        tasks.into_iter().for_each(finished);
        let elapsed = start.elapsed();
        assert_eq!(*mutex.lock(), operations);
        elapsed
    })
}
