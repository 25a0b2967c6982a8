//! How often the scheduler did what: an instrument that counts every event.
//!
//! It is the least that an instrument can do, so it shows what the delivery of events costs. Each thread counts for itself;
//! otherwise the workers would fight for a cache line.

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

/// How many events of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Tasks that were spawned.
    pub spawned: u64,
    /// Switches to a task.
    pub resumed: u64,
    /// Switches from a task back to its worker.
    pub left: u64,
    /// Waiting tasks that were made runnable.
    pub woken: u64,
    /// Waits that have ended.
    pub waited: u64,
    /// Workers that have started.
    pub workers_started: u64,
    /// Workers that have ended.
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
/// ```
/// use greenprof_runtime::{Runtime, spawn};
/// use greenprof_tracer::counts;
///
/// let installed = counts::install()?;
/// Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
/// drop(installed);
/// assert_eq!(counts::total().spawned, 2, "the main task, and the spawned one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`InstallError`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use greenprof_runtime::{Runtime, spawn};

    /// The only test that installs it, because an instrument is the process's.
    #[test]
    fn the_events_of_a_run_are_counted() {
        let _alone = crate::program::alone();
        let before = total();
        let installed = install().expect("hooks are built in");
        assert_eq!(install().err(), Some(InstallError::Installed));
        Runtime::builder().workers(2).build().unwrap().run(|| {
            let tasks: Vec<_> = (0..100).map(|i| spawn(move || i)).collect();
            tasks.into_iter().for_each(|task| {
                task.join().unwrap();
            });
        });
        drop(installed);
        let after = total();
        assert_eq!(after.spawned - before.spawned, 101, "the tasks and the main one");
        assert_eq!(after.resumed - before.resumed, after.left - before.left, "who was switched to has left");
        assert!(after.left - before.left >= 101);
        assert!(after.waited >= after.woken, "every wake-up ended a wait");
        assert_eq!(after.workers_started - before.workers_started, 2);
        assert_eq!(after.workers_stopping - before.workers_stopping, 2);
        Runtime::builder().workers(1).build().unwrap().run(|| ());
        assert_eq!(total(), after, "what is removed counts no more");
    }
}
