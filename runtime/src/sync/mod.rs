//! The primitives that tasks wait on. All of them also work from plain OS threads, which then block.
//!
//! | primitive | who wakes a waiter | lock held meanwhile | order |
//! |---|---|---|---|
//! | [`Chan`] receive | a sender (hands its value over), [`Chan::close`] | the channel's, for the queue only | first in, first out |
//! | [`Chan`] send | a receiver (takes the value), [`Chan::close`] | the channel's, for the queue only | first in, first out |
//! | [`select!`](crate::select) | whoever does one of its operations first; the others are told that it is over | its channels', one at a time; those of all at once, in the order of their addresses, before it waits or takes the default | random among what is ready |
//! | [`channel`] | as [`Chan`]; the last drop of a half closes | the channel's, for the queue only | first in, first out |
//! | [`Mutex`] lock | the guard's drop | the mutex's own, for the queue only | first in, first out among waiters; a newcomer may overtake for up to a millisecond |
//! | [`RwLock`] read | the drop of a writer's guard: all readers that wait | the lock's own, for the queues only | first in, first out among readers; a writer that waits comes before new ones |
//! | [`RwLock`] write | the drop of the last reader's guard, or of a writer's when no reader waits | the lock's own, for the queues only | first in, first out among writers; nobody overtakes |
//! | [`RawMutex`], [`RawRwLock`] | as [`Mutex`] and [`RwLock`]: whoever unlocks | as there | as there |
//! | [`Condvar`] wait | [`Condvar::notify_one`]: the first; [`Condvar::notify_all`] | the condition variable's; the waiter's lock not by need, but often | first in, first out; then the waiter queues for its lock |
//! | [`WaitGroup`] wait | the `done` that reaches zero | the wait group's | all at once |
//! | [`Once`], [`OnceCell`] | the end of the body that runs: all; a failed [`OnceCell::get_or_init`]: the first, to try its own | the once's, for the queue only | first in, first out |
//! | [`Semaphore`] acquire | the drop of a [`Permit`], [`Semaphore::add_permits`] | the semaphore's | first in, first out; nobody overtakes |
//!
//! Waits with a timeout ([`Condvar::wait_timeout`], [`Semaphore::acquire_timeout`], [`Chan::recv_timeout`], `timeout`
//! in a select) stand in the same queues. When the time is over, the waiter leaves the queue under the primitive's
//! lock; if a waker has taken it out before, it has been served, and says so: what it was given is not lost.
//!
//! Every lock of this table is a leaf, held for a few instructions: the waker releases it before it makes the waiter
//! runnable. Tasks that one call wakes run in the order in which they came, as far as one worker runs them.
//!
//! Shareable primitives are handles to a *core* that lies in memory of its own, made so that a leak scan can tell a live
//! handle from the bytes that a moved one has left behind. [`Shared`] gives such handles to any value.

mod broadcast;
mod chan;
pub mod channel;
mod condvar;
mod core;
pub(crate) mod handle;
mod lock;
#[cfg(all(test, loom))]
mod model;
mod mutex;
mod once;
pub(crate) mod primitive;
mod raw;
mod rwlock;
pub mod select;
mod semaphore;
mod shared;
mod wait_group;
pub(crate) mod waiter;
pub(crate) mod withdraw;

use self::core::Kind;
#[cfg(all(test, loom))]
pub(crate) use self::core::mock::begin as begin_execution;
use handle::{exclusive, word::Word};

/// The words of all live handles, of the guards of all locked locks, and of those who run the body of a once, as the
/// cores' own tables have them.
pub(crate) fn live_words() -> Vec<u64> {
    let mut words = Vec::new();
    for index in core::indices() {
        let core = core::core(index);
        words.extend(core.tags.live().into_iter().map(|tag| Word::new(index, tag).bits()));
        match core.kind() {
            Some(Kind::Mutex) => words.extend(exclusive::words::<mutex::State>(index, core)),
            Some(Kind::RwLock) => words.extend(exclusive::words::<rwlock::State>(index, core)),
            Some(Kind::Once) => words.extend(exclusive::words::<once::State>(index, core)),
            _ => {}
        }
    }
    words
}

pub use self::core::Kind as PrimitiveKind;
pub use chan::{Chan, Iter, RecvTimeoutError, SendError, TryRecvError, TrySendError};
pub use condvar::{Condvar, WaitGuard, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceCell};
pub use primitive::Primitive;
pub use raw::{RawMutex, RawRwLock};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use shared::Shared;
pub use wait_group::WaitGroup;
pub(crate) use waiter::Waiter;
