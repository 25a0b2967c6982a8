//! Figures of all schedulers of the process, for metrics: read from the counters that the workers keep anyway.

use std::{
    ptr,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;

use super::{Shared, latency, processors::Processor};
use crate::{heap, sys::histogram::Distribution};

/// What the schedulers of all runtimes have done since the process began, and how they stand. Read field by field while
/// they go on.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Runtimes that exist.
    pub runtimes: usize,
    /// Workers that these were built with.
    pub workers: usize,
    /// Their threads that run tasks, surplus workers included.
    pub threads: usize,
    /// Workers that sleep because there is nothing to run.
    pub idle: usize,
    /// Tasks in the queues of single workers.
    pub queued_local: usize,
    /// Tasks in the queues that all workers of a runtime share.
    pub queued_global: usize,
    /// Tasks that were spawned.
    pub spawned: u64,
    /// Tasks that have ended.
    pub finished: u64,
    /// How often a task was switched to.
    pub runs: u64,
    /// How often a task left its worker to wait. Computed from the runs, so runs in progress count.
    pub parks: u64,
    /// How often a task yielded.
    pub yields: u64,
    /// How often a worker took tasks from another.
    pub steals: u64,
    /// How often a surplus worker was needed and could not be had.
    pub starved: u64,
    /// How long tasks were runnable before they ran; of about one in sixty that were woken or spawned.
    pub latencies: Distribution,
}

/// Counters of one runtime, or of all that have ended.
#[derive(Clone, Copy, Default)]
struct Counters {
    spawned: u64,
    finished: u64,
    runs: u64,
    yields: u64,
    steals: u64,
    starved: u64,
}

impl Counters {
    fn add(&mut self, shared: &Shared) {
        // Relaxed: each counter has a single writer, and figures need not agree with each other.
        let sum = |of: fn(&Processor) -> u64| shared.processors.iter().map(of).sum::<u64>();
        self.finished += shared.finished();
        self.yields += sum(|p| p.yields.load(Ordering::Relaxed));
        self.steals += sum(|p| p.steals.load(Ordering::Relaxed));
        self.runs += sum(|p| p.ticks.load(Ordering::Relaxed));
        self.spawned += sum(|p| p.spawned.load(Ordering::Relaxed));
        self.spawned += shared.spawned_outside.load(Ordering::Relaxed);
        self.starved += shared.surplus.starved();
    }
}

/// A runtime that exists.
struct Entry(*const Shared);

// SAFETY: the pointer is only followed under the lock of the list, which the runtime leaves before it is freed; what is
// read of a runtime there may be read by any thread.
unsafe impl Send for Entry {}

struct List {
    runtimes: Vec<Entry>,
    /// Of those that are gone.
    ended: Counters,
}

/// Guards the list of runtimes, and keeps those that are in it from being freed.
static LIST: Mutex<List> = Mutex::new(List {
    runtimes: Vec::new(),
    ended: Counters { spawned: 0, finished: 0, runs: 0, yields: 0, steals: 0, starved: 0 },
});

/// Enters a new runtime.
pub(super) fn enter(shared: &Arc<Shared>) {
    heap::untracked(|| LIST.lock().runtimes.push(Entry(Arc::as_ptr(shared))));
}

/// To be called when a runtime is about to be freed.
pub(super) fn leave(shared: &Shared) {
    let mut list = LIST.lock();
    let before = list.runtimes.len();
    list.runtimes.retain(|entry| !ptr::eq(entry.0, shared));
    // One that could not be built was perhaps never entered.
    if list.runtimes.len() < before {
        list.ended.add(shared);
    }
}

/// How the schedulers of all runtimes stand, and what they have done. Some hundred loads for each runtime, under a lock
/// that only the making and the end of runtimes take. Allocates nothing.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, world};
///
/// let before = world::figures();
/// Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
/// let after = world::figures();
/// assert_eq!(after.spawned - before.spawned, 2, "it, and the main task");
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn figures() -> Figures {
    let list = LIST.lock();
    let mut counters = list.ended;
    let mut figures = Figures {
        runtimes: 0,
        workers: 0,
        threads: 0,
        idle: 0,
        queued_local: 0,
        queued_global: 0,
        spawned: 0,
        finished: 0,
        runs: 0,
        parks: 0,
        yields: 0,
        steals: 0,
        starved: 0,
        latencies: latency::distribution(),
    };
    for Entry(shared) in &list.runtimes {
        // SAFETY: it is in the list, which it leaves, under the lock that is held here, before it is freed.
        let shared = unsafe { &**shared };
        counters.add(shared);
        if shared.abandoned.load(Ordering::Relaxed) {
            continue; // it has no workers any more, and is kept for the stacks of its tasks
        }
        figures.runtimes += 1;
        figures.workers += shared.processors.ordinary();
        figures.threads += shared.processors.len();
        figures.idle += shared.idle.sleeping();
        figures.queued_global += shared.injector.length();
        figures.queued_local += shared
            .processors
            .iter()
            .map(|p| p.ring.length() + p.pinned.length() + usize::from(!p.next.load(Ordering::Relaxed).is_null()))
            .sum::<usize>();
    }
    let Counters { spawned, finished, runs, yields, steals, starved } = counters;
    let parks = runs.saturating_sub(yields + finished);
    Figures { spawned, finished, runs, parks, yields, steals, starved, ..figures }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{Runtime, spawn, sync::Chan, yield_now};

    #[test]
    fn counters_go_on_when_a_runtime_has_ended() {
        let before = figures();
        let runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(|| {
            let (there, back) = (Chan::<u32>::new(), Chan::<u32>::new());
            let echo = {
                let (there, back) = (there.clone(), back.clone());
                spawn(move || there.iter().for_each(|n| back.send(n).unwrap()))
            };
            for n in 0..1000 {
                there.send(n).unwrap();
                assert_eq!(back.recv(), Some(n));
                yield_now();
            }
            there.close();
            echo.join().unwrap();
        });
        let during = figures();
        // Other tests have runtimes, too: what this one did is the least.
        assert!(during.spawned >= before.spawned + 2);
        assert!(during.yields >= before.yields + 1000);
        assert!(during.parks >= before.parks + 1000, "{} {}", during.parks, before.parks);
        assert!(during.runs >= before.runs + 2000);
        assert!(during.latencies.count() > before.latencies.count());
        drop(runtime);
        let after = figures();
        assert!(after.finished >= before.finished + 2);
        assert!(after.runs >= during.runs && after.yields >= during.yields && after.spawned >= during.spawned);
    }

    #[test]
    fn tasks_that_threads_wake_are_measured_too() {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let before = figures().latencies.count();
        for _ in 0..1000 {
            runtime.handle().spawn(|| ()).unwrap().join().unwrap();
        }
        assert!(figures().latencies.count() >= before + 1000 / 61);
    }
}
