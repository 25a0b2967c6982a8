//! Reclaiming tasks that nobody can wake: they unwind from their wait, so that their destructors run, and end.
//!
//! The steps, for all tasks that are to be reclaimed together. No code of the program runs before the last.
//!
//! 1. *Seize*: the park word holds the task still ([`super::park`]), if it is parked, and its epoch tells that it has not run since it
//!    was remembered. From now on its stack does not change, and a wake-up waits until it is let go.
//! 2. *Look*: whoever reclaims looks at the stack, and lets the task go if it must not be unwound.
//! 3. *Withdraw*: its waiter is taken out of its queue under the primitive's lock ([`crate::sync::withdraw`]), a select's race is won, a
//!    joiner leaves the completion word. If a waker was faster, the task is let go, and the waker's wake-up is delivered.
//! 4. *Settle*: locks from which waiters were withdrawn are put in order.
//! 5. *Evict*: a flag is set, and the task is queued. It is resumed in `Parker::park`, which sees the flag and unwinds with a payload of
//!    its own, [`Reclaimed`]. `catch_unwind` in the task's first function ends it as any panic would.
//!
//! A wait that has lent something (`task::scope`, [`Runtime::run`](crate::Runtime::run) on a task) is never withdrawn: who borrows
//! would be left with nothing. A wait with a timeout is not either, as its timer wakes it.

use std::{collections::HashMap, error, fmt, ops::Range, panic::resume_unwind, ptr::NonNull, sync::atomic::Ordering};

use super::{
    TaskId, WaitReason,
    control::{Control, On, TaskRef},
    park::{ParkState, Unpark},
    switch,
};
use crate::{
    heap, hooks,
    scheduler::{self, Place},
    sync::withdraw::{self, Unsettled, Withdrawal},
    world::tasks::blocks,
};

/// The payload with which a reclaimed task unwinds, and what [`JoinHandle::join`](super::JoinHandle::join) gives for it as the error. No panic
/// hook is called for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    task: TaskId,
}

impl Reclaimed {
    /// The task's number.
    pub fn task(&self) -> TaskId {
        self.task
    }
}

impl fmt::Display for Reclaimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} was reclaimed: nobody could have woken it", self.task)
    }
}

impl error::Error for Reclaimed {}

/// Unwinds the calling task, which was evicted.
#[cold]
#[inline(never)]
pub(super) fn unwind(control: &Control) -> ! {
    // Relaxed: set by who has queued the task, and nobody sets it again before it has parked again.
    control.evicted.store(false, Ordering::Relaxed);
    let task = TaskId(control.about.id.load(Ordering::Relaxed));
    resume_unwind(Box::new(Reclaimed { task }))
}

/// Why a task cannot be reclaimed, as far as the runtime knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSeized {
    /// It has run since, or has been woken and is about to, or has ended.
    Woken,
    /// It waits in a destructor while it unwinds.
    Unwinding,
    /// Others use what it has lent until its wait is over.
    Lends,
    /// Its runtime has been shut down, or is being.
    ShutDown,
    /// Time ends its wait.
    Timed,
}

/// A parked task that is held still. Dropping it lets the task go, as if nothing had happened.
#[derive(Debug)]
pub struct Seized {
    task: TaskRef,
}

/// Where a task that is held still continues when it is resumed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Continuation {
    /// The address.
    pub pc: usize,
    /// The stack pointer then.
    pub sp: usize,
    /// The frame pointer.
    pub frame_pointer: usize,
}

impl Seized {
    /// Holds a task still that had this epoch when it was remembered.
    pub(crate) fn new(task: TaskRef, epoch: u64) -> Result<Self, NotSeized> {
        let control = task.control();
        if !control.park.seize(task.generation) {
            let unwinding = control.park.load() == (task.generation, ParkState::Blocked);
            return Err(if unwinding { NotSeized::Unwinding } else { NotSeized::Woken });
        }
        // From here on, dropping it lets the task go.
        let seized = Self { task };
        if control.epoch() != epoch {
            return Err(NotSeized::Woken);
        }
        let on = seized.on();
        if on.lends() {
            return Err(NotSeized::Lends);
        }
        if on.is_timed() || control.wait_reason() == WaitReason::Sleep {
            return Err(NotSeized::Timed);
        }
        // SAFETY: a runtime exists as long as a task of it has not ended, and this one cannot end now.
        if unsafe { &*control.runtime.load(Ordering::Relaxed) }.shutdown.load(Ordering::SeqCst) {
            return Err(NotSeized::ShutDown);
        }
        Ok(seized)
    }

    fn on(&self) -> On {
        // Relaxed: written before the task parked.
        On::from_bits(self.task.control().waits_on.load(Ordering::Relaxed))
    }

    /// Its number.
    pub fn id(&self) -> TaskId {
        TaskId(self.task.control().about.id.load(Ordering::Relaxed))
    }

    /// Where it continues.
    pub fn continuation(&self) -> Continuation {
        let sp = self.task.control().sp.load(Ordering::Relaxed);
        // SAFETY: a task that is parked and held still has a saved context, on its own stack.
        let frame = unsafe { switch::saved_frame(sp) };
        Continuation { pc: frame.pc, sp: sp as usize + switch::SAVED_BYTES, frame_pointer: frame.frame_pointer }
    }

    /// Its stack from the saved stack pointer on, all of it readable.
    pub fn stack(&self) -> Range<usize> {
        let control = self.task.control();
        control.sp.load(Ordering::Relaxed) as usize..control.stack().end
    }

    /// Of that, the part in which something of the program's may lie.
    pub fn frames(&self) -> Range<usize> {
        let stack = self.stack();
        let end = self.task.control().closure.load(Ordering::Relaxed) as usize;
        if stack.contains(&end) { stack.start..end } else { stack }
    }

    /// Takes it out of what it waits on.
    ///
    /// # Errors
    /// If somebody has chosen to wake it before. It is let go, and that wake-up is delivered.
    pub fn withdraw(self, tasks: &mut Directory) -> Result<Withdrawn, NotSeized> {
        let control = self.task.control();
        let on = self.on();
        let withdrawal = match control.wait_reason() {
            WaitReason::ChanReceiveNil | WaitReason::ChanSendNil | WaitReason::SelectNoCases => Withdrawal::Done(None),
            WaitReason::Join => {
                let joined = tasks.find(on.as_task());
                let left = joined.is_some_and(|joined| joined.completion.withdraw(on.as_task()));
                if left { Withdrawal::Done(None) } else { Withdrawal::Late }
            }
            // SAFETY: a waiter on the stack of a task that waits on it, and is held still.
            _ => unsafe { on.as_waiter().as_ref() }.map_or(Withdrawal::Late, |waiter| {
                // SAFETY: as above.
                unsafe { withdraw::withdraw(waiter) }
            }),
        };
        match withdrawal {
            Withdrawal::Done(unsettled) => {
                let task = self.task;
                std::mem::forget(self);
                Ok(Withdrawn { task, unsettled })
            }
            Withdrawal::Late => Err(NotSeized::Woken),
        }
    }
}

impl Drop for Seized {
    fn drop(&mut self) {
        queue(self.task, self.task.control().park.let_go(self.task.generation));
    }
}

/// A task that waits for nothing any more, and is still held. It must be evicted.
#[derive(Debug)]
#[must_use = "a task that is held waits for ever"]
pub struct Withdrawn {
    task: TaskRef,
    unsettled: Option<Unsettled>,
}

/// Lets tasks unwind: steps 4 and 5. How many they were.
pub fn evict(tasks: Vec<Withdrawn>) -> usize {
    heap::untracked(|| {
        let mut unsettled: Vec<Unsettled> = tasks.iter().filter_map(|task| task.unsettled).collect();
        unsettled.sort_unstable();
        unsettled.dedup();
        unsettled.into_iter().for_each(withdraw::settle);
    });
    let count = tasks.len();
    for Withdrawn { task, .. } in tasks {
        let control = task.control();
        // Relaxed: the queue's hand-over orders it.
        control.evicted.store(true, Ordering::Relaxed);
        queue(task, control.park.evict(task.generation));
    }
    count
}

fn queue(task: TaskRef, woken: Unpark) {
    if woken == Unpark::Schedule {
        hooks::task_woken(task);
        scheduler::schedule_from(scheduler::current_worker(), task.control, Place::Last);
    }
}

/// Tasks by number, for joins. Filled when it is first asked.
#[derive(Debug, Default)]
pub struct Directory(Option<HashMap<u64, NonNull<Control>>>);

impl Directory {
    /// The control block that had a task when the directory was filled. Who uses it compares the number.
    fn find(&mut self, number: u64) -> Option<&'static Control> {
        let known = self.0.get_or_insert_with(|| {
            // SAFETY: control blocks are never unmapped.
            blocks().map(|block| (unsafe { block.as_ref() }.about.id.load(Ordering::Relaxed), block)).collect()
        });
        // SAFETY: as above.
        known.get(&number).map(|block| unsafe { block.as_ref() })
    }
}
