//! Tasks: spawning, joining, yielding, names.
//!
//! ```
//! use greenprof_runtime::{Runtime, task};
//!
//! let runtime = Runtime::builder().workers(1).build()?;
//! runtime.run(|| {
//!     let half = task::Builder::new().name("halver").stack_size(32 << 10).spawn(|| 84 / 2).expect("memory");
//!     assert_eq!(half.join().unwrap(), 42);
//! });
//! # Ok::<(), greenprof_runtime::BuildError>(())
//! ```

pub(crate) mod abandon;
pub(crate) mod chain;
pub(crate) mod completion;
pub(crate) mod control;
mod join;
pub(crate) mod local;
mod name;
pub(crate) mod park;
pub(crate) mod parker;
mod reason;
pub(crate) mod reclaim;
mod scope;
mod spawn;
pub(crate) mod stack;
pub(crate) mod switch;

pub use abandon::Abandoned;
pub use join::JoinHandle;
pub use local::{AccessError, LocalKey};
pub use reason::WaitReason;
pub use reclaim::Reclaimed;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use spawn::{Builder, spawn};
pub(crate) use spawn::{Options, spawn_unchecked};

pub use crate::scheduler::blocking;
use crate::scheduler::{self, Departure, current_worker};

/// The number of a task; unique in the process, in the order of spawning as seen by one spawner.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, task};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let (first, second) = (spawn(task::current_id), spawn(|| ()));
///     assert!(first.id() < second.id(), "in the order of spawning");
///     let id = first.id();
///     assert_eq!(first.join().unwrap(), Some(id));
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub(crate) u64);

impl TaskId {
    /// The bare number, as it stands in profiles.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Times round trips of the bare context switch. For the benches; no part of the API.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub fn switch_round_trips(count: u64) -> std::time::Duration {
    switch::round_trips(count)
}

/// The task that the caller runs in; nothing on a thread that runs none.
///
/// ```
/// use greenprof_runtime::{Runtime, task};
///
/// assert_eq!(task::current_id(), None, "a plain thread");
/// Runtime::builder().workers(1).build()?.run(|| assert!(task::current_id().is_some()));
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn current_id() -> Option<TaskId> {
    let task = current_worker()?.task()?;
    Some(TaskId(task.control().about.id.load(std::sync::atomic::Ordering::Relaxed)))
}

/// Lets the other runnable tasks of this worker run first. On a thread that runs no task it yields the thread.
///
/// A task that unwinds from a panic does not yield: its thread counts the panic.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, yield_now};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let other = spawn(|| ());
///     while !other.is_finished() {
///         yield_now(); // the one worker is needed for it
///     }
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn yield_now() {
    if current_worker().is_none_or(|worker| worker.task().is_none()) {
        std::thread::yield_now();
    } else if !std::thread::panicking() {
        scheduler::leave(Departure::Yield);
    }
}
