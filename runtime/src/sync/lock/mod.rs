//! The states of locks, on which both the forms with guards and the raw forms stand.
//!
//! A state knows who may go on and who waits. It knows nothing of guards and values, lies in a core, and keeps its queues
//! under the core's lock.

mod exclusive;
#[cfg(all(test, loom))]
mod model;
mod shared;

pub(super) use exclusive::ExclusiveLock;
pub(super) use shared::SharedLock;
