//! Waking all who wait, in the order in which they came.

use super::waiter::{self, Outcome, WaitQueue};

/// Ends the wait of everybody in a queue that the caller has taken away from its primitive. No lock may be held.
///
/// A primitive that takes the queue under its lock wakes exactly those who waited then, however many come meanwhile.
pub(super) fn wake_all(mut waiters: WaitQueue) {
    let mut first = true;
    while let Some(waiter) = waiters.pop_front() {
        // SAFETY: taken from its queue just now.
        let parker = unsafe { waiter::finish(waiter, Outcome::Done) };
        // The first task runs next, the others behind it: a task that is to run next would push away the one before.
        if first {
            parker.unpark()
        } else {
            parker.unpark_last()
        }
        first = false;
    }
}
