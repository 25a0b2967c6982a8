//! One look at a task, without stopping it.
//!
//! What is said of a task and its stack are copied while it is parked or queued, between two looks at its epoch: if it has
//! run in between, the copy is thrown away and made again. A task that keeps running has no stack here.
//!
//! The copies go to buffers that the next look uses again, so a look allocates nothing.

use std::{
    ops::ControlFlow,
    panic::Location,
    ptr::NonNull,
    sync::atomic::{Ordering, fence},
};

use super::{tasks::TaskState, unwind};
use crate::{
    labels::LabelSet,
    sys::clock,
    task::{
        TaskId,
        control::{Control, NAME_BYTES, SPAWN_FRAMES, TaskRef},
        park::ParkState,
        switch,
    },
};

/// At least the bytes of a saved context.
const SAVED_CONTEXT: usize = 32;

/// How often a stack is tried to be read before its task counts as running.
const ATTEMPTS: usize = 8;

/// A task as it was at one moment. Borrows from buffers that the next task's will be copied to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TaskView<'a> {
    /// Its number.
    pub id: TaskId,
    /// The task that spawned it; 0 if a thread did.
    pub parent: u64,
    /// The runtime it belongs to.
    pub runtime_id: u32,
    /// Its name, if it has one.
    pub name: Option<&'a str>,
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
    pub spawn_stack: &'a [usize],
    /// Its return addresses, innermost first; nothing if it was running.
    pub stack: Option<&'a [usize]>,
    pub(super) task: TaskRef,
}

/// Looks at one task after another.
pub(super) struct Reader {
    /// Frames kept of a stack.
    depth: usize,
    now: u64,
    name: [u8; NAME_BYTES],
    spawn_stack: [usize; SPAWN_FRAMES],
    stack: Vec<usize>,
}

impl Reader {
    pub(super) fn new(depth: usize) -> Self {
        let (name, spawn_stack) = ([0; NAME_BYTES], [0; SPAWN_FRAMES]);
        Self { depth, now: clock::coarse(), name, spawn_stack, stack: Vec::with_capacity(depth) }
    }

    /// The task that uses the control block, if one does, and does not come and go faster than it can be looked at.
    pub(super) fn read(&mut self, block: NonNull<Control>) -> Option<TaskView<'_>> {
        // SAFETY: control blocks are never unmapped.
        let control = unsafe { block.as_ref() };
        let about = &control.about;
        let mut attempt = 1;
        loop {
            let (generation, park) = control.park.load();
            if park == ParkState::Dead {
                return None;
            }
            let epoch = control.epoch();
            // Else it may be one that waits in place: its worker has not left its stack.
            let mut off_worker = epoch.is_multiple_of(2);
            let waits = matches!(park, ParkState::Parked | ParkState::Blocked);
            let id = TaskId(about.id.load(Ordering::Relaxed));
            let parent = about.parent.load(Ordering::Relaxed);
            let runtime_id = about.runtime_id.load(Ordering::Relaxed);
            let labels = LabelSet::from_index(control.labels.load(Ordering::Relaxed));
            let reason = control.wait_reason();
            let since = control.waiting_since.load(Ordering::Relaxed);
            let closure_name = about.closure_name();
            let spawn_site = about.spawn_site();
            let name = about.name(&mut self.name).map(str::len);
            let spawn_frames = about.spawn_stack(&mut self.spawn_stack).len();
            self.stack.clear();
            if off_worker {
                copy_stack(control, self.depth, &mut self.stack);
            }
            // The task is the same one, has not run, and has not been woken into another state: all that was read belongs
            // together. A running task moves on all the time, so of it only the identity is checked. Acquire: the reads
            // above come first; the other side is in `Control::begin_run` and `ParkWord::start`.
            fence(Ordering::Acquire);
            let now_park = control.park.load();
            let same = now_park.0 == generation && now_park.1 != ParkState::Dead;
            let unmoved = same && (!off_worker || (control.still(epoch) && now_park.1 == park));
            if !unmoved && attempt < ATTEMPTS {
                attempt += 1;
                continue;
            }
            if !same {
                return None;
            }
            off_worker &= unmoved;
            return Some(TaskView {
                id,
                parent,
                runtime_id,
                name: name.and_then(|length| str::from_utf8(&self.name[..length]).ok()),
                labels,
                state: match off_worker {
                    false => TaskState::Running,
                    true if waits => TaskState::Waiting(reason),
                    true => TaskState::Runnable,
                },
                waiting_for: if off_worker && waits { self.now.saturating_sub(since) } else { 0 },
                closure_name,
                spawn_site,
                spawn_stack: &self.spawn_stack[..spawn_frames],
                stack: off_worker.then_some(&self.stack),
                task: TaskRef { control: block, generation },
            });
        }
    }
}

fn copy_stack(control: &Control, depth: usize, into: &mut Vec<usize>) {
    let bounds = control.stack();
    let sp = control.sp.load(Ordering::Relaxed);
    // A saved context is a few words; a pointer that leaves no room for it was read while the task changed.
    if !(bounds.start..=bounds.end - SAVED_CONTEXT).contains(&(sp as usize)) {
        return;
    }
    // SAFETY: the pointer is inside the task's stack, which stays mapped.
    let frame = unsafe { switch::saved_frame(sp) };
    into.push(frame.pc);
    // SAFETY: as above.
    unsafe {
        unwind::walk(frame.frame_pointer, &bounds, |address| {
            if into.len() >= depth {
                return ControlFlow::Break(());
            }
            into.push(address);
            ControlFlow::Continue(())
        });
    }
}
