//! A hash index: from a hash to the position of an item in a list that is kept elsewhere. Linear probing; items are
//! never removed. Growing is the only time that it allocates.

use std::collections::TryReserveError;

/// Slots at first; a power of two.
const FIRST: usize = 32;

/// A slot: half of the hash, and the position plus one; 0 if it is free.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u32,
    position: u32,
}

#[derive(Default)]
pub(crate) struct Index {
    slots: Vec<Slot>,
    used: usize,
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), used: 0 }
    }

    /// The position of the item with that hash that `is` it.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.position == 0 {
                return None;
            }
            if slot.hash == hash as u32 && is(slot.position as usize - 1) {
                return Some(slot.position as usize - 1);
            }
            at = (at + 1) & mask;
        }
    }

    /// Enters the position of a new item, which must be below `u32::MAX`.
    pub(crate) fn insert(&mut self, hash: u64, position: usize) -> Result<(), TryReserveError> {
        // At most three quarters full.
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow()?;
        }
        self.used += 1;
        place(&mut self.slots, Slot { hash: hash as u32, position: position as u32 + 1 });
        Ok(())
    }

    fn grow(&mut self) -> Result<(), TryReserveError> {
        let length = (self.slots.len() * 2).max(FIRST);
        let mut slots = Vec::new();
        slots.try_reserve_exact(length)?;
        slots.resize(length, Slot::default());
        for slot in self.slots.iter().filter(|slot| slot.position != 0) {
            place(&mut slots, *slot);
        }
        self.slots = slots;
        Ok(())
    }
}

fn place(slots: &mut [Slot], slot: Slot) {
    let mask = slots.len() - 1;
    let mut at = slot.hash as usize & mask;
    while slots[at].position != 0 {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_entered_is_found_also_after_growing_and_with_equal_hashes() {
        let mut index = Index::new();
        assert_eq!(index.find(7, |_| true), None);
        for position in 0..1000 {
            // Every hash four times.
            index.insert((position as u64 / 4).wrapping_mul(0x9e37_79b9), position).unwrap();
        }
        for position in 0..1000 {
            let hash = (position as u64 / 4).wrapping_mul(0x9e37_79b9);
            assert_eq!(index.find(hash, |at| at == position), Some(position));
        }
        assert_eq!(index.find(3, |_| true), None);
    }
}
