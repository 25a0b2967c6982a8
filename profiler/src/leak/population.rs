//! Who is there: the tasks by stack slot, the primitives by index, and who waits on what.
//!
//! Filled at the start of a scan, in the stopped world. Lists are linked by index, in tables that were made before.

use std::io;

use greenprof_runtime::{
    sync::{Primitive, PrimitiveKind},
    task::WaitReason,
    world::{
        TaskState,
        stop::{Stopped, Task, stack_slots},
    },
};

use super::memory::{Stack, Table, Zeroed};

/// The end of a list, as the index of no entry.
pub(super) const NONE: u32 = 0;

/// What is known of a stack slot. Zeroes: no task.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// The part of the stack in which something of the program's may lie.
    pub(super) low: usize,
    pub(super) high: usize,
    /// The record of its wait, or of one of its waits if it has several; 0 if it has none.
    pub(super) record: usize,
    pub(super) flags: u32,
    /// The first of the waits for its end.
    pub(super) joiners: u32,
    /// The next slot in the chain of its number's hash.
    next_by_number: u32,
}

/// It has a task.
pub(super) const TASK: u32 = 1;
/// The task may be leaked, if nothing is found that can wake it.
pub(super) const CANDIDATE: u32 = 2;
/// It is live, and is or was put on the list of those to be scanned.
pub(super) const LIVE: u32 = 4;
/// It is inside of an operation of the runtime: any pointer to a primitive counts.
pub(super) const PLAIN: u32 = 8;
/// Its runtime has ended: it will not run again, and is no leak.
pub(super) const ENDED: u32 = 16;
/// It is the main task of a runtime, and waits for nothing for ever.
pub(super) const RESTS: u32 = 64;
/// A thread is on its stack, which is scanned with the thread.
pub(super) const RUNS: u32 = 128;

// SAFETY: integers.
unsafe impl Zeroed for Slot {}

/// What is known of a primitive.
#[derive(Clone, Copy)]
pub(super) struct Core {
    /// The first of the waits on it.
    pub(super) waits: u32,
    /// Whether something was found that can wake them.
    pub(super) reached: u32,
}

// SAFETY: integers.
unsafe impl Zeroed for Core {}

/// That a task waits on a primitive, or for the end of a task.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    pub(super) slot: u32,
    pub(super) next: u32,
}

// SAFETY: integers.
unsafe impl Zeroed for Wait {}

pub(super) struct Population {
    pub(super) slots: Table<Slot>,
    pub(super) cores: Table<Core>,
    waits: Stack<Wait>,
    /// Heads of chains of slots, by the hash of the task's number.
    by_number: Table<u32>,
    /// Where a candidate was not taken because a handle has been copied.
    pub(super) suppressed: usize,
    pub(super) tasks: usize,
    pub(super) blocked: usize,
}

impl Population {
    /// Room for what there is now, and a little more, times `scale`.
    pub(super) fn new(scale: usize) -> io::Result<Self> {
        let slots = (stack_slots() + 4096) * scale;
        let mut population = Self {
            slots: Table::new(slots)?,
            cores: Table::new((Primitive::bound() + 4096) * scale)?,
            waits: Stack::new((slots * 2 + 65_536) * scale)?,
            by_number: Table::new(slots.next_power_of_two())?,
            suppressed: 0,
            tasks: 0,
            blocked: 0,
        };
        population.waits.push(Wait { slot: 0, next: NONE }); // the entry that ends lists
        Ok(population)
    }

    /// The first of a list, and the one behind it.
    #[inline]
    pub(super) fn wait(&self, at: u32) -> Option<Wait> {
        if at == NONE { None } else { self.waits.values().get(at as usize).copied() }
    }

    fn hash(&self, number: u64) -> usize {
        number as usize & (self.by_number.len() - 1)
    }

    /// The slot of a task's number.
    pub(super) fn slot_of(&self, world: &Stopped<'_>, number: u64) -> Option<usize> {
        let mut next = *self.by_number.get(self.hash(number))?;
        while next != NONE {
            let at = next as usize - 1;
            let slot = self.slots.get(at)?;
            if world.task_at(slot.high).is_some_and(|task| task.id().get() == number) {
                return Some(at);
            }
            next = slot.next_by_number;
        }
        None
    }

    /// Enters all tasks, and then their waits. `ended` are the numbers of the runtimes that have. `false`: there is no room.
    pub(super) fn enter(&mut self, world: &Stopped<'_>, ended: &[u32]) -> bool {
        if stack_slots() > self.slots.len() || Primitive::bound() > self.cores.len() {
            return false;
        }
        for task in world.tasks() {
            self.enter_task(&task, ended);
        }
        world.tasks().all(|task| self.enter_waits(world, &task))
    }

    fn enter_task(&mut self, task: &Task<'_>, ended: &[u32]) {
        let frames = task.frames();
        let number = task.id().get();
        let hash = self.hash(number);
        let at = task.slot();
        let mut flags = TASK;
        match task.parked() {
            _ if ended.binary_search(&task.runtime_id()).is_ok() => flags |= ENDED,
            Some(reason) if reason == WaitReason::Sleep || task.is_timed() => {}
            Some(reason) => {
                flags |= CANDIDATE;
                if reason == WaitReason::SelectNoCases && task.is_main() {
                    flags |= RESTS;
                }
            }
            None => flags |= PLAIN,
        }
        // Only an odd epoch makes this look at all threads.
        if task.parked().is_none() && task.state() != TaskState::Runnable && task.thread().is_some() {
            flags |= RUNS;
        }
        let next = std::mem::replace(&mut self.by_number[hash], at as u32 + 1);
        // The end of the frames is not the end of the stack, where the task is found.
        self.slots[at] =
            Slot { low: frames.start, high: frames.end, record: 0, flags, joiners: NONE, next_by_number: next };
        self.tasks += usize::from(flags & ENDED == 0);
    }

    fn enter_waits(&mut self, world: &Stopped<'_>, task: &Task<'_>) -> bool {
        let at = task.slot();
        if self.slots[at].flags & CANDIDATE == 0 {
            return true;
        }
        self.blocked += 1;
        if let Some(number) = task.joins() {
            // Whoever ends another runtime wakes those who join its tasks. One that is not found has ended.
            let joined = self.slot_of(world, number.get()).filter(|joined| {
                let other = world.task_at(self.slots[*joined].high);
                other.is_some_and(|other| other.runtime_id() == task.runtime_id())
            });
            return match joined {
                Some(joined) => {
                    let first = self.slots[joined].joiners;
                    self.slots[joined].joiners = self.waits.values().len() as u32;
                    self.waits.push(Wait { slot: at as u32, next: first })
                }
                None => {
                    self.release(at);
                    true
                }
            };
        }
        let mut queues = 0;
        for queued in task.queues() {
            queues += 1;
            self.slots[at].record = queued.record.start;
            let Some(primitive) = queued.primitive.filter(|_| !queued.chosen) else {
                self.release(at);
                continue;
            };
            if primitive.is_aliased() {
                self.suppressed += usize::from(self.slots[at].flags & CANDIDATE != 0);
                self.release(at);
                continue;
            }
            let Some(core) = self.cores.get_mut(primitive.index()) else { return false };
            let first = std::mem::replace(&mut core.waits, self.waits.values().len() as u32);
            if !self.waits.push(Wait { slot: at as u32, next: first }) {
                return false;
            }
        }
        let for_ever = matches!(
            task.parked(),
            Some(WaitReason::ChanReceiveNil | WaitReason::ChanSendNil | WaitReason::SelectNoCases)
        );
        if queues == 0 && !for_ever {
            self.release(at);
        }
        true
    }

    /// The task is about to be woken, or cannot be judged.
    fn release(&mut self, at: usize) {
        let flags = &mut self.slots[at].flags;
        *flags = *flags & !CANDIDATE | PLAIN;
    }
}

/// Whether a task that waits is itself a sign that others on the primitive get their turn: the lock is handed on.
pub(super) fn is_handed_on(kind: Option<PrimitiveKind>) -> bool {
    matches!(
        kind,
        Some(
            PrimitiveKind::Mutex
                | PrimitiveKind::RwLock
                | PrimitiveKind::RawMutex
                | PrimitiveKind::RawRwLock
                | PrimitiveKind::Once
        )
    )
}
