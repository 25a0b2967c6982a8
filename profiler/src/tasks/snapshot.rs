//! All tasks at about one time, the running ones included.

use std::{panic::Location, time::Duration};

use greenprof_runtime::{
    labels::{LabelSet, Labels},
    task::TaskId,
    world::{self, TaskInfo, TaskState, TaskView, Tasks},
};

use super::groups::Facts;
use crate::{
    signal::{self, ask},
    unwind,
};

/// Frames kept of each stack; Go's number.
const DEPTH: usize = 128;

/// How often tasks that are running are asked: one may have moved on to another worker, or have stopped running.
const ATTEMPTS: usize = 5;

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_millis(20);

/// One task.
///
/// ```
/// use greenprof_profiler::tasks;
/// use greenprof_runtime::{Runtime, labels};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     labels::set("tenant", "acme");
///     let snapshot = tasks::snapshot();
///     let this = &snapshot.tasks[0];
///     assert_eq!((this.status(), this.name.as_deref()), ("running", Some("main")));
///     assert_eq!(this.labels.get("tenant"), Some("acme"));
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// The task that spawned it; 0 if a thread did.
    pub parent: u64,
    /// The runtime it belongs to.
    pub runtime_id: u32,
    /// Its name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// What it was doing.
    pub state: TaskState,
    /// How long it has waited; zero if it does not.
    pub waiting_for: Duration,
    /// Where it was spawned.
    pub spawned_at: Option<&'static Location<'static>>,
    /// The innermost return addresses of the stack that spawned it.
    pub spawn_stack: Vec<usize>,
    /// Its return addresses, innermost first; nothing if it was running and did not answer.
    pub stack: Option<Vec<usize>>,
    label_set: LabelSet,
}

impl Task {
    /// The wait reason, or `running`, or `runnable`.
    pub fn status(&self) -> &'static str {
        status(self.state)
    }

    /// What tasks that are alike have in common.
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            stack: self.stack.as_deref(),
            labels: self.label_set,
            state: self.state,
            site: self.spawned_at,
            name: self.name.as_deref(),
        }
    }

    pub(crate) fn new(task: &TaskView<'_>) -> Self {
        Self {
            id: task.id,
            parent: task.parent,
            runtime_id: task.runtime_id,
            name: task.name.map(str::to_owned),
            labels: task.labels.labels(),
            state: task.state,
            waiting_for: Duration::from_nanos(task.waiting_for),
            spawned_at: task.spawn_site,
            spawn_stack: task.spawn_stack.to_vec(),
            stack: task.stack.map(<[usize]>::to_vec),
            label_set: task.labels,
        }
    }
}

/// The wait reason, or `running`, or `runnable`.
pub(super) fn status(state: TaskState) -> &'static str {
    match state {
        TaskState::Running => "running",
        TaskState::Runnable => "runnable",
        TaskState::Waiting(reason) => reason.as_str(),
    }
}

/// All tasks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// In no particular order.
    pub tasks: Vec<Task>,
}

impl Snapshot {
    /// Running tasks that did not answer in time.
    pub fn unavailable(&self) -> usize {
        self.tasks.iter().filter(|task| task.stack.is_none()).count()
    }
}

/// Takes a snapshot of the tasks of all runtimes. Must not be called while holding a lock that a task might need.
///
/// ```
/// use greenprof_profiler::tasks;
/// use greenprof_runtime::{Runtime, sync::Chan, task};
///
/// let (runtime, never) = (Runtime::builder().workers(1).build()?, Chan::<()>::new());
/// let waiting = never.clone();
/// let task = runtime.handle().spawn_with(task::Builder::new().name("waits"), move || waiting.recv())?;
/// let waits = |task: &tasks::Task| task.name.as_deref() == Some("waits") && task.status() == "chan receive";
/// while !tasks::snapshot().tasks.iter().any(waits) {
///     std::thread::yield_now();
/// }
/// never.close();
/// task.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn snapshot() -> Snapshot {
    let mut tasks = Vec::new();
    each(|task| tasks.push(Task::new(task)));
    Snapshot { tasks }
}

/// Shows all tasks to `visit`, each once. As for [`snapshot`].
pub(super) fn each(mut visit: impl FnMut(&TaskView<'_>)) {
    let mut running = Tasks::default();
    world::tasks::each(DEPTH, |task| match task.stack {
        Some(_) => visit(task),
        None => running.keep(task),
    });
    if running.is_empty() {
        return;
    }
    let can_ask = signal::install().is_ok();
    unwind::refresh();
    for attempt in 1..=ATTEMPTS {
        if running.iter().all(|task| task.state != TaskState::Running) {
            break;
        }
        if can_ask {
            ask_workers(&mut running, PATIENCE, |info, stack| visit(&info.view(Some(&stack))));
        }
        if attempt < ATTEMPTS {
            running.look_again(DEPTH);
        }
    }
    running.iter().for_each(|info| visit(&info.view(running.stack(info))));
}

/// Asks the workers that seem to run one of the running tasks, and takes the tasks whose stack they give out of `tasks`.
/// The handler must be installed.
pub(crate) fn ask_workers(tasks: &mut Tasks, patience: Duration, mut answered: impl FnMut(&TaskInfo, Vec<usize>)) {
    for worker in world::workers() {
        let wanted = |task: &&TaskInfo, id: u64| task.state == TaskState::Running && task.id.get() == id;
        let Some(running) = worker.task() else { continue };
        if !tasks.iter().any(|task| wanted(&task, running.id.get())) {
            continue;
        }
        let Some(answer) = ask::ask(worker.thread_id(), Some(worker), patience) else { continue };
        let found = tasks.iter().find(|task| wanted(task, answer.task)).cloned();
        if let Some(info) = found {
            // The innermost address is exact, and all others are return addresses. One more makes it one of them.
            let stack = answer.stack.iter().enumerate().map(|(i, a)| if i == 0 { a + 1 } else { *a }).collect();
            answered(&info, stack);
            tasks.remove(&info);
        }
    }
}
