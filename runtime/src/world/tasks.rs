//! All tasks, with the stacks of those that are not running.
//!
//! Nothing is stopped: each task is looked at on its own (`world::reader`). So what is said is consistent for each task,
//! not across tasks: it is not the state of one moment. Who wants the stack of a task that runs asks the worker that runs
//! it, by signal (`greenprof-profiler` does).

use std::{ops::Range, panic::Location, ptr::NonNull};

pub use super::reader::TaskView;
use super::{reader::Reader, stop::TaskMark};
use crate::{
    labels::LabelSet,
    task::{
        TaskId, WaitReason,
        control::{Control, TaskRef},
        park::ParkState,
        stack::slab::Slab,
    },
};

/// How many tasks ahead of the one that is looked at the memory of another is asked for: first its control block, then,
/// when that tells where it is, its stack. Blocks are as far apart as stacks, so they share few sets of a cache, and more
/// of them than it has ways would drive each other out.
pub(super) const BLOCKS_AHEAD: usize = 6;
pub(super) const FRAMES_AHEAD: usize = 3;

/// What a task was doing.
///
/// ```
/// use greenprof_runtime::{Runtime, sync::Chan, task::WaitReason, world::{self, TaskState}};
///
/// let (runtime, gate) = (Runtime::builder().workers(1).build()?, Chan::<()>::new());
/// let waits = gate.clone();
/// let task = runtime.handle().spawn(move || waits.recv())?;
/// let state = || world::tasks(0).iter().find(|info| info.id == task.id()).map(|info| info.state);
/// while state() != Some(TaskState::Waiting(WaitReason::ChanReceive)) {
///     std::thread::yield_now();
/// }
/// gate.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// On a worker.
    Running,
    /// In a run queue.
    Runnable,
    /// Waiting.
    Waiting(WaitReason),
}

/// One task of a snapshot.
#[derive(Clone, Debug)]
pub struct TaskInfo {
    /// Its number.
    pub id: TaskId,
    /// The task that spawned it; 0 if a thread did.
    pub parent: u64,
    /// The runtime it belongs to.
    pub runtime_id: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its labels.
    pub labels: LabelSet,
    /// What it was doing.
    pub state: TaskState,
    /// How long it has waited, in nanoseconds, as of the last kernel tick; 0 if it does not wait.
    pub waiting_for: u64,
    /// The type of the closure that it runs, as [`std::any::type_name`] has it.
    pub closure_name: &'static str,
    /// Where it was spawned.
    pub spawn_site: Option<&'static Location<'static>>,
    /// The innermost return addresses of the stack that spawned it; empty if a thread did.
    pub spawn_stack: Vec<usize>,
    task: TaskRef,
    stack: Range<usize>,
}

/// All tasks at about one time.
///
/// ```
/// use greenprof_runtime::{Runtime, world};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let tasks = world::tasks(32);
///     let this = tasks.iter().next().expect("the task that asks");
///     assert_eq!(this.name.as_deref(), Some("main"));
///     assert_eq!(tasks.stack(this), None, "it is running");
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: Vec<TaskInfo>,
    addresses: Vec<usize>,
}

impl Tasks {
    /// The tasks, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &TaskInfo> {
        self.tasks.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Takes a task out.
    pub fn remove(&mut self, task: &TaskInfo) {
        self.tasks.retain(|other| other.task != task.task);
    }

    /// Keeps a task with its stack.
    pub fn keep(&mut self, task: &TaskView<'_>) {
        let start = self.addresses.len();
        self.addresses.extend_from_slice(task.stack.unwrap_or_default());
        self.tasks.push(TaskInfo {
            id: task.id,
            parent: task.parent,
            runtime_id: task.runtime_id,
            name: task.name.map(str::to_owned),
            labels: task.labels,
            state: task.state,
            waiting_for: task.waiting_for,
            closure_name: task.closure_name,
            spawn_site: task.spawn_site,
            spawn_stack: task.spawn_stack.to_vec(),
            task: task.task,
            stack: start..self.addresses.len(),
        });
    }

    /// Looks again at the tasks that were running: those that run no more get their stack, those that have ended go.
    pub fn look_again(&mut self, depth: usize) {
        let mut reader = Reader::new(depth);
        let running = self.tasks.extract_if(.., |task| task.state == TaskState::Running).collect::<Vec<_>>();
        for TaskInfo { task, .. } in running {
            if let Some(view) = reader.read(task.control).filter(|view| view.task == task) {
                self.keep(&view);
            }
        }
    }

    /// A task's return addresses, innermost first; nothing if the task was running.
    pub fn stack(&self, task: &TaskInfo) -> Option<&[usize]> {
        (task.state != TaskState::Running).then(|| &self.addresses[task.stack.clone()])
    }
}

impl TaskInfo {
    /// The task as one looks at it, with a stack from elsewhere.
    pub fn view<'a>(&'a self, stack: Option<&'a [usize]>) -> TaskView<'a> {
        TaskView {
            id: self.id,
            parent: self.parent,
            runtime_id: self.runtime_id,
            name: self.name.as_deref(),
            labels: self.labels,
            state: self.state,
            waiting_for: self.waiting_for,
            closure_name: self.closure_name,
            spawn_site: self.spawn_site,
            spawn_stack: &self.spawn_stack,
            stack,
            task: self.task,
        }
    }
}

/// How many tasks of all runtimes have not ended. Looks at each control block: some 10 ns a stack that was ever used.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::Chan, world};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let gate = Chan::<()>::new();
///     let waits = gate.clone();
///     let task = spawn(move || waits.recv());
///     assert_eq!(world::tasks::count(), 2, "this one, and that");
///     gate.close();
///     task.join().unwrap();
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn count() -> usize {
    // SAFETY: control blocks are never unmapped.
    blocks().filter(|block| unsafe { block.as_ref() }.park.load().1 != ParkState::Dead).count()
}

/// How many tasks were doing what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// On a worker.
    pub running: usize,
    /// In a run queue.
    pub runnable: usize,
    /// Waiting.
    pub waiting: usize,
}

/// How many tasks of all runtimes are doing what, each looked at once. Costs what [`count`] does.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::Chan, world, yield_now};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let gate = Chan::<()>::new();
///     let waits = gate.clone();
///     let task = spawn(move || waits.recv());
///     while world::states().waiting == 0 {
///         yield_now();
///     }
///     assert_eq!(world::states().running, 1, "this task");
///     gate.close();
///     task.join().unwrap();
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn states() -> States {
    let mut states = States::default();
    for block in blocks() {
        // SAFETY: control blocks are never unmapped.
        let control = unsafe { block.as_ref() };
        match control.park.load().1 {
            ParkState::Dead => {}
            ParkState::Parked | ParkState::Blocked => states.waiting += 1,
            ParkState::Active if control.epoch().is_multiple_of(2) => states.runnable += 1,
            ParkState::Active => states.running += 1,
        }
    }
    states
}

/// How many tasks of all runtimes are running or runnable. Looks at each control block, as [`count`].
pub fn count_active() -> usize {
    // SAFETY: control blocks are never unmapped.
    blocks().filter(|block| unsafe { block.as_ref() }.park.load().1 == ParkState::Active).count()
}

/// Shows the tasks of all runtimes to `visit`, one after another, with at most `depth` frames of each stack. Running ones
/// have no stack.
///
/// Costs some 300 instructions a task and ten a frame, on the caller only; what `visit` does not keep is not kept, so
/// nothing is allocated for a task.
///
/// ```
/// use greenprof_runtime::{Runtime, labels, world};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     labels::set("tenant", "acme");
///     let mut found = 0;
///     world::tasks::each(0, |task| found += usize::from(task.labels.labels().get("tenant") == Some("acme")));
///     assert_eq!(found, 1, "the task that asks");
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn each(depth: usize, mut visit: impl FnMut(&TaskView<'_>)) {
    let mut reader = Reader::new(depth);
    let mut blocks_ahead = blocks().skip(BLOCKS_AHEAD);
    let mut frames_ahead = blocks().skip(FRAMES_AHEAD);
    for block in blocks() {
        // SAFETY: control blocks are never unmapped.
        unsafe {
            blocks_ahead.next().inspect(|block| block.as_ref().fetch_to_look());
            frames_ahead.next().inspect(|block| block.as_ref().fetch_frames());
        }
        if let Some(task) = reader.read(block) {
            visit(&task);
        }
    }
}

/// A snapshot of the tasks of all runtimes, with at most `depth` frames of each stack.
///
/// Costs as [`each`], and two or three allocations a task. Must not be called in a signal handler.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::Chan, world, yield_now};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let gate = Chan::<()>::new();
///     let waits = gate.clone();
///     let task = spawn(move || waits.recv());
///     while world::states().waiting == 0 {
///         yield_now();
///     }
///     let tasks = world::tasks(64);
///     let info = tasks.iter().find(|info| info.id == task.id()).expect("it has not ended");
///     assert!(info.spawn_site.is_some_and(|site| site.line() > 0));
///     assert!(tasks.stack(info).is_some_and(|stack| !stack.is_empty()), "where it waits");
///     gate.close();
///     task.join().unwrap();
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn tasks(depth: usize) -> Tasks {
    let mut all = Tasks::default();
    each(depth, |task| all.keep(task));
    all
}

/// A random choice of the tasks of all runtimes, each of which is in it with a probability of one in `stride`: so each
/// stands for `stride` tasks. `random` gives evenly distributed numbers.
///
/// Costs as [`tasks`] for those that were chosen, and some nanoseconds for every `stride` stacks that were ever used.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, world};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let tasks: Vec<_> = (0..100).map(|_| spawn(|| ())).collect();
///     let chosen = world::tasks::sample(10, 0, || 7); // a random number, each time
///     assert!(chosen.len() < tasks.len());
///     tasks.into_iter().for_each(|task| task.join().unwrap());
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn sample(stride: usize, depth: usize, mut random: impl FnMut() -> u64) -> Tasks {
    let stride = stride.max(1);
    let mut chosen = Tasks::default();
    let mut reader = Reader::new(depth);
    for slab in Slab::all() {
        // One of each group of neighbours: tasks that were spawned together are spread over the choice.
        for group in (0..slab.slots()).step_by(stride) {
            let block = slab.existing(group + (random() % stride as u64) as usize);
            if let Some(task) = block.and_then(|block| reader.read(block)) {
                chosen.keep(&task);
            }
        }
    }
    chosen
}

/// How many stacks were ever used: the upper bound for the number of tasks that there are. Costs a nanosecond for each
/// hundred.
pub fn stacks() -> usize {
    Slab::all().map(Slab::existing_count).sum()
}

/// As [`tasks`], of some tasks only; those that have ended are left out.
pub fn tasks_of(marks: impl IntoIterator<Item = TaskMark>, depth: usize) -> Tasks {
    let mut all = Tasks::default();
    let mut reader = Reader::new(depth);
    for TaskMark { task, .. } in marks {
        if let Some(view) = reader.read(task.control).filter(|view| view.task == task) {
            all.keep(&view);
        }
    }
    all
}

/// The control blocks that were ever used. Neither locks nor allocates.
pub(crate) fn blocks() -> impl Iterator<Item = NonNull<Control>> {
    Slab::all().flat_map(Slab::controls)
}
