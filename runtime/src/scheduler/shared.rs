//! What the workers of one runtime share.

use std::{
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use crossbeam_utils::CachePadded;

use super::{
    idle::Idle,
    injector::Injector,
    latency::{self, Outside},
    processors::Processors,
    shutdown::{Door, Visitors},
    surplus::Surplus,
    worker::{Worker, current_worker},
};
use crate::{
    sys,
    task::{
        chain::Batch,
        control::{Control, TaskRef},
        park::Unpark,
        parker::Parker,
        stack::Class,
    },
    time::Timers,
};

static NEXT_RUNTIME: AtomicU32 = AtomicU32::new(1);

pub(crate) struct Shared {
    pub(crate) id: u32,
    pub(crate) processors: Processors,
    // What searching workers and wakers write does not share cache lines with what all read.
    pub(crate) injector: CachePadded<Injector>,
    pub(crate) idle: CachePadded<Idle>,
    pub(crate) surplus: Surplus,
    pub(crate) timers: Arc<Timers>,
    pub(crate) shutdown: AtomicBool,
    /// Where threads come in that spawn here and are not workers.
    pub(super) door: Door,
    /// Wakers that own no reference to this.
    pub(super) visitors: CachePadded<Visitors>,
    /// Threads that are workers, or are about to be.
    pub(super) employed: sys::atomic::AtomicU32,
    /// Set when the tasks that are left have been abandoned.
    pub(super) abandoned: AtomicBool,
    pub(crate) stack: Class,
    /// Tasks spawned by threads that are no workers.
    pub(crate) spawned_outside: AtomicU64,
    outside: Outside,
}

impl Shared {
    pub(crate) fn new(workers: usize, most_threads: usize, stack: Class) -> Self {
        Self {
            id: NEXT_RUNTIME.fetch_add(1, Ordering::Relaxed),
            processors: Processors::new(workers, most_threads),
            injector: CachePadded::new(Injector::new()),
            idle: CachePadded::new(Idle::new(workers, most_threads)),
            surplus: Surplus::new(),
            timers: Timers::new(),
            shutdown: AtomicBool::new(false),
            door: Door::new(),
            visitors: CachePadded::new(Visitors::new()),
            employed: sys::atomic::AtomicU32::new(0),
            abandoned: AtomicBool::new(false),
            stack,
            spawned_outside: AtomicU64::new(0),
            outside: Outside::new(),
        }
    }

    /// Tasks that have finished.
    pub(crate) fn finished(&self) -> u64 {
        // Acquire: pairs with the Release in `bump`.
        self.processors.iter().map(|p| p.finished.load(Ordering::Acquire)).sum()
    }

    /// Tasks that were spawned and have not finished: a moment's answer, and never too few. It is exact when the
    /// workers have stopped.
    pub(crate) fn alive(&self) -> u64 {
        // First: who sees that a task has finished sees afterwards that it was spawned, and what it has spawned.
        let finished = self.finished();
        let spawned: u64 = self.processors.iter().map(|p| p.spawned.load(Ordering::Relaxed)).sum();
        (spawned + self.spawned_outside.load(Ordering::Relaxed)).saturating_sub(finished)
    }

    /// Whether a sleeping worker would find a task in the queues that any worker may take from.
    pub(crate) fn has_work(&self) -> bool {
        !self.injector.is_empty() || self.processors.iter().any(|p| !p.ring.is_empty())
    }

    /// Whether some worker has a task in its next slot.
    pub(crate) fn has_next(&self) -> bool {
        // SeqCst: part of the last look before a sleep; pairs with the fence in `Idle::notify`.
        self.processors.iter().any(|p| !p.next.load(Ordering::SeqCst).is_null())
    }

    /// Queues a task that only one worker may run.
    fn queue_pinned(&self, task: NonNull<Control>, worker: usize) {
        self.processors.get(worker).pinned.push(task);
        self.idle.notify_worker(worker);
    }

    /// Queues tasks from outside the workers.
    pub(crate) fn inject(&self, tasks: impl IntoIterator<Item = NonNull<Control>>) {
        if let Some(batch) = Batch::link(tasks) {
            self.injector.push_started(batch);
            self.idle.notify();
        }
    }

    /// Like `inject`, ahead of most of what is queued there: for tasks whose time has come.
    fn inject_timed(&self, tasks: &[NonNull<Control>]) {
        for tasks in tasks.chunks(LARGEST_BATCH) {
            self.outside.queue(tasks);
            if let Some(batch) = Batch::link(tasks.iter().copied()) {
                self.injector.push_timed(batch);
                self.idle.notify();
            }
        }
    }
}

/// Tasks in one batch, so that several workers share a burst.
const LARGEST_BATCH: usize = 32;

/// A counter that only one thread writes.
pub(crate) fn bump(counter: &AtomicU64) {
    // Release: pairs with the Acquire in `Shared::finished`. The counter has a single writer.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
}

/// Where a woken task is queued on the waker's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before all others: it was handed something that is still in the caches.
    Next,
    /// Behind all others: a joiner is handed a result, and often waits for the tasks before it in the queue, too. Run
    /// next, it would wake and wait again once for each of them.
    Last,
}

/// Wakes a task: makes it runnable if it waits, or lets its next wait return at once. Harmless if the task is gone.
pub(crate) fn wake(task: TaskRef, place: Place) {
    if let Some(task) = unpark(task) {
        schedule(task, place);
    }
}

/// Wakes a task. Gives it back if the caller has to queue it.
#[inline]
fn unpark(task: TaskRef) -> Option<NonNull<Control>> {
    let control = task.control();
    match control.park.unpark(task.generation) {
        Unpark::Nothing => None,
        Unpark::Schedule => {
            crate::hooks::task_woken(task);
            Some(task.control)
        }
        Unpark::WakeThread => {
            crate::sys::futex::wake_one(control.park.futex().0);
            None
        }
    }
}

/// Queues a task that has become runnable. Only whoever made it runnable may call this.
#[inline]
fn schedule(task: NonNull<Control>, place: Place) {
    schedule_from(current_worker(), task, place);
}

/// Like `schedule`, for a caller that knows the worker that it runs on.
#[inline]
pub(crate) fn schedule_from(here: Option<&Worker>, task: NonNull<Control>, place: Place) {
    // SAFETY: control blocks are never unmapped.
    let control = unsafe { task.as_ref() };
    let runtime = control.runtime.load(Ordering::Relaxed);
    if let Some(worker) = here
        && ptr::eq(worker.shared(), runtime)
    {
        if worker.times_next() {
            latency::begin(control);
        }
        return match (control.pinned(), place) {
            (Some(worker_of_task), _) => worker.shared().queue_pinned(task, worker_of_task),
            (None, Place::Next) => worker.queue_next(task),
            (None, Place::Last) => worker.queue_last(task),
        };
    }
    // SAFETY: a runtime is not freed while it has a task that has not finished, nor while there is a visitor.
    let runtime = unsafe { &*runtime };
    let _visitor = runtime.visitors.enter();
    runtime.outside.queue(&[task]);
    match control.pinned() {
        Some(worker) => runtime.queue_pinned(task, worker),
        None => runtime.inject([task]),
    }
}

/// Wakes many at once: their tasks are queued under one lock, ahead of others. For the timer thread, which is no worker.
pub(crate) fn wake_all(parkers: impl Iterator<Item = Parker>) {
    let mut runnable = Vec::new();
    for parker in parkers {
        match parker {
            Parker::Task(task) => runnable.extend(unpark(task)),
            Parker::Thread(_) => parker.unpark(),
        }
    }
    runnable.retain(|task: &NonNull<Control>| {
        // SAFETY: control blocks are never unmapped.
        let pinned = unsafe { task.as_ref() }.pinned().is_some();
        if pinned {
            schedule(*task, Place::Last);
        }
        !pinned
    });
    let runtime = |task: &NonNull<Control>| {
        // SAFETY: control blocks are never unmapped. Relaxed: written before the task was started.
        unsafe { task.as_ref() }.runtime.load(Ordering::Relaxed)
    };
    for tasks in runnable.chunk_by(|a, b| runtime(a) == runtime(b)) {
        // SAFETY: as in `schedule`.
        let runtime = unsafe { &*runtime(&tasks[0]) };
        let _visitor = runtime.visitors.enter();
        runtime.inject_timed(tasks);
    }
}
