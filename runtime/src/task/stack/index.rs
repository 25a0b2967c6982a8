//! Which slab an address lies in, in constant time: a table of two levels, as a page table is.
//!
//! Slabs are aligned to [`UNIT`] and are multiples of it, so a unit belongs to one slab at most. An entry is written once,
//! when the slab is made, for slabs are never given back; so whoever reads needs no lock and may have stopped the world.

use std::{
    ops::Range,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU16, Ordering},
};

use super::slab::MAX_SLABS;
use crate::heap;

/// What slabs are aligned to: the smallest slab, and the largest alignment that is of use to the system.
pub(super) const UNIT: usize = 1 << UNIT_LOG2;
const UNIT_LOG2: u32 = 21;

/// Bits of an address in user space, on both architectures.
const ADDRESS_BITS: u32 = 48;
/// A leaf covers 16 GiB with 16 KiB: a program rarely needs more than two.
const LEAF_BITS: u32 = 13;
const ROOTS: usize = 1 << (ADDRESS_BITS - UNIT_LOG2 - LEAF_BITS);

/// Numbers of slabs plus 1; 0 for a unit that is in none.
type Leaf = [AtomicU16; 1 << LEAF_BITS];
const _: () = assert!(MAX_SLABS < u16::MAX as usize);

/// Only the pages of it that are used cost memory.
static ROOT: [AtomicPtr<Leaf>; ROOTS] = [const { AtomicPtr::new(ptr::null_mut()) }; ROOTS];

/// Enters a slab. `range` must be whole units.
pub(super) fn enter(range: Range<usize>, slab: usize) {
    debug_assert!(range.start.is_multiple_of(UNIT) && range.end.is_multiple_of(UNIT));
    for unit in range.start >> UNIT_LOG2..range.end >> UNIT_LOG2 {
        // Release: pairs with the Acquire in `slab_at`; the slab is in the table.
        leaf(unit >> LEAF_BITS)[unit % (1 << LEAF_BITS)].store(slab as u16 + 1, Ordering::Release);
    }
}

/// The number of the slab that an address is in, which may be any word.
#[inline]
pub(super) fn slab_at(address: usize) -> Option<usize> {
    let unit = address >> UNIT_LOG2;
    // SAFETY: null, or a leaf, which is never freed. Acquire: pairs with the Release in `leaf`.
    let leaf = unsafe { ROOT.get(unit >> LEAF_BITS)?.load(Ordering::Acquire).as_ref() }?;
    // Acquire: pairs with the Release in `enter`.
    (leaf[unit % (1 << LEAF_BITS)].load(Ordering::Acquire) as usize).checked_sub(1)
}

/// The leaf with that number, made now if need be.
fn leaf(root: usize) -> &'static Leaf {
    let root = &ROOT[root];
    // Acquire: pairs with the Release below.
    let mut leaf = root.load(Ordering::Acquire);
    if leaf.is_null() {
        let zeroes = || Box::new([const { AtomicU16::new(0) }; 1 << LEAF_BITS]);
        let fresh = Box::into_raw(heap::untracked(zeroes));
        // Release: publishes the leaf; Acquire on failure: sees the one that another thread has made.
        match root.compare_exchange(ptr::null_mut(), fresh, Ordering::Release, Ordering::Acquire) {
            Ok(_) => leaf = fresh,
            Err(other) => {
                // SAFETY: made above, and not published.
                drop(unsafe { Box::from_raw(fresh) });
                leaf = other;
            }
        }
    }
    // SAFETY: a leaf, which is never freed.
    unsafe { &*leaf }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_lead_to_their_slab_and_others_to_none() {
        // The highest addresses that there are, across two leaves: no mapping lies there.
        let border = ((ROOTS - 1) << LEAF_BITS) * UNIT;
        let range = border - 2 * UNIT..border + UNIT;
        assert_eq!(slab_at(border), None);
        enter(range.clone(), MAX_SLABS - 1);
        for address in [range.start, border - 1, border, range.end - 1] {
            assert_eq!(slab_at(address), Some(MAX_SLABS - 1));
        }
        for address in [0, range.start - 1, range.end, 1 << ADDRESS_BITS, usize::MAX] {
            assert_eq!(slab_at(address), None, "{address:#x}");
        }
    }
}
