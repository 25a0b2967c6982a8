//! The worker threads of all runtimes, and what each of them runs at the moment.
//!
//! A record is type-stable, as control blocks are: it is used by one worker after another and never freed. So a signal
//! handler may hold a reference to the record of the thread that it interrupted.

use std::{
    ops::Range,
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering, compiler_fence},
};

use parking_lot::Mutex;

use crate::{
    heap,
    labels::LabelSet,
    sys::thread,
    task::{TaskId, control::Control},
};

/// Return addresses kept of the stack that made a thread.
pub(crate) const CREATION_FRAMES: usize = 32;

/// The stack that makes a thread.
pub(crate) type Creation = [usize; CREATION_FRAMES];

/// A worker thread, as other threads and signal handlers see it.
#[derive(Debug)]
pub struct WorkerThread {
    alive: AtomicBool,
    thread_id: AtomicI32,
    runtime_id: AtomicU32,
    index: AtomicUsize,
    stack_low: AtomicUsize,
    stack_high: AtomicUsize,
    /// Where the worker's first frame on its own stack is, or a little below.
    first_frame: AtomicUsize,
    /// Whether it fires timers: only then is there something of the program's on its own stack.
    fires: AtomicBool,
    task: AtomicPtr<Control>,
    /// The return addresses of who made the thread, innermost first; 0 behind the last.
    creation: [AtomicUsize; CREATION_FRAMES],
    /// The record made before this one; never changes.
    next: Option<&'static WorkerThread>,
}

/// The task that a worker has switched to.
#[derive(Clone, Debug)]
pub struct RunningTask {
    /// The task's number.
    pub id: TaskId,
    /// Its labels.
    pub labels: LabelSet,
    /// Its stack, all of it readable, lowest address first.
    pub stack: Range<usize>,
}

/// The record made last, from which all others are linked: so they can be walked without a lock.
static RECORDS: AtomicPtr<WorkerThread> = AtomicPtr::new(ptr::null_mut());
/// Guards which records are in use, and the making of others.
static IN_USE: Mutex<()> = Mutex::new(());

/// The record of a worker while its thread runs.
pub(crate) struct Registration(&'static WorkerThread);

impl std::ops::Deref for Registration {
    type Target = &'static WorkerThread;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Held, so that nobody takes the record over between the two stores.
        let _in_use = IN_USE.lock();
        self.0.alive.store(false, Ordering::Relaxed);
        self.0.thread_id.store(0, Ordering::Relaxed);
    }
}

/// Enters the calling thread as a worker. To be called by the function that runs the worker, and not inlined: its frame
/// marks where that function's ends.
#[inline(never)]
pub(crate) fn register(runtime_id: u32, index: usize, creation: &Creation) -> Registration {
    let stack = thread::stack_bounds();
    let frame = 0_u8;
    let _in_use = IN_USE.lock();
    let record = match all().find(|record| !record.alive.load(Ordering::Relaxed)) {
        Some(record) => record,
        None => {
            let make = || {
                Box::leak(Box::new(WorkerThread {
                    alive: AtomicBool::new(false),
                    thread_id: AtomicI32::new(0),
                    runtime_id: AtomicU32::new(0),
                    index: AtomicUsize::new(0),
                    stack_low: AtomicUsize::new(0),
                    stack_high: AtomicUsize::new(0),
                    first_frame: AtomicUsize::new(0),
                    task: AtomicPtr::new(ptr::null_mut()),
                    creation: [const { AtomicUsize::new(0) }; CREATION_FRAMES],
                    fires: AtomicBool::new(false),
                    next: all().next(),
                }))
            };
            let record: &'static WorkerThread = heap::untracked(make);
            // Release: pairs with the Acquire in `all`.
            RECORDS.store(ptr::from_ref(record).cast_mut(), Ordering::Release);
            record
        }
    };
    // Relaxed: readers go through the mutex, or are on this thread.
    record.thread_id.store(thread::id(), Ordering::Relaxed);
    record.runtime_id.store(runtime_id, Ordering::Relaxed);
    record.index.store(index, Ordering::Relaxed);
    record.stack_low.store(stack.start, Ordering::Relaxed);
    record.stack_high.store(stack.end, Ordering::Relaxed);
    // This frame lies below that of the worker's loop, which holds all that is the worker's.
    record.first_frame.store(ptr::from_ref(&frame).addr(), Ordering::Relaxed);
    record.task.store(ptr::null_mut(), Ordering::Relaxed);
    for (kept, address) in record.creation.iter().zip(creation) {
        kept.store(*address, Ordering::Relaxed);
    }
    record.alive.store(true, Ordering::Relaxed);
    Registration(record)
}

/// The workers that exist now.
///
/// ```
/// use greenprof_runtime::{Runtime, world};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let running: Vec<_> = world::workers().iter().filter_map(|worker| worker.task()).collect();
///     assert_eq!(running.len(), 1, "the task that asks");
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn workers() -> Vec<&'static WorkerThread> {
    let _in_use = IN_USE.lock();
    all().filter(|record| record.alive.load(Ordering::Relaxed)).collect()
}

/// All records that were ever made, without a lock: whose thread id is 0 is not in use.
pub(super) fn all() -> impl Iterator<Item = &'static WorkerThread> {
    // SAFETY: null, or a record, which is never freed. Acquire: pairs with the Release in `register`.
    let first = unsafe { RECORDS.load(Ordering::Acquire).as_ref() };
    std::iter::successors(first, |record| record.next)
}

impl WorkerThread {
    /// The kernel's thread id; 0 when the worker has ended.
    pub fn thread_id(&self) -> i32 {
        self.thread_id.load(Ordering::Relaxed)
    }

    /// The runtime that the worker belongs to.
    pub fn runtime_id(&self) -> u32 {
        self.runtime_id.load(Ordering::Relaxed)
    }

    /// The worker's number within its runtime.
    pub fn index(&self) -> usize {
        self.index.load(Ordering::Relaxed)
    }

    /// The return addresses of the code that made the thread, innermost first, at most 32. An address may be of the next
    /// thread's if this one ends meanwhile.
    pub fn creation_stack(&self) -> Vec<usize> {
        let addresses = self.creation.iter().map(|address| address.load(Ordering::Relaxed));
        addresses.take_while(|address| *address != 0).collect()
    }

    /// The thread's own stack, on which it runs while it runs no task.
    pub fn stack(&self) -> Range<usize> {
        self.stack_low.load(Ordering::Relaxed)..self.stack_high.load(Ordering::Relaxed)
    }

    /// The task that the worker has switched to. May be called in a signal handler.
    ///
    /// On the worker itself it is exact but for the instructions around a switch, where the stack pointer tells whether
    /// the task's stack or the thread's own is in use. On other threads it is a moment's answer.
    pub fn task(&self) -> Option<RunningTask> {
        // SAFETY: null, or a control block, which is never unmapped. Relaxed: on the worker's own thread, or a snapshot.
        let control = unsafe { self.task.load(Ordering::Relaxed).as_ref() }?;
        Some(RunningTask {
            id: TaskId(control.about.id.load(Ordering::Relaxed)),
            labels: LabelSet::from_index(control.labels.load(Ordering::Relaxed)),
            stack: control.stack(),
        })
    }

    /// Whether it is firing timers, in its loop: they may hold values of the program's. At other times a worker's own stack and
    /// its registers, while it is on that stack, hold none.
    pub fn fires(&self) -> bool {
        self.fires.load(Ordering::Relaxed)
    }

    /// The control block of the task that the worker has switched to.
    pub(super) fn control(&self) -> Option<&'static Control> {
        // SAFETY: null, or a control block, which is never unmapped. Relaxed: as in `task`.
        unsafe { self.task.load(Ordering::Relaxed).as_ref() }
    }

    /// The part of the thread's own stack that is in use while the worker runs a task. Below it are only the frames of the
    /// scheduler that the switch left, which hold nothing but its own pointers.
    pub(super) fn stack_in_use(&self) -> Range<usize> {
        self.first_frame.load(Ordering::Relaxed)..self.stack_high.load(Ordering::Relaxed)
    }

    pub(crate) fn set_fires(&self, fires: bool) {
        // Relaxed: for one who has stopped this thread, and sees its stores in order.
        self.fires.store(fires, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    pub(crate) fn set_task(&self, task: *mut Control) {
        // Relaxed: for the signal handler on this thread, which sees this thread's stores in order.
        self.task.store(task, Ordering::Relaxed);
    }
}
