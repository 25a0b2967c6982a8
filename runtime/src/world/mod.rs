//! Looking at the runtime from outside: which tasks exist, what they wait for, where their stacks stand, and which
//! thread runs which task. Nothing here disturbs a task, but for [`stop()`], which stops all threads at once.

pub mod caller;
mod modules;
mod reader;
pub mod stop;
pub mod tasks;
pub mod threads;
pub mod unwind;

pub use crate::scheduler::{Figures, figures};
pub use crate::sys::histogram::Distribution;
/// Reclaiming tasks that nobody can wake; the steps are told in `task/reclaim.rs`.
pub mod reclaim {
    pub use crate::task::reclaim::{Continuation, Directory, NotSeized, Seized, Withdrawn, evict};
}
pub use modules::for_each_module;
pub use stop::{Patience, stop};
pub use tasks::{States, TaskInfo, TaskState, TaskView, Tasks, states, tasks, tasks_of};
pub use threads::{RunningTask, WorkerThread, workers};

/// The numbers of the runtimes that have ended with tasks left, in order. Those tasks never run again, but for those that a thread is still in.
///
/// ```
/// use greenprof_runtime::{Runtime, sync::Chan, world};
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let id = runtime.handle().runtime_id();
/// runtime.handle().spawn(|| Chan::<u32>::new().recv())?; // does not end
/// drop(runtime);
/// assert_eq!(world::ended_runtimes(), [id]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ended_runtimes() -> Vec<u32> {
    crate::task::abandon::ended()
}

/// The words of all handles to primitives, and of all guards, that are alive: what a scan of memory accepts as a
/// reference. A stale copy of a handle is not among them.
///
/// A moment's answer for each primitive, not for all together. Costs some 20 ns a primitive that was ever used.
///
/// ```
/// use greenprof_runtime::{sync::Chan, world};
///
/// let channel = Chan::<u32>::new();
/// let before = world::handle_words().len();
/// let other = channel.clone();
/// assert_eq!(world::handle_words().len(), before + 1);
/// drop(other);
/// assert_eq!(world::handle_words().len(), before);
/// ```
pub fn handle_words() -> Vec<u64> {
    crate::sync::live_words()
}
