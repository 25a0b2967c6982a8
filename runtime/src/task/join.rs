//! Waiting for a task's result.
//!
//! The task and its handle share a packet on the heap, so an unjoined task keeps no stack. One word decides between the
//! task that completes and the joiner that waits:
//!
//! ```text
//!   RUNNING ── joiner, parker stored ──▶ JOINING ── task, result stored ──▶ DONE (and the joiner is unparked)
//!      └────────────── task, result stored ─────────────────────────────────▶ DONE
//! ```

use std::{
    any::Any,
    cell::UnsafeCell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread::Result,
};

use super::{TaskId, WaitReason, parker::Parker, scope::Token};
use crate::hooks;

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
        Arc::new(Self {
            state: AtomicU8::new(RUNNING),
            joiner: UnsafeCell::new(None),
            result: UnsafeCell::new(None),
            scope,
        })
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
}

/// Owns the right to wait for a task. Dropping it lets the task go on by itself.
pub struct JoinHandle<T> {
    pub(super) packet: Arc<Packet<T>>,
    pub(super) id: TaskId,
}

impl<T> JoinHandle<T> {
    /// Waits for the task to end and returns its result, or the payload of the panic that ended it.
    ///
    /// May be called from a task or from a plain OS thread, which then blocks.
    ///
    /// # Errors
    /// The payload of the task's panic, as [`std::thread::JoinHandle::join`] gives it.
    pub fn join(self) -> Result<T> {
        let packet = &*self.packet;
        // Acquire: pairs with the Release in `complete`.
        if packet.state.load(Ordering::Acquire) != DONE {
            let parker = Parker::current();
            // SAFETY: while RUNNING the cell belongs to the joiner, and there is one.
            unsafe { *packet.joiner.get() = Some(parker) };
            // Release pairs with the Acquire in `complete`; Acquire on failure with its Release.
            if packet.state.compare_exchange(RUNNING, JOINING, Ordering::Release, Ordering::Acquire).is_ok() {
                let wait = hooks::wait_begin();
                while packet.state.load(Ordering::Acquire) != DONE {
                    parker.park(WaitReason::Join);
                }
                hooks::wait_end(wait, WaitReason::Join);
            }
        }
        // SAFETY: DONE was seen, so the result is ours.
        unsafe { (*packet.result.get()).take() }.expect("a task completes once and is joined once")
    }

    /// Whether the task has ended, so that `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.packet.state.load(Ordering::Acquire) == DONE
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
