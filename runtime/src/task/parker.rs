//! Waiting and waking, for tasks and for plain OS threads alike.
//!
//! A primitive keeps the [`Parker`] of each waiter, changes the waiter's state, and then unparks. The waiter loops:
//! [`Parker::park`] may return without reason, and a waker that comes late may touch a parker whose owner has gone on.
//! Both kinds are type-stable, so that is harmless.

use std::{cell::Cell, time::Duration};

use parking_lot::Mutex;

use super::{
    WaitReason,
    control::{Control, On, TaskRef},
    reclaim,
};
use crate::{
    heap,
    scheduler::{self, Departure, Place, current_worker},
    sys::{
        atomic::{AtomicU32, Ordering},
        clock, futex, memory,
    },
    time::Action,
};

/// Who waits. Copied freely; never dangles.
#[derive(Clone, Copy)]
pub(crate) enum Parker {
    Task(TaskRef),
    Thread(&'static ThreadParker),
}

impl Parker {
    /// Lets the processor fetch what an unpark will need, while the caller does something else.
    pub(crate) fn fetch(&self) {
        if let Self::Task(task) = self {
            memory::prefetch(task.control.as_ptr());
        }
    }

    /// The parker of the calling task, or of the calling thread when it runs none.
    #[inline]
    pub(crate) fn current() -> Self {
        match current_worker().and_then(|worker| worker.task()) {
            Some(task) => Self::Task(task),
            None => Self::Thread(ThreadParker::current()),
        }
    }

    /// Waits until unparked, or returns at once if that has happened already. May return for no reason.
    ///
    /// Unwinds if the task is reclaimed (`task/reclaim.rs`): then it is in no queue any more, and nobody has given it anything.
    /// A select has to take its waiters out of their queues itself. It does not if `on` says that the waiter has lent something.
    ///
    /// Only its owner may call this. No lock of the runtime may be held: the waker needs it. What `on` names must stay
    /// where it is until the wait is over: a leak scan reads it.
    #[inline]
    pub(crate) fn park(self, reason: WaitReason, on: On) {
        match self {
            Self::Task(task) => {
                let control = task.control();
                park_task(control, reason, on);
                // Here and not in there, so that what a task waits in has no frame of its own, which waking it would touch.
                // Relaxed: set by who has queued the task. A wait with a deadline is never evicted.
                if control.evicted.load(Ordering::Relaxed) {
                    reclaim::unwind(control);
                }
            }
            Self::Thread(thread) => thread.park(None),
        }
    }

    /// Like `park`, but returns at `deadline` (of [`clock::now`]) at the latest, give or take what a wake-up takes.
    pub(crate) fn park_until(self, reason: WaitReason, on: On, deadline: u64) {
        match self {
            Self::Task(task) => {
                let worker = current_worker().expect("a task parks on its worker");
                let timers = worker.shared().timers.clone();
                let timer = timers.arm(deadline, Action::Unpark(self));
                // A runtime that has shut down arms no timers.
                park_task(task.control(), reason, if timer.is_ok() { on.timed() } else { on });
                // Woken by somebody else, as most waits with a timeout are: the timer must not stay until its time.
                if let Ok(timer) = timer {
                    timers.disarm(timer);
                }
            }
            Self::Thread(thread) => {
                thread.park(Some(Duration::from_nanos(deadline.saturating_sub(clock::now()))));
            }
        }
    }

    /// Wakes the owner, or makes its next `park` return at once.
    #[inline]
    pub(crate) fn unpark(self) {
        match self {
            Self::Task(task) => scheduler::wake(task, Place::Next),
            Self::Thread(thread) => thread.unpark(),
        }
    }

    /// Like `unpark`, but a task runs behind the others of this worker.
    pub(crate) fn unpark_last(self) {
        match self {
            Self::Task(task) => scheduler::wake(task, Place::Last),
            Self::Thread(thread) => thread.unpark(),
        }
    }
}

#[inline(never)]
fn park_task(control: &Control, reason: WaitReason, on: On) {
    // Relaxed: for readers that validate by epoch; the task's departure publishes them.
    control.wait_reason.store(reason as u8, Ordering::Relaxed);
    control.waiting_since.store(clock::coarse(), Ordering::Relaxed);
    control.waits_on.store(on.bits(), Ordering::Relaxed);
    if control.park.take_token() {
        return;
    }
    if std::thread::panicking() {
        // std counts panics per OS thread: if this task left now, the next one here would see itself panicking and
        // poison its locks, and this one would continue on a thread that knows of no panic.
        block_in_place(control);
    } else {
        scheduler::leave(Departure::Park);
    }
}

#[cold]
fn block_in_place(control: &Control) {
    if control.park.begin_block() {
        let (word, value) = control.park.futex();
        while control.park.is_blocked() {
            // SAFETY: the word is half of the control block's park word, which is never unmapped.
            futex::wait(unsafe { &*word }, value, None);
        }
    }
}

const EMPTY: u32 = 0;
const TOKEN: u32 = 1;
const PARKED: u32 = 2;

/// The park word of a plain OS thread.
pub(crate) struct ThreadParker {
    word: AtomicU32,
}

/// Parkers without a thread. They are leaked, and handed from thread to thread.
static UNUSED: Mutex<Vec<&'static ThreadParker>> = Mutex::new(Vec::new());

/// Gives the parker back when its thread ends.
struct Lease(&'static ThreadParker);

impl Drop for Lease {
    fn drop(&mut self) {
        heap::untracked(|| UNUSED.lock().push(self.0));
    }
}

#[cfg(not(loom))]
thread_local! {
    static LEASE: Cell<Option<Lease>> = const { Cell::new(None) };
}

#[cfg(loom)]
loom::thread_local! {
    static LEASE: Cell<Option<Lease>> = Cell::new(None);
}

impl ThreadParker {
    fn take() -> &'static Self {
        // A parker of one execution of a model is of no use to the next.
        let unused = if cfg!(loom) { None } else { UNUSED.lock().pop() };
        let make = || &*Box::leak(Box::new(ThreadParker { word: AtomicU32::new(EMPTY) }));
        unused.unwrap_or_else(|| heap::untracked(make))
    }

    /// Never inlined, like everything that touches a thread-local and may be called near a switch.
    #[inline(never)]
    fn current() -> &'static Self {
        LEASE
            .try_with(|cell| {
                let lease = cell.take().unwrap_or_else(|| Lease(Self::take()));
                let parker = lease.0;
                cell.set(Some(lease));
                parker
            })
            // The thread is ending and its lease is gone: this wait leaks a parker.
            .unwrap_or_else(|_| Self::take())
    }

    fn park(&self, timeout: Option<Duration>) {
        // Acquire: pairs with the Release in `unpark`.
        if self.word.compare_exchange(EMPTY, PARKED, Ordering::Acquire, Ordering::Acquire).is_ok() {
            futex::wait(&self.word, PARKED, timeout);
        }
        // A token that arrives in between belongs to this wait as well: waiters look at their own condition afterwards.
        // Acquire: pairs with the Release in `unpark`, also of that later token.
        self.word.swap(EMPTY, Ordering::Acquire);
    }

    fn unpark(&self) {
        // Release: pairs with the Acquire in `park`.
        if self.word.swap(TOKEN, Ordering::Release) == PARKED {
            futex::wake_one(&raw const self.word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_thread_wakes_a_thread_before_and_after_it_parks() {
        let (give, take) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let parker = Parker::current();
            give.send(parker).unwrap();
            parker.park(WaitReason::ChanReceive, On::NOTHING);
            give.send(parker).unwrap();
            parker.park(WaitReason::ChanReceive, On::NOTHING);
        });
        let parker = take.recv().unwrap();
        parker.unpark();
        take.recv().unwrap();
        std::thread::sleep(Duration::from_millis(10));
        parker.unpark();
        thread.join().unwrap();
        parker.unpark();
    }
}
