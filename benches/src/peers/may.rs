//! may: stackful coroutines, whose workers are those of the process. Without pinning, which it does by default.
//!
//! Its channels are unbounded and its stacks are two mappings each, so the cases with bounded channels and with 100 000
//! tasks are not there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::may::{
    config,
    coroutine::yield_now,
    go,
    sync::{Mutex, Semphore, SyncFlag},
};

use crate::values::{TIME, Values, one};
use crate::{
    case::{Case, Effort},
    workload::{BATCH, SHARERS, YIELDERS, share},
};

pub(super) fn measure(case: Case, workers: usize, effort: Effort) -> Option<Values> {
    config().set_workers(workers).set_worker_pin(false);
    let time = match case {
        Case::Yield => {
            let tasks = YIELDERS * workers as u64;
            effort.time(|operations| {
                together(tasks, move |index| (0..share(operations, tasks, index)).for_each(|_| yield_now()))
                    * workers as u32
            })
        }
        Case::SpawnJoin => effort.time(spawn_join),
        Case::MutexShared => effort.time(mutex_shared),
        _ => return None,
    };
    Some(one(TIME, time))
}

/// In a coroutine, as the main task of the others is one.
fn main<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    go!(body).join().expect("the main coroutine does not panic")
}

/// The wall time of `count` coroutines that start at the same moment.
fn together(count: u64, body: impl Fn(u64) + Clone + Send + 'static) -> Duration {
    main(move || {
        let (arrived, gate) = (Arc::new(Semphore::new(0)), Arc::new(SyncFlag::new()));
        let coroutines: Vec<_> = (0..count)
            .map(|index| {
                let (arrived, gate, body) = (arrived.clone(), gate.clone(), body.clone());
                go!(move || {
                    arrived.post();
                    gate.wait();
                    body(index);
                })
            })
            .collect();
        (0..count).for_each(|_| arrived.wait());
        let start = Instant::now();
        gate.fire();
        coroutines.into_iter().for_each(|coroutine| coroutine.join().expect("a coroutine does not panic"));
        start.elapsed()
    })
}

fn spawn_join(operations: u64) -> Duration {
    main(move || {
        let mut handles = Vec::with_capacity(BATCH as usize);
        let start = Instant::now();
        let mut left = operations;
        while left > 0 {
            let now = left.min(BATCH);
            handles.extend((0..now).map(|_| go!(|| ())));
            handles.drain(..).for_each(|handle| handle.join().expect("an empty coroutine does not panic"));
            left -= now;
        }
        start.elapsed()
    })
}

fn mutex_shared(operations: u64) -> Duration {
    let mutex = Arc::new(Mutex::new(0_u64));
    let shared = mutex.clone();
    let elapsed = together(SHARERS, move |index| {
        for _ in 0..share(operations, SHARERS, index) {
            *shared.lock().expect("nobody panics") += 1;
        }
    });
    assert_eq!(*mutex.lock().expect("nobody panics"), operations);
    elapsed
}
