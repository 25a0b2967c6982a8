//! The instrumentation points of a build with hooks.
//!
//! Instruments are entered in a fixed table and stay in it: an entry can be switched off, but its reference is never
//! replaced, so an event that is being delivered while its instrument is removed still finds a valid one.

use std::{
    any::Any,
    sync::{
        Once,
        atomic::{AtomicU32, AtomicUsize, Ordering, fence},
    },
};

use parking_lot::Mutex;

use super::{InstallError, Instrument, Interest, Left, MAX_INSTRUMENTS, TaskView, WorkerThread};
use crate::{
    scheduler::{Departure, Worker, current_worker},
    sys::{
        clock,
        ticks::{self, Ticks},
    },
    task::{WaitReason, control::TaskRef, parker::Parker},
};

pub(crate) use super::delays::{Delays, all_of};

/// The union of all interests: what an instrumentation point looks at.
///
/// A static that code of other crates refers to is reached through the global offset table, here too, which is one more load
/// at each point. So no function that is generic or inlined into other crates may have a point in it: they call one that
/// has. `tests/tests/hooks_off.rs` sees that it stays so.
static WANTED: AtomicU32 = AtomicU32::new(0);
static ENTRIES: [Entry; MAX_INSTRUMENTS] = [const { Entry::new() }; MAX_INSTRUMENTS];
/// How many entries have an instrument: the first ones.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Guards which entries are taken, and the computation of `WANTED`.
static CHANGE: Mutex<()> = Mutex::new(());

/// What an interest in any wait has.
const ANY_WAIT: Interest = Interest::WAIT.and(Interest::LOCK_WAIT);

/// Who wants to know of waits for that.
fn of_wait(reason: WaitReason) -> Interest {
    if reason.is_ended_by_unlock() { ANY_WAIT } else { Interest::WAIT }
}

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

/// Installs an instrument for the whole process. The first one with an interest in waits measures the speed of the clock
/// for them, which takes some ten milliseconds.
///
/// # Errors
/// See [`InstallError`].
pub fn install(instrument: &'static dyn Instrument, interest: Interest) -> Result<Installed, InstallError> {
    static CALIBRATED: Once = Once::new();
    if interest.bits() & ANY_WAIT.bits() != 0 {
        CALIBRATED.call_once(ticks::calibrate);
    }
    let _change = CHANGE.lock();
    // By its type as well: instruments without fields may lie at one address.
    let identity = |instrument: &'static dyn Instrument| {
        let any: &dyn Any = instrument;
        (std::ptr::from_ref(instrument).addr(), any.type_id())
    };
    let same = |entry: &Entry| entry.instrument.get().is_some_and(|known| identity(*known) == identity(instrument));
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
    // Release: pairs with the fence in `wait_begin`: whoever sees that waits are wanted has the calibrated clock.
    WANTED.store(wanted, Ordering::Release);
}

#[inline(always)]
pub(super) fn wanted(interest: Interest) -> bool {
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
///
/// Out of line, because waits are inlined into generic code: see [`WANTED`]. It is left again before the wait, so that it puts no
/// frame on the stack that waits.
#[inline(never)]
pub(crate) fn wait_begin(parker: Parker, reason: WaitReason) -> Option<Ticks> {
    if wanted(ANY_WAIT) { begin(parker, reason) } else { None }
}

#[cold]
fn begin(parker: Parker, reason: WaitReason) -> Option<Ticks> {
    let interest = of_wait(reason);
    if !wanted(interest) {
        return None;
    }
    // Acquire: pairs with the Release in `recompute`.
    fence(Ordering::Acquire);
    if let Parker::Thread(_) = parker {
        deliver(interest, move |i| i.thread_waits(reason));
        return Some(Ticks::now());
    }
    let now = Ticks::now();
    if let Some(worker) = current_worker() {
        worker.begins_to_wait(now);
    }
    Some(now)
}

#[inline(always)]
pub(crate) fn wait_end(begin: Option<Ticks>, reason: WaitReason) {
    if let Some(begin) = begin {
        waited(begin, reason);
    }
}

#[cold]
#[inline(never)]
fn waited(begin: Ticks, reason: WaitReason) {
    // A reading of the clock costs as much as all else that is done here.
    let end = current_worker().and_then(Worker::switched_at).unwrap_or_else(Ticks::now);
    let nanoseconds = begin.until(end);
    deliver(of_wait(reason), move |i| i.waited(reason, nanoseconds));
}

/// The time, for a lock's queue; 0 if nobody wants to know. `known` is the time if the caller has it, else 0.
#[inline(always)]
pub(crate) fn lock_clock(known: u64) -> u64 {
    match wanted(Interest::CONTENTION) {
        false => 0,
        true if known == 0 => clock::now(),
        true => known,
    }
}

/// The lock is unlocked, and this is what `Delays::charge` gave.
#[inline(always)]
pub(crate) fn unlocked(delay: Option<u64>) {
    if let Some(delay) = delay {
        deliver(Interest::CONTENTION, move |i| i.unlocked(delay));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruments_without_fields_are_told_apart_by_their_types() {
        struct One;
        struct Another;
        impl Instrument for One {}
        impl Instrument for Another {}
        // What has no size lies nowhere in particular: at one address.
        let (one, another): (&'static One, &'static Another) = (Box::leak(Box::new(One)), Box::leak(Box::new(Another)));
        assert!(std::ptr::addr_eq(one, another));
        let installed = install(one, Interest::LABELS).expect("room");
        assert_eq!(install(one, Interest::LABELS).err(), Some(InstallError::Installed));
        let other = install(another, Interest::LABELS).expect("it is another one");
        assert!(!std::ptr::eq(installed.0, other.0));
    }
}
