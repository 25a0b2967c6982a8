//! Threads of the operating system with the primitives of `std`. One worker means one processor: all threads are bound to
//! it.

use ::std::{
    hint::black_box,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::values::{TIME, Values, one};
use crate::{
    case::{Case, Effort},
    workload::{SHARERS, share},
};

pub(super) fn measure(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    use_processors(workers)?;
    let time = match case {
        Case::MutexAlone => effort.time(mutex_alone),
        Case::MutexShared => effort.time(mutex_shared),
        _ => return Ok(None),
    };
    Ok(Some(one(TIME, time)))
}

/// Binds this thread, and those it will start, to the first `count` of the processors that it may use.
pub(super) fn use_processors(count: usize) -> anyhow::Result<()> {
    let myself = Pid::from_raw(0);
    let all = sched_getaffinity(myself).context("the processors of this process are not known")?;
    let mut some = CpuSet::new();
    let usable = (0..CpuSet::count()).filter(|processor| all.is_set(*processor).unwrap_or(false));
    for processor in usable.take(count) {
        some.set(processor).context("a processor that is there")?;
    }
    sched_setaffinity(myself, &some).context("this process may not choose its processors")
}

fn mutex_alone(operations: u64) -> Duration {
    let mutex = black_box(Mutex::new(0_u64));
    let start = Instant::now();
    for _ in 0..operations {
        *mutex.lock().expect("nobody panics") += 1;
    }
    let elapsed = start.elapsed();
    assert_eq!(mutex.into_inner().expect("nobody panics"), operations);
    elapsed
}

fn mutex_shared(operations: u64) -> Duration {
    let mutex = Arc::new(Mutex::new(0_u64));
    let arrived = Arc::new(AtomicU64::new(0));
    let barrier = Arc::new(Barrier::new(SHARERS as usize + 1));
    let threads: Vec<_> = (0..SHARERS)
        .map(|index| {
            let (mutex, arrived, barrier) = (mutex.clone(), arrived.clone(), barrier.clone());
            thread::spawn(move || {
                arrived.fetch_add(1, Ordering::Relaxed);
                barrier.wait();
                for _ in 0..share(operations, SHARERS, index) {
                    *mutex.lock().expect("nobody panics") += 1;
                }
            })
        })
        .collect();
    // The clock starts before the barrier opens: on one processor the threads may be done before this one runs again.
    while arrived.load(Ordering::Relaxed) < SHARERS {
        thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    barrier.wait();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread does not panic"));
    let elapsed = start.elapsed();
    assert_eq!(*mutex.lock().expect("nobody panics"), operations);
    elapsed
}
