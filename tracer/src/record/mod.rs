//! The side of the threads that events happen on: recording without waiting for anybody.
//!
//! Each thread has a [`ring`] of its own, from its first event on. A record is two words or a few more ([`kind`]); its stack
//! is a number of a cache that each thread has ([`stack`]), in front of which the addresses are written once. Who reads the
//! rings is `engine`.

pub(crate) mod clock;
pub(crate) mod hooks;
pub(crate) mod kind;
pub(crate) mod ring;
pub(crate) mod stack;
pub(crate) mod threads;
pub(crate) mod writer;
