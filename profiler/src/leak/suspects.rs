//! The second tier, a heuristic: tasks that have been blocked for long, though something live could wake them.
//!
//! A worker that waits for rare work looks the same as one that is forgotten, so nothing here is called a leak.

use std::{fmt, time::Duration};

use greenprof_runtime::{heap, task::WaitReason, world::TaskState};

use super::Report;
use crate::{
    symbolize,
    tasks::{self, Snapshot, Task},
};

/// Tasks that have been blocked for long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Suspects {
    /// The time that they have been blocked for at least.
    pub threshold: Duration,
    /// Those that have waited longest first.
    pub tasks: Vec<Task>,
}

/// The tasks of all runtimes that have been blocked for at least `threshold`, without those that sleep. Nothing is stopped:
/// the cost is that of [`tasks::snapshot`]. Waits are counted from when the task began its last wait.
///
/// Leaked tasks are among them until [`Suspects::without`] takes them out.
///
/// ```
/// use std::time::Duration;
/// use greenprof_profiler::leak;
/// use greenprof_runtime::{Runtime, sync::Chan, world};
///
/// let (runtime, gate) = (Runtime::builder().workers(1).build()?, Chan::<()>::new());
/// let waits = gate.clone();
/// runtime.handle().spawn(move || waits.recv())?;
/// while world::states().waiting == 0 {
///     std::thread::yield_now();
/// }
/// assert_eq!(leak::blocked_longer_than(Duration::ZERO).tasks.len(), 1);
/// assert!(leak::blocked_longer_than(Duration::from_secs(3600)).tasks.is_empty());
/// gate.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn blocked_longer_than(threshold: Duration) -> Suspects {
    let Snapshot { mut tasks, .. } = tasks::snapshot();
    tasks.retain(|task| task.waiting_for >= threshold && blocks(task.state));
    tasks.sort_by(|a, b| b.waiting_for.cmp(&a.waiting_for).then(a.id.cmp(&b.id)));
    Suspects { threshold, tasks }
}

/// Whether a task waits for others.
pub(super) fn blocks(state: TaskState) -> bool {
    matches!(state, TaskState::Waiting(reason) if reason != WaitReason::Sleep)
}

impl Suspects {
    /// Those that a report does not have: what is leaked is no guess.
    #[must_use]
    pub fn without(mut self, report: &Report) -> Self {
        let leaked: std::collections::HashSet<_> = report.leaked().iter().map(super::Leak::id).collect();
        self.tasks.retain(|task| !leaked.contains(&task.id));
        self
    }
}

impl fmt::Display for Suspects {
    /// One record for tasks with the same stack, labels, reason and spawn site, the most frequent first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# heuristic: blocked for at least {:?}, but something live may wake them", self.threshold)?;
        heap::untracked(|| {
            let snapshot = Snapshot { tasks: self.tasks.clone() };
            f.write_str(&tasks::text_of("suspects", &snapshot, &mut symbolize::shared().lock()))
        })
    }
}
