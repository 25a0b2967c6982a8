//! How long stops took: counters and histograms that are written while the world is stopped, hence plain atomics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

pub use crate::sys::histogram::Distribution;
use crate::sys::histogram::Histogram;

static STOPPING: Histogram = Histogram::new();
static STOPPED: Histogram = Histogram::new();
static COMPLETE: AtomicU64 = AtomicU64::new(0);
static INCOMPLETE: AtomicU64 = AtomicU64::new(0);
static RETRIES: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicU64 = AtomicU64::new(0);

/// All stops of the process so far. Read field by field: a stop that ends meanwhile may be in some of them only.
#[derive(Clone, Debug)]
pub struct Pauses {
    /// From the first signal of an attempt until all were stopped, or the attempt was given up. Of all attempts.
    pub stopping: Distribution,
    /// From the first signal of an attempt until the release: the pause as the stopped threads had it, at most. Of all
    /// attempts.
    pub stopped: Distribution,
    /// Requests in which every thread was stopped.
    pub complete: u64,
    /// Requests whose last attempt was given up.
    pub incomplete: u64,
    /// Attempts that were given up and made again.
    pub retries: u64,
    /// Threads that were stopped, over all attempts.
    pub threads: u64,
}

/// How long the stops of this process have taken so far. Some hundred loads; neither locks nor allocates.
pub fn pauses() -> Pauses {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Pauses {
        stopping: STOPPING.snapshot(),
        stopped: STOPPED.snapshot(),
        complete: load(&COMPLETE),
        incomplete: load(&INCOMPLETE),
        retries: load(&RETRIES),
        threads: load(&THREADS),
    }
}

pub(super) fn add_attempt(stopping: Duration, stopped: Duration, threads: usize) {
    STOPPING.add(stopping);
    STOPPED.add(stopped);
    THREADS.fetch_add(threads as u64, Ordering::Relaxed);
}

pub(super) fn add_request(complete: bool, retries: u32) {
    if complete { &COMPLETE } else { &INCOMPLETE }.fetch_add(1, Ordering::Relaxed);
    RETRIES.fetch_add(retries.into(), Ordering::Relaxed);
}
