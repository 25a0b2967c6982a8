//! An instrument that counts every event: the least that one can do that is switched on.
//!
//! Each thread counts for itself, so that what is measured is the delivery of events and not a cache line that the
//! workers fight for.

use std::{
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use greenprof_runtime::{
    hooks::{self, InstallError, Installed, Instrument, Interest, Left, TaskView, WorkerThread},
    task::WaitReason,
};
use serde::{Deserialize, Serialize};

/// How many events of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub spawned: u64,
    pub resumed: u64,
    pub left: u64,
    pub woken: u64,
    pub waited: u64,
    pub workers_started: u64,
    pub workers_stopping: u64,
}

/// The kinds, as indices into a thread's counters.
#[derive(Clone, Copy)]
enum Event {
    Spawned,
    Resumed,
    Left,
    Woken,
    Waited,
    WorkerStarted,
    WorkerStopping,
}

const EVENTS: usize = Event::WorkerStopping as usize + 1;

/// One thread's counters: written by it alone, read by [`total`].
type Counters = [AtomicU64; EVENTS];

/// The counters of all threads that have seen an event. They are never freed.
static THREADS: Mutex<Vec<&'static Counters>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: Cell<Option<&'static Counters>> = const { Cell::new(None) };
}

struct Counting;

static COUNTING: Counting = Counting;

/// Installs the instrument with all interests.
///
/// # Errors
/// Without the feature `hooks`, or if it is installed already.
pub fn install() -> Result<Installed, InstallError> {
    let all = Interest::SPAWN.and(Interest::SCHEDULE).and(Interest::WAIT).and(Interest::WORKER);
    hooks::install(&COUNTING, all)
}

/// What has been counted since the process began. Exact when the runtimes have been dropped.
pub fn total() -> Counts {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    // Relaxed: statistics.
    let sum = |event: Event| threads.iter().map(|counters| counters[event as usize].load(Ordering::Relaxed)).sum();
    Counts {
        spawned: sum(Event::Spawned),
        resumed: sum(Event::Resumed),
        left: sum(Event::Left),
        woken: sum(Event::Woken),
        waited: sum(Event::Waited),
        workers_started: sum(Event::WorkerStarted),
        workers_stopping: sum(Event::WorkerStopping),
    }
}

/// Not inlined: an event of a task may be delivered in code that continues on another thread afterwards.
#[inline(never)]
fn count(event: Event) {
    let counters = MINE.get().unwrap_or_else(enter);
    let counter = &counters[event as usize];
    // Relaxed, and no read-modify-write: only this thread writes.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cold]
fn enter() -> &'static Counters {
    let counters: &'static Counters = Box::leak(Box::default());
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).push(counters);
    MINE.set(Some(counters));
    counters
}

impl Instrument for Counting {
    fn task_spawned(&self, _: TaskView) {
        count(Event::Spawned);
    }

    fn task_resumed(&self, _: TaskView) {
        count(Event::Resumed);
    }

    fn task_left(&self, _: TaskView, _: Left) {
        count(Event::Left);
    }

    fn task_woken(&self, _: TaskView) {
        count(Event::Woken);
    }

    fn waited(&self, _: WaitReason, _: u64) {
        count(Event::Waited);
    }

    fn worker_started(&self, _: &'static WorkerThread) {
        count(Event::WorkerStarted);
    }

    fn worker_stopping(&self, _: &'static WorkerThread) {
        count(Event::WorkerStopping);
    }
}

#[cfg(all(test, feature = "hooks"))]
mod tests {
    use super::*;
    use crate::workload;

    /// The only test that installs it, because an instrument is the process's.
    #[test]
    fn every_event_of_a_workload_is_counted() {
        let before = total();
        let installed = install().expect("hooks are built in");
        let runtime = workload::runtime(2);
        workload::spawn_join(&runtime, 10, 100);
        drop(runtime);
        drop(installed);
        let after = total();
        // At least: other tests of this process may have run meanwhile.
        assert!(after.spawned - before.spawned >= 101);
        assert!(after.resumed - before.resumed >= 101);
        assert!(after.workers_started - before.workers_started >= 2);
    }
}
