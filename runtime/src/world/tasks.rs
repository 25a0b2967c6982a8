//! A snapshot of all tasks, with the stacks of those that are not running.
//!
//! Nothing is stopped. A task's stack is copied while it is parked or queued, between two looks at its epoch: if the
//! task has run in between, the copy is thrown away and made again. A task that keeps running has no stack here; who
//! wants it asks the worker that runs it, by signal (`greenprof-profiler` does).
//!
//! So the snapshot is consistent for each task, not across tasks: it is not the state of one moment.

use std::{
    ops::{ControlFlow, Range},
    panic::Location,
    ptr::NonNull,
    sync::atomic::Ordering,
};

use super::{stop::TaskMark, unwind};
use crate::{
    labels::LabelSet,
    sys::clock,
    task::{
        TaskId, WaitReason,
        control::{Control, TaskRef},
        park::ParkState,
        stack::slab::Slab,
        switch,
    },
};

/// At least the bytes of a saved context.
const SAVED_CONTEXT: usize = 32;

/// How often a stack is tried to be read before its task counts as running.
const ATTEMPTS: usize = 8;

/// What a task was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Where it was spawned.
    pub spawn_site: Option<&'static Location<'static>>,
    /// The innermost return addresses of the stack that spawned it; empty if a thread did.
    pub spawn_stack: Vec<usize>,
    task: TaskRef,
    stack: Range<usize>,
}

/// All tasks at about one time.
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

    /// Looks again at the tasks that were running: those that run no more get their stack, those that have ended go.
    pub fn look_again(&mut self, depth: usize) {
        let now = clock::coarse();
        let (running, mut rest) =
            std::mem::take(&mut self.tasks).into_iter().partition(|task: &TaskInfo| task.state == TaskState::Running);
        self.tasks.append(&mut rest);
        let running: Vec<TaskInfo> = running;
        for TaskInfo { task, .. } in running {
            if task.control().park.load().0 == task.generation {
                self.add(task.control, depth, now);
            }
        }
    }

    /// A task's return addresses, innermost first; nothing if the task was running.
    pub fn stack(&self, task: &TaskInfo) -> Option<&[usize]> {
        (task.state != TaskState::Running).then(|| &self.addresses[task.stack.clone()])
    }
}

/// How many tasks of all runtimes have not ended. Looks at each control block: some 10 ns a stack that was ever used.
pub fn count() -> usize {
    // SAFETY: control blocks are never unmapped.
    blocks().filter(|block| unsafe { block.as_ref() }.park.load().1 != ParkState::Dead).count()
}

/// How many tasks of all runtimes are running or runnable. Looks at each control block, as [`count`].
pub fn count_active() -> usize {
    // SAFETY: control blocks are never unmapped.
    blocks().filter(|block| unsafe { block.as_ref() }.park.load().1 == ParkState::Active).count()
}

/// A snapshot of the tasks of all runtimes, with at most `depth` frames of each stack.
///
/// Costs some 100 ns a task and 20 ns a frame, on the caller only. Allocates; must not be called in a signal handler.
pub fn tasks(depth: usize) -> Tasks {
    let mut all = Tasks::default();
    let now = clock::coarse();
    for block in blocks() {
        all.add(block, depth, now);
    }
    all
}

/// As [`tasks`], of some tasks only; those that have ended are left out.
pub fn tasks_of(marks: impl IntoIterator<Item = TaskMark>, depth: usize) -> Tasks {
    let mut all = Tasks::default();
    let now = clock::coarse();
    for TaskMark { task, .. } in marks {
        if task.control().park.load().0 == task.generation {
            all.add(task.control, depth, now);
        }
    }
    all
}

/// The control blocks that were ever used. Neither locks nor allocates.
pub(super) fn blocks() -> impl Iterator<Item = NonNull<Control>> {
    Slab::all().flat_map(Slab::controls)
}

impl Tasks {
    /// Adds the task that uses the control block, if one does.
    fn add(&mut self, block: NonNull<Control>, depth: usize, now: u64) {
        // SAFETY: control blocks are never unmapped.
        let control = unsafe { block.as_ref() };
        let start = self.addresses.len();
        for attempt in 0.. {
            let (generation, park) = control.park.load();
            if park == ParkState::Dead {
                return;
            }
            let epoch = control.epoch();
            let off_worker = epoch.is_multiple_of(2);
            let about = &control.about;
            let mut info = TaskInfo {
                id: TaskId(about.id.load(Ordering::Relaxed)),
                parent: about.parent.load(Ordering::Relaxed),
                runtime_id: about.runtime_id.load(Ordering::Relaxed),
                name: about.name(),
                labels: LabelSet::from_index(control.labels.load(Ordering::Relaxed)),
                state: match park {
                    ParkState::Parked | ParkState::Blocked => TaskState::Waiting(control.wait_reason()),
                    _ if off_worker => TaskState::Runnable,
                    _ => TaskState::Running,
                },
                waiting_for: match park {
                    ParkState::Parked | ParkState::Blocked => {
                        now.saturating_sub(control.waiting_since.load(Ordering::Relaxed))
                    }
                    _ => 0,
                },
                spawn_site: about.spawn_site(),
                spawn_stack: about.spawn_stack(),
                task: TaskRef { control: block, generation },
                stack: start..start,
            };
            if off_worker {
                self.copy_stack(control, depth);
                info.stack = start..self.addresses.len();
            } else {
                // Also a task that waits in place: its worker has not left its stack.
                info.state = TaskState::Running;
            }
            // The task is the same one, has not run, and has not been woken into another state: all of `info` belongs
            // together. A running task moves on all the time, so of it only the identity is checked.
            let now_park = control.park.load();
            let same = now_park.0 == generation && now_park.1 != ParkState::Dead;
            if same && (!off_worker || (control.still(epoch) && now_park.1 == park)) {
                self.tasks.push(info);
                return;
            }
            self.addresses.truncate(start);
            if same && attempt + 1 >= ATTEMPTS {
                info.state = TaskState::Running;
                info.stack = start..start;
                self.tasks.push(info);
                return;
            }
            if !same && attempt + 1 >= ATTEMPTS {
                return; // a slot whose tasks come and go faster than they can be looked at
            }
        }
    }

    fn copy_stack(&mut self, control: &Control, depth: usize) {
        let bounds = control.stack();
        let sp = control.sp.load(Ordering::Relaxed);
        // A saved context is a few words; a pointer that leaves no room for it was read while the task changed.
        if !(bounds.start..=bounds.end - SAVED_CONTEXT).contains(&(sp as usize)) {
            return;
        }
        let limit = self.addresses.len() + depth;
        // SAFETY: the pointer is inside the task's stack, which stays mapped.
        let frame = unsafe { switch::saved_frame(sp) };
        self.addresses.push(frame.pc);
        // SAFETY: as above.
        unsafe {
            unwind::walk(frame.frame_pointer, &bounds, |address| {
                if self.addresses.len() == limit {
                    return ControlFlow::Break(());
                }
                self.addresses.push(address);
                ControlFlow::Continue(())
            });
        }
    }
}
