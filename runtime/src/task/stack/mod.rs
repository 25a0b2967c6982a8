//! Task stacks: where they come from, how they are guarded, and what happens when one overflows.
//!
//! A stack is a slot of a [`slab`]; free ones wait in a [`pool`]. A slot, lowest address first:
//!
//! ```text
//!   slot base ─▶ guard, GUARD bytes          any access is a fault: see `overflow`
//!                stack, committed on touch   grows down towards the guard
//!                Control block               never moved, never unmapped
//!   slot base + stride
//! ```
//!
//! Slots are powers of two so that slabs of one size hold them without gaps, and the guard of one slot lies above the
//! control block of its lower neighbour: an overflow reaches the guard before anything else.

mod index;
pub(crate) mod overflow;
pub(crate) mod pool;
pub(crate) mod slab;

use crate::SpawnError;

/// Guard below each stack. Rust probes every page of a large frame, C code does not: several pages catch most of that.
pub(crate) const GUARD: usize = 16 << 10;

/// The smallest stack that can be asked for: less does not carry a panic.
pub(crate) const MIN_SIZE: usize = 16 << 10;
/// The largest stack that can be asked for.
pub(crate) const MAX_SIZE: usize = (1 << 30) - GUARD;

/// The stack of a task that asks for none. The address space is cheap (256 bytes of page tables a task at 128 KiB), but
/// a fork pays for it; unoptimised frames need about twice the room.
pub(crate) const DEFAULT_SIZE: usize = if cfg!(debug_assertions) { (256 << 10) - GUARD } else { (128 << 10) - GUARD };

const SMALLEST_STRIDE_LOG2: u32 = (MIN_SIZE + GUARD).next_power_of_two().trailing_zeros();
const LARGEST_STRIDE_LOG2: u32 = (MAX_SIZE + GUARD).trailing_zeros();
/// How many stack sizes there are.
pub(crate) const CLASSES: usize = (LARGEST_STRIDE_LOG2 - SMALLEST_STRIDE_LOG2 + 1) as usize;

/// A stack size as the pool knows it: a power of two that holds what was asked for and the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    /// The class whose stacks have at least `size` usable bytes (the control block takes less than 512 of them).
    pub(crate) fn for_size(size: usize) -> Result<Self, SpawnError> {
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return Err(SpawnError::StackSize { asked: size });
        }
        Ok(Self(((size + GUARD).next_power_of_two().trailing_zeros() - SMALLEST_STRIDE_LOG2) as u8))
    }

    pub(crate) fn of_stride(stride: usize) -> Self {
        Self((stride.trailing_zeros() - SMALLEST_STRIDE_LOG2) as u8)
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    pub(crate) fn stride(self) -> usize {
        1 << (u32::from(self.0) + SMALLEST_STRIDE_LOG2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_was_asked_for() {
        for size in [MIN_SIZE, MIN_SIZE + 1, DEFAULT_SIZE, 1 << 20, MAX_SIZE] {
            let class = Class::for_size(size).unwrap();
            assert!(class.stride() - GUARD >= size);
            assert!(class.stride() < 4 * (size + GUARD));
            assert_eq!(Class::of_stride(class.stride()), class);
            assert!(class.index() < CLASSES);
        }
        assert!(Class::for_size(MIN_SIZE - 1).is_err());
        assert!(Class::for_size(MAX_SIZE + 1).is_err());
    }
}
