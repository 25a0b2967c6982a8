//! The instrumentation points of a build with hooks.
//!
//! Instruments are entered in a fixed table and stay in it: an entry can be switched off, but its reference is never
//! replaced, so an event that is being delivered while its instrument is removed still finds a valid one.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{InstallError, Instrument, Interest, Left, MAX_INSTRUMENTS, TaskView, WorkerThread};
use crate::{
    scheduler::Departure,
    sys::clock,
    task::{WaitReason, control::TaskRef},
};

/// The union of all interests: what an instrumentation point looks at.
static WANTED: AtomicU32 = AtomicU32::new(0);
static ENTRIES: [Entry; MAX_INSTRUMENTS] = [const { Entry::new() }; MAX_INSTRUMENTS];
/// How many entries have an instrument: the first ones.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Guards which entries are taken, and the computation of `WANTED`.
static CHANGE: Mutex<()> = Mutex::new(());

struct Entry {
    /// Zero while switched off.
    interest: AtomicU32,
    instrument: std::sync::OnceLock<&'static dyn Instrument>,
}

impl Entry {
    const fn new() -> Self {
        Self { interest: AtomicU32::new(0), instrument: std::sync::OnceLock::new() }
    }
}

/// An instrument that is installed. Dropping it switches the instrument off; events that are being delivered at that
/// moment may still reach it.
#[must_use = "dropping it removes the instrument"]
pub struct Installed(&'static Entry);

/// Installs an instrument for the whole process.
///
/// # Errors
/// See [`InstallError`].
pub fn install(instrument: &'static dyn Instrument, interest: Interest) -> Result<Installed, InstallError> {
    let _change = CHANGE.lock();
    let same = |entry: &Entry| {
        entry
            .instrument
            .get()
            .is_some_and(|i| std::ptr::addr_eq(std::ptr::from_ref(*i), std::ptr::from_ref(instrument)))
    };
    let entry = match ENTRIES.iter().find(|entry| same(entry)) {
        Some(entry) if entry.interest.load(Ordering::Relaxed) != 0 => return Err(InstallError::Installed),
        Some(entry) => entry,
        None => ENTRIES.iter().find(|e| e.instrument.set(instrument).is_ok()).ok_or(InstallError::TooMany)?,
    };
    // Relaxed: an entry without an instrument, or without interest, is passed over.
    COUNT.store(ENTRIES.iter().take_while(|entry| entry.instrument.get().is_some()).count(), Ordering::Relaxed);
    // Relaxed: the instrument is published by its OnceLock; an event that sees the interest later is not delivered.
    entry.interest.store(interest.bits(), Ordering::Relaxed);
    recompute();
    Ok(Installed(entry))
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _change = CHANGE.lock();
        self.0.interest.store(0, Ordering::Relaxed);
        recompute();
    }
}

fn recompute() {
    let wanted = ENTRIES.iter().fold(0, |all, entry| all | entry.interest.load(Ordering::Relaxed));
    WANTED.store(wanted, Ordering::Relaxed);
}

#[inline(always)]
fn wanted(interest: Interest) -> bool {
    WANTED.load(Ordering::Relaxed) & interest.bits() != 0
}

/// Calls every instrument with the interest. A panic in one cannot be let through the scheduler.
#[cold]
#[inline(never)]
fn deliver(interest: Interest, event: impl Fn(&'static dyn Instrument)) {
    struct AbortOnUnwind;
    impl Drop for AbortOnUnwind {
        fn drop(&mut self) {
            eprintln!("an instrument has panicked inside the scheduler: aborting");
            std::process::abort();
        }
    }
    let bomb = AbortOnUnwind;
    // Relaxed: as in `install`.
    for entry in &ENTRIES[..COUNT.load(Ordering::Relaxed).min(MAX_INSTRUMENTS)] {
        if entry.interest.load(Ordering::Relaxed) & interest.bits() != 0
            && let Some(instrument) = entry.instrument.get()
        {
            event(*instrument);
        }
    }
    std::mem::forget(bomb);
}

#[inline(always)]
pub(crate) fn task_spawned(task: TaskRef) {
    if wanted(Interest::SPAWN) {
        deliver(Interest::SPAWN, move |i| i.task_spawned(TaskView::new(task)));
    }
}

#[inline(always)]
pub(crate) fn task_resumed(task: impl Fn() -> TaskRef) {
    if wanted(Interest::SCHEDULE) {
        let task = task();
        deliver(Interest::SCHEDULE, move |i| i.task_resumed(TaskView::new(task)));
    }
}

#[inline(always)]
pub(crate) fn task_left(task: impl Fn() -> TaskRef, departure: Departure) {
    if wanted(Interest::SCHEDULE) {
        let task = task();
        let left = match departure {
            Departure::Park => Left::Waits,
            Departure::Yield => Left::Yields,
            Departure::Exit => Left::Ended,
        };
        deliver(Interest::SCHEDULE, move |i| i.task_left(TaskView::new(task), left));
    }
}

#[inline(always)]
pub(crate) fn task_woken(task: TaskRef) {
    if wanted(Interest::SCHEDULE) {
        deliver(Interest::SCHEDULE, move |i| i.task_woken(TaskView::new(task)));
    }
}

/// When a wait began; nothing if nobody wants to know.
#[inline(always)]
pub(crate) fn wait_begin() -> Option<u64> {
    wanted(Interest::WAIT).then(clock::now)
}

#[inline(always)]
pub(crate) fn wait_end(begin: Option<u64>, reason: WaitReason) {
    if let Some(begin) = begin {
        let nanoseconds = clock::now().saturating_sub(begin);
        deliver(Interest::WAIT, move |i| i.waited(reason, nanoseconds));
    }
}

#[inline(always)]
pub(crate) fn worker_started(worker: &'static WorkerThread) {
    if wanted(Interest::WORKER) {
        deliver(Interest::WORKER, move |i| i.worker_started(worker));
    }
}

#[inline(always)]
pub(crate) fn worker_stopping(worker: &'static WorkerThread) {
    if wanted(Interest::WORKER) {
        deliver(Interest::WORKER, move |i| i.worker_stopping(worker));
    }
}

#[inline(always)]
pub(crate) fn worker_searching(worker: &'static WorkerThread) {
    if wanted(Interest::IDLE) {
        deliver(Interest::IDLE, move |i| i.worker_searching(worker));
    }
}

#[inline(always)]
pub(crate) fn worker_sleeping(worker: &'static WorkerThread) {
    if wanted(Interest::IDLE) {
        deliver(Interest::IDLE, move |i| i.worker_sleeping(worker));
    }
}

#[inline(always)]
pub(crate) fn worker_woke(worker: &'static WorkerThread) {
    if wanted(Interest::IDLE) {
        deliver(Interest::IDLE, move |i| i.worker_woke(worker));
    }
}

#[inline(always)]
pub(crate) fn blocking_began(task: impl Fn() -> Option<TaskRef>) {
    if wanted(Interest::BLOCKING)
        && let Some(task) = task()
    {
        deliver(Interest::BLOCKING, move |i| i.blocking_began(TaskView::new(task)));
    }
}

#[inline(always)]
pub(crate) fn blocking_ended(task: impl Fn() -> Option<TaskRef>) {
    if wanted(Interest::BLOCKING)
        && let Some(task) = task()
    {
        deliver(Interest::BLOCKING, move |i| i.blocking_ended(TaskView::new(task)));
    }
}

#[inline(always)]
pub(crate) fn labels_changed(task: TaskRef) {
    if wanted(Interest::LABELS) {
        deliver(Interest::LABELS, move |i| i.labels_changed(TaskView::new(task)));
    }
}

#[inline(always)]
pub(crate) fn world_stopping() {
    if wanted(Interest::WORLD) {
        deliver(Interest::WORLD, move |i| i.world_stopping());
    }
}

#[inline(always)]
pub(crate) fn world_released() {
    if wanted(Interest::WORLD) {
        deliver(Interest::WORLD, move |i| i.world_released());
    }
}
