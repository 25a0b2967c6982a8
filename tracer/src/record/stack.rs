//! Stacks of events: walked each time, written once.
//!
//! A thread remembers the hashes of the stacks that it has written, by slot; the reader of its ring remembers the stack that
//! a slot stands for. A slot is used again for another stack when their hashes meet there, which is written as well, so both
//! sides always agree. Two stacks are taken for equal when all 64 bits of their hashes are: among a million different stacks, that
//! happens in one of thirty million processes.

use std::{cell::Cell, mem::MaybeUninit, ops::ControlFlow};

/// Frames that are kept, innermost first. More would make a deep recursion slow, and fill the ring.
pub(crate) const MAX_FRAMES: usize = 64;

/// Stacks that a thread remembers.
pub(crate) const SLOTS: usize = 1024;

/// The hashes of the stacks that the slots stand for; 0 for none.
pub(crate) struct Cache([Cell<u64>; SLOTS]);

impl Cache {
    pub(crate) fn new() -> Self {
        Self([const { Cell::new(0) }; SLOTS])
    }

    /// The slot of a hash, and whether it stands for that stack.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64) -> (usize, bool) {
        // The upper bits of a product are its best.
        let slot = (hash >> (64 - SLOTS.ilog2())) as usize;
        (slot, self.0[slot].get() == hash)
    }

    /// The slot stands for the stack from now on.
    pub(crate) fn set(&self, slot: usize, hash: u64) {
        self.0[slot].set(hash);
    }
}

/// A stack that is being walked.
pub(crate) struct Walk {
    /// Initialized below `length`.
    addresses: [MaybeUninit<usize>; MAX_FRAMES],
    length: usize,
    hash: u64,
}

/// Odd, with its ones spread evenly: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Walk {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { addresses: [const { MaybeUninit::uninit() }; MAX_FRAMES], length: 0, hash: 0 }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, address: usize) -> ControlFlow<()> {
        self.addresses[self.length].write(address);
        self.length += 1;
        self.hash = (self.hash.rotate_left(5) ^ address as u64).wrapping_mul(SPREAD);
        if self.length < MAX_FRAMES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = usize> {
        // SAFETY: `push` has written those below `length`.
        self.addresses[..self.length].iter().map(|address| unsafe { address.assume_init() })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Never 0, unless there are no addresses.
    #[inline(always)]
    pub(crate) fn hash(&self) -> u64 {
        let hash = (self.hash ^ self.hash >> 32).wrapping_mul(SPREAD);
        if self.length == 0 { 0 } else { hash | u64::from(hash == 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(addresses: impl IntoIterator<Item = usize>) -> Walk {
        let mut walk = Walk::new();
        let _ = addresses.into_iter().try_for_each(|address| walk.push(address));
        walk
    }

    #[test]
    fn a_walk_ends_at_its_bound() {
        let walk = walk(1..1000);
        assert_eq!(walk.length(), MAX_FRAMES);
        assert!(walk.addresses().eq(1..=MAX_FRAMES));
    }

    #[test]
    fn order_and_length_matter_to_the_hash() {
        let hashes = [vec![1, 2], vec![2, 1], vec![1], vec![2], vec![1, 2, 3]].map(|stack| walk(stack).hash());
        let mut distinct = hashes.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), hashes.len());
        assert_eq!(walk([]).hash(), 0);
    }
}
