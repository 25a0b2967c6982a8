//! Waiting for a task's result.
//!
//! The task and its handle share a packet on the heap, so an unjoined task keeps no stack. One word decides between the
//! task that completes and the joiner that waits:
//!
//! ```text
//!   RUNNING ── joiner, parker stored ──▶ JOINING ── task, result stored ──▶ DONE (and the joiner is unparked)
//!      │  ▲                                 │
//!      │  └── joiner that gives up ─────────┘
//!      └────────────── task, result stored ─────────────────────────────────▶ DONE
//! ```
//!
//! A joiner gives up when its time is over, or when the task was abandoned (see `abandon.rs`). If the task has been
//! faster, the joiner gets its result after all.

use std::{
    any::Any,
    cell::UnsafeCell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread::Result,
    time::Duration,
};

use super::{Abandoned, TaskId, WaitReason, abandon::Lookout, control::On, parker::Parker, scope::Token};
use crate::{hooks, sys::clock};

const RUNNING: u8 = 0;
const JOINING: u8 = 1;
const DONE: u8 = 2;

pub(super) struct Packet<T> {
    state: AtomicU8,
    /// Written by the joiner while RUNNING, read by the task after it has seen JOINING.
    joiner: UnsafeCell<Option<Parker>>,
    /// Written by the task before DONE, taken by the joiner after.
    result: UnsafeCell<Option<Result<T>>>,
    /// Of a scoped task: dropped after the result.
    scope: Option<Token>,
}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        if let Some(token) = &mut self.scope {
            let result = self.result.get_mut();
            token.unhandled_panic = matches!(result, Some(Err(_)));
            // The result may borrow from outside the scope, so it goes before the scope learns of the end.
            *result = None;
        }
    }
}

// SAFETY: `state` hands each cell from one side to the other, so the packet moves a T between threads and no more. The
// payload of a panic is Send.
unsafe impl<T: Send> Sync for Packet<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Packet<T> {}

impl<T> Packet<T> {
    pub(super) fn new(scope: Option<Token>) -> Arc<Self> {
        // In zeroed memory, field by field: what is not written yet would be bytes of whatever was there or on the stack
        // before, which a leak scan takes for words.
        let mut packet = Arc::<Self>::new_zeroed();
        let at = Arc::get_mut(&mut packet).expect("made above").as_mut_ptr();
        // SAFETY: the fields of a fresh packet, each of them once.
        unsafe {
            (&raw mut (*at).state).write(AtomicU8::new(RUNNING));
            (&raw mut (*at).joiner).write(UnsafeCell::new(None));
            (&raw mut (*at).result).write(UnsafeCell::new(None));
            (&raw mut (*at).scope).write(scope);
            packet.assume_init()
        }
    }

    /// Called once, by the task.
    pub(super) fn complete(&self, result: Result<T>) {
        // SAFETY: before DONE the result belongs to the task.
        unsafe { *self.result.get() = Some(result) };
        // AcqRel: Release pairs with the Acquire in `join` and `is_finished`, Acquire with the Release in `join`.
        if self.state.swap(DONE, Ordering::AcqRel) == JOINING {
            // SAFETY: the joiner stored it before JOINING and does not touch it again.
            let joiner = unsafe { *self.joiner.get() };
            joiner.expect("stored before JOINING").unpark_last();
        }
    }

    fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `complete`.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// The joiner gives up. `false`: the task has been faster.
    fn withdraw(&self) -> bool {
        // Relaxed: only the joiner leaves and enters JOINING. Acquire: pairs with the Release in `complete`.
        self.state.compare_exchange(JOINING, RUNNING, Ordering::Relaxed, Ordering::Acquire).is_ok()
    }
}

/// How a wait for a task has ended.
#[derive(PartialEq, Eq)]
enum End {
    Done,
    TimedOut,
    Abandoned,
}

/// Owns the right to wait for a task. Dropping it lets the task go on by itself.
pub struct JoinHandle<T> {
    pub(super) packet: Arc<Packet<T>>,
    pub(super) id: TaskId,
    /// The number of the task's runtime.
    pub(super) runtime: u32,
}

impl<T> JoinHandle<T> {
    /// Waits for the task to end and returns its result, or the payload of the panic that ended it.
    ///
    /// May be called from a task or from a plain OS thread, which then blocks.
    ///
    /// # Errors
    /// The payload of the task's panic, as [`std::thread::JoinHandle::join`] gives it. If the runtime was shut down
    /// before the task ended, it is an [`Abandoned`], no matter whether that happened before or during the join. (On a
    /// task of that same runtime the join does not return, because that task is abandoned, too.)
    pub fn join(self) -> Result<T> {
        match self.wait(None, true) {
            End::Abandoned => Err(Box::new(Abandoned { task: self.id })),
            _ => self.take(),
        }
    }

    /// Waits for the task to end, for `timeout` at the most. Gives the handle back if it has not.
    ///
    /// # Errors
    /// The handle when the time was over; else as [`JoinHandle::join`] gives it.
    pub fn join_timeout(self, timeout: Duration) -> std::result::Result<Result<T>, Self> {
        match self.wait(Some(clock::after(timeout)), true) {
            End::TimedOut => Err(self),
            End::Abandoned => Ok(Err(Box::new(Abandoned { task: self.id }))),
            End::Done => Ok(self.take()),
        }
    }

    /// Like `join`, and returns only when the task has ended: for who has lent it something.
    pub(crate) fn join_ended(self) -> Result<T> {
        self.wait(None, false);
        self.take()
    }

    fn wait(&self, deadline: Option<u64>, may_be_abandoned: bool) -> End {
        let packet = &*self.packet;
        if packet.is_done() {
            return End::Done;
        }
        let parker = Parker::current();
        let lookout = if may_be_abandoned { Lookout::new(self.runtime, parker) } else { None };
        // SAFETY: while RUNNING the cell belongs to the joiner, and there is one.
        unsafe { *packet.joiner.get() = Some(parker) };
        // Release pairs with the Acquire in `complete`; Acquire on failure with its Release.
        if packet.state.compare_exchange(RUNNING, JOINING, Ordering::Release, Ordering::Acquire).is_err() {
            return End::Done;
        }
        let wait = hooks::wait_begin();
        let end = loop {
            if packet.is_done() {
                break End::Done;
            }
            let give_up = if lookout.as_ref().is_some_and(Lookout::has_ended) {
                End::Abandoned
            } else if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                End::TimedOut
            } else {
                match deadline {
                    None => parker.park(WaitReason::Join, On::end_of(self.id)),
                    Some(deadline) => parker.park_until(WaitReason::Join, On::end_of(self.id), deadline),
                }
                continue;
            };
            break if packet.withdraw() { give_up } else { End::Done };
        };
        hooks::wait_end(wait, WaitReason::Join);
        end
    }

    /// The result of a task that has ended.
    fn take(self) -> Result<T> {
        debug_assert!(self.packet.is_done());
        // SAFETY: DONE was seen, so the result is ours.
        unsafe { (*self.packet.result.get()).take() }.expect("a task completes once and is joined once")
    }

    /// Whether the task has ended, so that `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.packet.is_done()
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.id
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id).field("finished", &self.is_finished()).finish()
    }
}

const _: fn() = || {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<JoinHandle<Box<dyn Any + Send>>>();
};
