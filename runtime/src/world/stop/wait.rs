//! What a task of the stopped world waits on, and what else can wake it.

use std::{ops::Range, sync::atomic::Ordering};

use super::{Stopped, task::Task};
use crate::{
    sync::{
        Primitive,
        waiter::{self, Waiter},
    },
    task::{
        TaskId, WaitReason,
        control::{NAME_BYTES, On, TaskRef},
        park::ParkState,
        reclaim::{NotSeized, Seized},
        stack::slab::Slab,
    },
    world::tasks,
};

/// A queue that a task waits in. A select waits in several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The primitive whose queue it is; `None` if the task has been taken out of it.
    pub primitive: Option<Primitive>,
    /// Whether the task has been chosen to be woken, and somebody is about to do so.
    pub chosen: bool,
    /// The record of the wait, on the task's stack. Nothing of the program's points there.
    pub record: Range<usize>,
    /// Addresses on the stacks of the tasks before and behind it in the queue; 0 if there is none. Whoever wakes several at
    /// once may know only the first.
    pub neighbours: [usize; 2],
}

/// A stack slot: room for a task's stack, whether it has a task or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSlot {
    /// Below [`stack_slots`], to index a table with.
    pub number: usize,
    /// Where the runtime's record of the task lies: the end of the stack.
    pub end: usize,
}

/// Remembers a task at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskMark {
    pub(in crate::world) task: TaskRef,
    epoch: u64,
}

impl TaskMark {
    /// Holds the task still, if it is parked in the very wait in which it was remembered.
    ///
    /// # Errors
    /// See [`NotSeized`].
    pub fn seize(&self) -> Result<Seized, NotSeized> {
        Seized::new(self.task, self.epoch)
    }

    /// Whether the task has ended.
    pub fn has_ended(&self) -> bool {
        let (generation, state) = self.task.control().park.load();
        generation != self.task.generation || state == ParkState::Dead
    }

    /// Whether the task has run since.
    pub fn has_run(&self) -> bool {
        let control = self.task.control();
        control.epoch() != self.epoch || control.park.load().0 != self.task.generation
    }
}

impl Task<'_> {
    /// The number of its stack slot.
    pub fn slot(&self) -> usize {
        Slab::slot_at(std::ptr::from_ref(self.control) as usize).map_or(0, |(number, _)| number)
    }

    /// The part of its stack in which something of the program's may lie: what is in use, without what the runtime keeps
    /// above the first frame. Pointers to it lead to values of the program's.
    pub fn frames(&self) -> Range<usize> {
        let used = self.stack_in_use();
        let start = self.control.closure.load(Ordering::Relaxed) as usize;
        // The closure has been moved out when the task begins.
        let end = if self.control.is_fresh() || !used.contains(&start) { used.end } else { start };
        used.start..end
    }

    /// What it waits for, if it has left its thread and nobody has woken it.
    pub fn parked(&self) -> Option<WaitReason> {
        (self.control.park.load().1 == ParkState::Parked).then(|| self.control.wait_reason())
    }

    /// Whether it is what [`Runtime::run`](crate::Runtime::run) was called with, or else was named `main` by a thread.
    pub fn is_main(&self) -> bool {
        self.parent() == 0 && self.name(&mut [0; NAME_BYTES]) == "main"
    }

    fn on(&self) -> On {
        On::from_bits(self.control.waits_on.load(Ordering::Relaxed))
    }

    /// Whether a timer ends its wait, too. For a parked task.
    pub fn is_timed(&self) -> bool {
        self.on().is_timed() || self.control.wait_reason() == WaitReason::Sleep
    }

    /// The number of the task that it joins. For a parked task.
    pub fn joins(&self) -> Option<TaskId> {
        (self.control.wait_reason() == WaitReason::Join).then(|| TaskId(self.on().as_task()))
    }

    /// The queues that it waits in. For a parked task; none if it waits for nothing that has a queue.
    pub fn queues(&self) -> impl Iterator<Item = Queued> {
        let waiter = match self.control.wait_reason() {
            WaitReason::Join | WaitReason::Sleep => std::ptr::null(),
            _ => self.on().as_waiter(),
        };
        // SAFETY: all of a task's stack is readable.
        unsafe { waiter::glances(waiter, self.stack()) }.map(|glance| Queued {
            primitive: Primitive::at(glance.queue as usize),
            chosen: glance.chosen,
            record: glance.at as usize..glance.at as usize + size_of::<Waiter>(),
            neighbours: glance.neighbours.map(|waiter| waiter as usize),
        })
    }

    /// The task as of now, to ask later whether it has run.
    pub fn mark(&self) -> TaskMark {
        let generation = self.control.park.load().0;
        TaskMark { task: TaskRef { control: self.control.into(), generation }, epoch: self.control.epoch() }
    }
}

/// Above the number of every stack slot. It grows.
pub fn stack_slots() -> usize {
    Slab::bound()
}

impl Stopped<'_> {
    /// The stack slot that an address lies in, which may be any word: in the guard, the stack, or the runtime's record. Constant
    /// time.
    #[inline]
    pub fn slot_at(&self, address: usize) -> Option<StackSlot> {
        Slab::slot_at(address).map(|(number, control)| StackSlot { number, end: control.as_ptr() as usize })
    }

    /// As [`Stopped::tasks`], of those in the slots of these numbers. Memory of the next ones is fetched meanwhile.
    pub fn tasks_among(&self, slots: Range<usize>) -> impl Iterator<Item = Task<'_>> {
        let mut blocks_ahead = Slab::controls_among(slots.clone()).skip(tasks::BLOCKS_AHEAD);
        let mut frames_ahead = Slab::controls_among(slots.clone()).skip(tasks::FRAMES_AHEAD);
        Slab::controls_among(slots)
            .map(move |control| {
                // SAFETY: control blocks are never unmapped, and only shared references to them are made.
                unsafe {
                    blocks_ahead.next().inspect(|block| block.as_ref().fetch_to_look());
                    frames_ahead.next().inspect(|block| block.as_ref().fetch_frames());
                    control.as_ref()
                }
            })
            .filter(|control| control.park.load().1 != ParkState::Dead)
            .map(|control| Task { world: self, control })
    }

    /// Where stack slots lie: in several ranges.
    pub fn slabs(&self) -> impl Iterator<Item = Range<usize>> {
        Slab::all().map(|slab| slab.place().0)
    }

    /// Gives the address of what each armed timer keeps or leads to, blocks of the heap; not tasks that sleep. `false`: a thread
    /// was stopped while changing timers, and some were not found. In an incomplete stop it gives none, and `false`.
    pub fn timers(&self, mut owner: impl FnMut(usize)) -> bool {
        #[cfg(loom)]
        return {
            let _ = &mut owner; // a model stops nobody
            false
        };
        // SAFETY: every other thread is stopped.
        #[cfg(not(loom))]
        return self.complete() && unsafe { crate::time::roll::all() }.all(|timers| timers.armed(&mut owner));
    }
}
