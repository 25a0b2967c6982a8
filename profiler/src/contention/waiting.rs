//! Waits that have not ended, for the block profile.
//!
//! Tasks that wait are known to the runtime, with their stacks. Threads that run no task leave theirs here when they
//! begin to wait, and take it away when they go on.

use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    heap,
    labels::{LabelSet, Labels},
    task::WaitReason,
    world::{self, TaskState},
};

use crate::records::Captured;

/// Frames kept of each stack; Go's number.
const DEPTH: usize = 128;

/// A wait that has not ended.
pub(super) struct Waiting {
    pub(super) stack: Vec<usize>,
    pub(super) labels: Labels,
    pub(super) since: Duration,
}

struct Thread {
    /// The address of the thread's `ENTERED`.
    identity: usize,
    stack: Vec<usize>,
    labels: LabelSet,
    began: Instant,
    /// [`PERIOD`] at that time.
    period: u64,
}

/// The threads that wait now and run no task. The lock guards the list, and is held for a few instructions.
static THREADS: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

/// How often the profile was switched off. Of a wait that began in an earlier period nobody is told the end.
static PERIOD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

fn threads() -> MutexGuard<'static, Vec<Thread>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity() -> usize {
    ENTERED.with(|entered| std::ptr::from_ref(entered).addr())
}

/// The calling thread begins to wait.
pub(super) fn enter(stack: &Captured<'_>) {
    heap::untracked(|| {
        // Relaxed, here and below: the list is guarded by its lock; a thread that is late is in the wrong period, and
        // not shown.
        let (began, period) = (Instant::now(), PERIOD.load(Ordering::Relaxed));
        let thread = Thread { identity: identity(), stack: stack.frames.to_vec(), labels: stack.labels, began, period };
        let mut threads = threads();
        threads.retain(|other| other.identity != thread.identity);
        threads.push(thread);
    });
    ENTERED.set(true);
}

/// The calling thread, or the task that it runs, waits no more.
#[inline]
pub(super) fn leave() {
    if ENTERED.get() {
        left();
    }
}

#[cold]
fn left() {
    ENTERED.set(false);
    let own = identity();
    let mut threads = threads();
    let left = threads.iter().position(|thread| thread.identity == own).map(|at| threads.swap_remove(at));
    drop(threads);
    drop(left);
}

/// The profile is off: nobody will be told when the waits end.
pub(super) fn forget() {
    PERIOD.fetch_add(1, Ordering::Relaxed);
    let forgotten = std::mem::take(&mut *threads());
    drop(forgotten);
}

/// All waits in progress. To be called in an untracked scope.
pub(super) fn all() -> Vec<Waiting> {
    let period = PERIOD.load(Ordering::Relaxed);
    let threads: Vec<Waiting> =
        threads().iter().filter(|thread| thread.period == period).map(Waiting::thread).collect();
    let tasks = world::tasks(DEPTH);
    let waiting = tasks.iter().filter_map(|task| match task.state {
        TaskState::Waiting(WaitReason::Sleep) => None,
        TaskState::Waiting(_) => Some(Waiting {
            stack: tasks.stack(task)?.to_vec(),
            labels: task.labels.labels(),
            since: Duration::from_nanos(task.waiting_for),
        }),
        _ => None,
    });
    threads.into_iter().chain(waiting).collect()
}

impl Waiting {
    fn thread(thread: &Thread) -> Self {
        let (stack, labels) = (thread.stack.clone(), thread.labels.labels());
        Self { stack, labels, since: thread.began.elapsed() }
    }
}
