//! Where the program called the detector. What lies below is the detector's, and no root.

use greenprof_runtime::world::stop::{Preserved, preserved};

#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// What the callers of the function that this was made in have in registers is here, or on the stack above it.
    pub(super) at: Preserved,
    /// The thread that the caller's stack is on, when the world is stopped.
    pub(super) thread: i32,
}

impl Caller {
    #[inline(always)]
    pub(super) fn here() -> Self {
        Self { at: preserved(), thread: 0 }
    }
}
