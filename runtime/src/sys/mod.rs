//! What the runtime asks of the system: futexes, clocks, memory and threads. Nothing here knows of tasks.

pub(crate) mod atomic;
pub(crate) mod clock;
pub(crate) mod errno;
pub(crate) mod futex;
pub(crate) mod histogram;
pub(crate) mod lock;
pub(crate) mod memory;
#[cfg(all(test, loom))]
pub(crate) mod model;
pub(crate) mod preserved;
pub(crate) mod raw;
pub(crate) mod slice;
pub(crate) mod thread;
#[cfg(feature = "hooks")]
pub(crate) mod ticks;
