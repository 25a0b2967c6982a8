//! A task of the stopped world. Nothing moves, so what is read here belongs together, unlike in a snapshot
//! ([`crate::world::tasks`]); and nothing here allocates.

use std::{fmt, ops::Range, panic::Location, sync::atomic::Ordering};

use super::{Stopped, Thread, registers::RED_ZONE};
use crate::{
    labels::LabelSet,
    sys::clock,
    task::{
        TaskId,
        control::{Control, NAME_BYTES},
        park::ParkState,
    },
    world::TaskState,
};

/// A task that has not ended, while the world is stopped. If the stop is not complete, a moment's answer.
#[derive(Clone, Copy)]
pub struct Task<'w> {
    pub(super) world: &'w Stopped<'w>,
    pub(super) control: &'static Control,
}

// All Relaxed: the answer of the thread that wrote a field (Release) was read with Acquire.
impl<'w> Task<'w> {
    /// Its number.
    pub fn id(&self) -> TaskId {
        TaskId(self.control.about.id.load(Ordering::Relaxed))
    }

    /// The task that spawned it; 0 if a thread did.
    pub fn parent(&self) -> u64 {
        self.control.about.parent.load(Ordering::Relaxed)
    }

    /// The runtime it belongs to.
    pub fn runtime_id(&self) -> u32 {
        self.control.about.runtime_id.load(Ordering::Relaxed)
    }

    /// Its name, copied to a buffer; empty if it has none.
    pub fn name<'b>(&self, buffer: &'b mut [u8; NAME_BYTES]) -> &'b str {
        let length = self.control.about.copy_name(buffer);
        str::from_utf8(&buffer[..length]).unwrap_or_default()
    }

    /// Its labels. Only [`LabelSet::index`] may be asked of them before the release: the text is behind a lock.
    pub fn labels(&self) -> LabelSet {
        LabelSet::from_index(self.control.labels.load(Ordering::Relaxed))
    }

    /// What it was doing. A task that waits without having left its thread is waiting, with a thread.
    pub fn state(&self) -> TaskState {
        match self.control.park.load().1 {
            ParkState::Parked | ParkState::Blocked => TaskState::Waiting(self.control.wait_reason()),
            _ if self.thread().is_some() => TaskState::Running,
            _ => TaskState::Runnable,
        }
    }

    /// How long it has waited, in nanoseconds, as of the last kernel tick; 0 if it does not wait.
    pub fn waiting_for(&self) -> u64 {
        match self.state() {
            TaskState::Waiting(_) => clock::coarse().saturating_sub(self.control.waiting_since.load(Ordering::Relaxed)),
            _ => 0,
        }
    }

    /// Where it was spawned.
    pub fn spawn_site(&self) -> Option<&'static Location<'static>> {
        self.control.about.spawn_site()
    }

    /// The thread that stands on its stack, or has left it for a signal handler's. Looks at all threads if there is one.
    pub fn thread(&self) -> Option<Thread<'w>> {
        // Even while no worker has switched to it.
        if self.control.epoch().is_multiple_of(2) {
            return None;
        }
        let own = self.stack();
        self.world.threads().find(|thread| {
            let runs =
                thread.worker().and_then(|worker| worker.control()).is_some_and(|c| std::ptr::eq(c, self.control));
            // A worker that has set the task, and still or again is on its own stack, is switching.
            runs && (own.contains(&thread.sp())
                || !thread.worker().is_some_and(|worker| worker.stack().contains(&thread.sp())))
        })
    }

    /// Its whole stack, lowest address first, all of it readable. Above its end lies the control block.
    pub fn stack(&self) -> Range<usize> {
        self.control.stack()
    }

    /// The part of its stack that is in use: from the saved stack pointer, or from that of the thread that stands on it,
    /// with the red zone; the whole, if that thread is in a signal handler on another stack.
    pub fn stack_in_use(&self) -> Range<usize> {
        let stack = self.stack();
        let sp = match self.thread() {
            Some(thread) => thread.sp().saturating_sub(RED_ZONE),
            None => self.control.sp.load(Ordering::Relaxed) as usize,
        };
        if sp > stack.end { stack } else { sp.max(stack.start)..stack.end }
    }

    /// The address of its task-locals, which are in the program's heap; 0 if it has none.
    pub fn locals(&self) -> usize {
        self.control.locals.load(Ordering::Relaxed) as usize
    }
}

impl fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id()).field("state", &self.state()).finish_non_exhaustive()
    }
}
