//! Who is there: the tasks by stack slot, the primitives by index, and who waits on what.
//!
//! Filled at the start of a scan, in the stopped world. Lists are linked by index, in tables that were made before.
//!
//! Several threads fill it, and mark with it, at once. They take turns by phases: all tasks are entered before any wait is, and all
//! waits before marking begins. So each field is written by one phase and read by later ones, but for heads of lists and flags, which
//! change by one atomic operation; all accesses are relaxed, because phases begin and end with all threads.

use std::{
    io,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use greenprof_runtime::{
    sync::{Primitive, PrimitiveKind},
    task::WaitReason,
    world::{
        TaskState,
        stop::{Helpers, Stopped, Task, stack_slots},
    },
};

use super::memory::{Table, Zeroed};

/// The end of a list, as the index of no entry.
pub(super) const NONE: u32 = 0;

/// What is known of a stack slot. Zeroes: no task.
pub(super) struct Slot {
    low: AtomicUsize,
    high: AtomicUsize,
    record: AtomicUsize,
    flags: AtomicU32,
    joiners: AtomicU32,
    /// The next slot in the chain of its number's hash.
    next_by_number: AtomicU32,
}

impl Slot {
    /// The part of the stack in which something of the program's may lie.
    #[inline]
    pub(super) fn frames(&self) -> Range<usize> {
        self.low.load(Relaxed)..self.high.load(Relaxed)
    }

    /// The end of the frames: an address by which the task is found.
    #[inline]
    pub(super) fn high(&self) -> usize {
        self.high.load(Relaxed)
    }

    /// The record of its wait, or of one of its waits if it has several; 0 if it has none.
    pub(super) fn record(&self) -> usize {
        self.record.load(Relaxed)
    }

    #[inline]
    pub(super) fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// Sets a flag. Whether it was not set.
    #[inline]
    pub(super) fn raise(&self, flag: u32) -> bool {
        self.flags.fetch_or(flag, Relaxed) & flag == 0
    }

    /// The first of the waits for its end.
    pub(super) fn joiners(&self) -> u32 {
        self.joiners.load(Relaxed)
    }
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
/// It waits for a lock or the like: see [`is_handed_on`].
pub(super) const HANDED_ON: u32 = 256;
/// It has task-locals.
pub(super) const LOCALS: u32 = 512;

// SAFETY: integers.
unsafe impl Zeroed for Slot {}

/// What is known of a primitive.
pub(super) struct Core {
    /// The first of the waits on it.
    waits: AtomicU32,
    /// Whether something was found that can wake them.
    reached: AtomicBool,
}

// SAFETY: integers, and `false`.
unsafe impl Zeroed for Core {}

impl Core {
    pub(super) fn waits(&self) -> u32 {
        self.waits.load(Relaxed)
    }

    /// Notes that it is reached. Whether it was not before.
    #[inline]
    pub(super) fn reach(&self) -> bool {
        !self.reached.load(Relaxed) && !self.reached.swap(true, Relaxed)
    }
}

/// That a task waits on a primitive, or for the end of a task.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    pub(super) slot: u32,
    pub(super) next: u32,
}

pub(super) struct Population {
    pub(super) slots: Table<Slot>,
    pub(super) cores: Table<Core>,
    /// Waits, the slot in the lower half and the next one in the upper. The first is none.
    waits: Table<AtomicU64>,
    waits_used: AtomicUsize,
    /// Heads of chains of slots, by the hash of the task's number.
    by_number: Table<AtomicU32>,
    suppressed: AtomicUsize,
    tasks: AtomicUsize,
    blocked: AtomicUsize,
}

/// Slots that a thread enters at a time.
const SHARE: usize = 1024;
/// From so many slots on several threads enter them. Fewer take less time than it may take for a thread to begin.
const MANY: usize = 16 * SHARE;

impl Population {
    /// Room for what there is now, and a little more, times `scale`.
    pub(super) fn new(scale: usize) -> io::Result<Self> {
        let slots = (stack_slots() + 4096) * scale;
        Ok(Self {
            slots: Table::new(slots)?,
            cores: Table::new((Primitive::bound() + 4096) * scale)?,
            waits: Table::new((slots * 2 + 65_536) * scale)?,
            waits_used: AtomicUsize::new(1),
            by_number: Table::new(slots.next_power_of_two())?,
            suppressed: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
        })
    }

    /// How many tasks there are, how many of them are blocked, and in how many cases one was not taken for a candidate because a
    /// handle has been copied.
    pub(super) fn counts(&self) -> [usize; 3] {
        [&self.tasks, &self.blocked, &self.suppressed].map(|count| count.load(Relaxed))
    }

    /// The first of a list, and the one behind it.
    #[inline]
    pub(super) fn wait(&self, at: u32) -> Option<Wait> {
        if at == NONE {
            return None;
        }
        let wait = self.waits.get(at as usize)?.load(Relaxed);
        Some(Wait { slot: wait as u32, next: (wait >> 32) as u32 })
    }

    /// Puts a wait of that slot before the others of a list. `false`: there is no room.
    fn add_wait(&self, list: &AtomicU32, slot: usize) -> bool {
        let at = self.waits_used.fetch_add(1, Relaxed);
        let Some(wait) = self.waits.get(at) else { return false };
        let next = list.swap(at as u32, Relaxed);
        wait.store(slot as u64 | u64::from(next) << 32, Relaxed);
        true
    }

    fn hash(&self, number: u64) -> usize {
        number as usize & (self.by_number.len() - 1)
    }

    /// The slot of a task's number.
    pub(super) fn slot_of(&self, world: &Stopped<'_>, number: u64) -> Option<usize> {
        let mut next = self.by_number.get(self.hash(number))?.load(Relaxed);
        while next != NONE {
            let at = next as usize - 1;
            let slot = self.slots.get(at)?;
            if world.task_at(slot.high()).is_some_and(|task| task.id().get() == number) {
                return Some(at);
            }
            next = slot.next_by_number.load(Relaxed);
        }
        None
    }

    /// Enters all tasks, and then their waits. `ended` are the numbers of the runtimes that have. `false`: there is no room.
    pub(super) fn enter(&self, world: &Stopped<'_>, helpers: &mut Helpers, ended: &[u32]) -> bool {
        let slots = stack_slots();
        if slots > self.slots.len() || Primitive::bound() > self.cores.len() {
            return false;
        }
        let shares = |next: &AtomicUsize| {
            let start = next.fetch_add(SHARE, Relaxed);
            (start < slots).then(|| start..(start + SHARE).min(slots))
        };
        let (fits, next) = (AtomicBool::new(true), AtomicUsize::new(0));
        let tasks = |world: &Stopped<'_>| {
            while let Some(share) = shares(&next) {
                world.tasks_among(share).for_each(|task| self.enter_task(&task, ended));
            }
        };
        let next = AtomicUsize::new(0);
        let waits = |world: &Stopped<'_>| {
            while let Some(share) = shares(&next) {
                if !world.tasks_among(share).all(|task| self.enter_waits(world, &task)) {
                    fits.store(false, Relaxed);
                }
            }
        };
        if slots < MANY {
            tasks(world);
            waits(world);
        } else {
            world.together(helpers, tasks);
            world.together(helpers, waits);
        }
        fits.into_inner()
    }

    fn enter_task(&self, task: &Task<'_>, ended: &[u32]) {
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
        if task.locals() != 0 {
            flags |= LOCALS;
        }
        let slot = &self.slots[at];
        // The end of the frames is not the end of the stack, but the task is found by it as well.
        slot.low.store(frames.start, Relaxed);
        slot.high.store(frames.end, Relaxed);
        slot.flags.store(flags, Relaxed);
        slot.next_by_number.store(self.by_number[hash].swap(at as u32 + 1, Relaxed), Relaxed);
        self.tasks.fetch_add(usize::from(flags & ENDED == 0), Relaxed);
    }

    fn enter_waits(&self, world: &Stopped<'_>, task: &Task<'_>) -> bool {
        let at = task.slot();
        let slot = &self.slots[at];
        if slot.flags() & CANDIDATE == 0 {
            return true;
        }
        self.blocked.fetch_add(1, Relaxed);
        if let Some(number) = task.joins() {
            // Whoever ends another runtime wakes those who join its tasks. One that is not found has ended.
            let joined = self.slot_of(world, number.get()).filter(|joined| {
                let other = world.task_at(self.slots[*joined].high());
                other.is_some_and(|other| other.runtime_id() == task.runtime_id())
            });
            return match joined {
                Some(joined) => self.add_wait(&self.slots[joined].joiners, at),
                None => {
                    self.release(at);
                    true
                }
            };
        }
        let mut queues = 0;
        for queued in task.queues() {
            queues += 1;
            slot.record.store(queued.record.start, Relaxed);
            let Some(primitive) = queued.primitive.filter(|_| !queued.chosen) else {
                self.release(at);
                continue;
            };
            if primitive.is_aliased() {
                self.suppressed.fetch_add(usize::from(slot.flags() & CANDIDATE != 0), Relaxed);
                self.release(at);
                continue;
            }
            if is_handed_on(primitive.kind()) {
                slot.raise(HANDED_ON);
            }
            let core = self.cores.get(primitive.index());
            if !core.is_some_and(|core| self.add_wait(&core.waits, at)) {
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
    fn release(&self, at: usize) {
        // Nobody else changes the flags of this slot before marking begins.
        let flags = &self.slots[at].flags;
        flags.store(flags.load(Relaxed) & !CANDIDATE | PLAIN, Relaxed);
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
