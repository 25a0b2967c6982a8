//! Random numbers for sampling; not for secrets.

use crate::profile::wall_clock_nanos;

/// Marsaglia's xorshift with 64 bits.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins anywhere.
    pub(crate) fn new() -> Self {
        // Never zero, which is followed by zero.
        Self((wall_clock_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
