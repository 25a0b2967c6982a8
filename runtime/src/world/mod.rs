//! Looking at the runtime from outside: which tasks exist, what they wait for, where their stacks stand, and which
//! thread runs which task. Nothing here stops or disturbs a task.

pub mod tasks;
pub mod threads;
pub mod unwind;

pub use tasks::{TaskInfo, TaskState, Tasks, tasks};
pub use threads::{RunningTask, WorkerThread, workers};
