//! The primitives that tasks wait on. All of them also work from plain OS threads, which then block.
//!
//! | primitive | who wakes a waiter | lock held meanwhile | order |
//! |---|---|---|---|
//! | [`Chan`] receive | a sender (hands its value over), [`Chan::close`] | the channel's, for the queue only | first in, first out |
//! | [`Chan`] send | a receiver (takes the value), [`Chan::close`] | the channel's, for the queue only | first in, first out |
//! | [`select!`](crate::select) | whoever does one of its operations first; the others are told that it is over | those of all its channels, in the order of their indices | random among what is ready |
//! | [`channel`] | as [`Chan`]; the last drop of a half closes | the channel's, for the queue only | first in, first out |
//! | [`Mutex`] lock | the guard's drop | the mutex's own, for the queue only | first in, first out among waiters; a newcomer may overtake for up to a millisecond |
//! | [`WaitGroup`] wait | the `done` that reaches zero | the wait group's | all at once |
//!
//! Shareable primitives are handles to a *core* that lies in memory of its own, made so that a leak scan can tell a live
//! handle from the bytes that a moved one has left behind.

mod chan;
pub mod channel;
mod core;
pub(crate) mod handle;
mod mutex;
pub mod select;
mod wait_group;
mod waiter;

use handle::word::Word;

/// The words of all live handles and of the guards of all locked locks, as the cores' own tables have them.
pub(crate) fn live_words() -> Vec<u64> {
    let mut words = Vec::new();
    for index in core::indices() {
        let core = core::core(index);
        words.extend(core.tags.live().into_iter().map(|tag| Word::new(index, tag).bits()));
        if core.kind() == Some(core::Kind::Mutex) {
            words.extend(mutex::guard_word(index, core));
        }
    }
    words
}

pub use chan::{Chan, Iter, SendError, TryRecvError, TrySendError};
pub use mutex::{Mutex, MutexGuard};
pub use wait_group::WaitGroup;
