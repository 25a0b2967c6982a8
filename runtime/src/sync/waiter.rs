//! The queue of those who wait on a primitive.
//!
//! A waiter lives on the stack of whoever waits. While it is in a queue, the primitive's lock guards its links; whoever
//! takes it out finishes it, once, with an outcome. After that the waiter may be gone at any moment.

use std::{
    cell::Cell,
    ptr,
    sync::atomic::{AtomicU8, Ordering},
};

use crate::{
    hooks,
    sys::clock,
    task::{WaitReason, parker::Parker},
};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Outcome {
    /// What was waited for has happened.
    Done = 1,
    /// The channel was closed.
    Closed = 2,
    /// Try again: the lock is free, but not given to the waiter.
    Retry = 3,
}

const WAITING: u8 = 0;

pub(super) struct Waiter {
    parker: Parker,
    outcome: AtomicU8,
    /// Where a value is taken from or put to.
    pub(super) slot: *mut u8,
    /// When a lock's waiter came, in nanoseconds; 0 for others.
    pub(super) since: u64,
    next: Cell<*const Waiter>,
}

impl Waiter {
    #[inline]
    pub(super) fn new(slot: *mut u8) -> Self {
        Self {
            parker: Parker::current(),
            outcome: AtomicU8::new(WAITING),
            slot,
            since: 0,
            next: Cell::new(ptr::null()),
        }
    }

    /// A waiter that remembers when it came.
    pub(super) fn since_now() -> Self {
        Self { since: clock::now(), ..Self::new(ptr::null_mut()) }
    }

    /// Waits until somebody has finished the waiter, which must be in a queue whose lock has been released.
    #[inline]
    pub(super) fn wait(&self, reason: WaitReason) -> Outcome {
        let wait = hooks::wait_begin();
        let outcome = loop {
            // Acquire: pairs with the Release in `finish`: the value in the slot is visible.
            match self.outcome.load(Ordering::Acquire) {
                WAITING => self.parker.park(reason),
                1 => break Outcome::Done,
                2 => break Outcome::Closed,
                _ => break Outcome::Retry,
            }
        };
        hooks::wait_end(wait, reason);
        outcome
    }

    /// Makes the waiter usable for another wait. It must be finished.
    pub(super) fn reset(&self) {
        debug_assert_ne!(self.outcome.load(Ordering::Relaxed), WAITING);
        self.outcome.store(WAITING, Ordering::Relaxed);
    }
}

/// Ends a wait. The caller has taken the waiter from its queue and unparks what this returns, after which the waiter
/// must not be touched.
///
/// # Safety
/// `waiter` must have been taken from a queue by the caller, and not been finished since.
#[inline]
pub(super) unsafe fn finish(waiter: *const Waiter, outcome: Outcome) -> Parker {
    // SAFETY: until the outcome is stored the waiter waits, so it is alive; the parker is copied before.
    unsafe {
        let parker = (*waiter).parker;
        // Release: pairs with the Acquire in `wait`.
        (*waiter).outcome.store(outcome as u8, Ordering::Release);
        parker
    }
}

/// Waiters, first in, first out.
pub(super) struct WaitQueue {
    head: *const Waiter,
    tail: *const Waiter,
}

impl WaitQueue {
    pub(super) const fn new() -> Self {
        Self { head: ptr::null(), tail: ptr::null() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// # Safety
    /// The waiter must be in no queue, and must stay where it is until it has been finished.
    #[inline]
    pub(super) unsafe fn push_back(&mut self, waiter: &Waiter) {
        waiter.next.set(ptr::null());
        if self.tail.is_null() {
            self.head = waiter;
        } else {
            // SAFETY: waiters in the queue wait, so they are alive.
            unsafe { (*self.tail).next.set(waiter) };
        }
        self.tail = waiter;
    }

    /// # Safety
    /// As for `push_back`.
    pub(super) unsafe fn push_front(&mut self, waiter: &Waiter) {
        waiter.next.set(self.head);
        if self.tail.is_null() {
            self.tail = waiter;
        }
        self.head = waiter;
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<*const Waiter> {
        if self.head.is_null() {
            return None;
        }
        let waiter = self.head;
        // SAFETY: waiters in the queue wait, so they are alive.
        self.head = unsafe { (*waiter).next.get() };
        if self.head.is_null() {
            self.tail = ptr::null();
        }
        Some(waiter)
    }
}
