//! All tasks at about one time, the running ones included.

use std::{panic::Location, time::Duration};

use greenprof_runtime::{
    labels::Labels,
    task::TaskId,
    world::{self, TaskInfo, TaskState, Tasks},
};

use crate::signal::{self, ask};

/// Frames kept of each stack; Go's number.
const DEPTH: usize = 128;

/// How often tasks that are running are asked: one may have moved on to another worker, or have stopped running.
const ATTEMPTS: usize = 5;

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_millis(20);

/// One task.
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
}

impl Task {
    /// The wait reason, or `running`, or `runnable`.
    pub fn status(&self) -> &'static str {
        match self.state {
            TaskState::Running => "running",
            TaskState::Runnable => "runnable",
            TaskState::Waiting(reason) => reason.as_str(),
        }
    }

    pub(crate) fn new(info: &TaskInfo, stack: Option<Vec<usize>>) -> Self {
        Self {
            id: info.id,
            parent: info.parent,
            runtime_id: info.runtime_id,
            name: info.name.clone(),
            labels: info.labels.labels(),
            state: info.state,
            waiting_for: Duration::from_nanos(info.waiting_for),
            spawned_at: info.spawn_site,
            spawn_stack: info.spawn_stack.clone(),
            stack,
        }
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
pub fn snapshot() -> Snapshot {
    let mut tasks = world::tasks(DEPTH);
    let can_ask = signal::install().is_ok();
    let mut answered: Vec<Task> = Vec::new();
    for attempt in 1..=ATTEMPTS {
        if tasks.iter().all(|task| task.state != TaskState::Running) {
            break;
        }
        if can_ask {
            ask_workers(&mut tasks, &mut answered);
        }
        if attempt < ATTEMPTS {
            tasks.look_again(DEPTH);
        }
    }
    let rest = tasks.iter().map(|info| Task::new(info, tasks.stack(info).map(<[usize]>::to_vec)));
    Snapshot { tasks: rest.chain(answered).collect() }
}

/// Asks the workers that seem to run one of the running tasks, and moves the tasks whose stack they give to `answered`.
fn ask_workers(tasks: &mut Tasks, answered: &mut Vec<Task>) {
    for worker in world::workers() {
        let wanted = |task: &&TaskInfo, id: u64| task.state == TaskState::Running && task.id.get() == id;
        let Some(running) = worker.task() else { continue };
        if !tasks.iter().any(|task| wanted(&task, running.id.get())) {
            continue;
        }
        let Some(answer) = ask::ask(worker.thread_id(), Some(worker), PATIENCE) else { continue };
        let found = tasks.iter().find(|task| wanted(task, answer.task)).cloned();
        if let Some(info) = found {
            // The innermost address is exact, and all others are return addresses. One more makes it one of them.
            let stack = answer.stack.iter().enumerate().map(|(i, a)| if i == 0 { a + 1 } else { *a }).collect();
            answered.push(Task::new(&info, Some(stack)));
            tasks.remove(&info);
        }
    }
}
