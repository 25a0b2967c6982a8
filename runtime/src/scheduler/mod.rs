//! The scheduler: workers, their queues, and how runnable tasks and idle workers find each other.
//!
//! Each worker has a [`queue::Ring`] of runnable tasks and one *next* slot for the task that was woken last; all share
//! an [`injector::Injector`]. `README.md` in this folder tells where a task is queued, in which order tasks run, and
//! why no wake-up is lost.

mod figures;
mod idle;
mod injector;
mod latency;
mod pinned;
mod processors;
mod queue;
mod runtime;
mod shared;
mod shutdown;
mod surplus;
mod sysmon;
mod worker;

pub use figures::{Figures, figures};
pub use runtime::{Builder, Handle, Runtime};
pub(crate) use shared::{Place, Shared, schedule_from, wake, wake_all};
pub use shutdown::ShutdownReport;
pub use surplus::blocking;
pub(crate) use worker::{Departure, Worker, current_worker, leave, next_task_id, random};

/// The most threads of one runtime, unless it is told otherwise; Go's number.
pub(crate) const MAX_THREADS: usize = 10_000;

/// The most workers of one runtime.
pub(crate) const MAX_WORKERS: usize = 1024;
