//! Which sampled blocks are alive: from an address to the record that its allocation went into, and its weight.
//!
//! Shards of open addressing with linear probing; removing moves later entries back, so there are no tombstones. It
//! allocates only to grow, and does not shrink: 24 bytes for each block that was alive at once, a third of that unused.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::weight::Weight;
use crate::records::RecordId;

/// So many threads seldom meet in one of these.
const SHARDS: usize = 64;
/// Slots of a shard at first; a power of two.
const FIRST: usize = 64;

#[derive(Clone, Copy)]
struct Entry {
    /// 0 if the slot is free.
    address: usize,
    weight: Weight,
    record: RecordId,
}

const FREE: Entry = Entry { address: 0, weight: Weight(0), record: RecordId(0) };

struct Shard {
    entries: Vec<Entry>,
    used: usize,
}

/// Each lock guards its shard, and is held for one operation. Aligned, so that shards do not share cache lines.
#[repr(align(64))]
struct Cell(Mutex<Shard>);

static TABLE: [Cell; SHARDS] = [const { Cell(Mutex::new(Shard { entries: Vec::new(), used: 0 })) }; SHARDS];

/// Fibonacci hashing (Knuth, TAOCP 3, 6.4): neighbours spread, and the upper bits are the good ones.
fn hash(address: usize) -> u64 {
    ((address >> 4) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn shard(address: usize) -> MutexGuard<'static, Shard> {
    TABLE[(hash(address) >> 58) as usize].0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters a block; false if there is no memory for that.
#[inline]
pub(super) fn insert(address: usize, record: RecordId, weight: Weight) -> bool {
    shard(address).insert(Entry { address, weight, record })
}

/// Takes a block out.
#[inline]
pub(super) fn remove(address: usize) -> Option<(RecordId, Weight)> {
    shard(address).remove(address)
}

/// The record of a block, if it is a sample and in use.
pub(super) fn find(address: usize) -> Option<RecordId> {
    shard(address).find(address)
}

impl Shard {
    /// Where an address would like to be. The bits below those that choose the shard.
    #[inline]
    fn home(&self, address: usize) -> usize {
        (hash(address) >> 26) as usize & (self.entries.len() - 1)
    }

    fn insert(&mut self, entry: Entry) -> bool {
        // At most three quarters full.
        if (self.used + 1) * 4 > self.entries.len() * 3 && !self.grow() {
            return false;
        }
        self.used += 1;
        self.place(entry);
        true
    }

    fn place(&mut self, entry: Entry) {
        let mask = self.entries.len() - 1;
        let mut at = self.home(entry.address);
        while self.entries[at].address != 0 {
            if self.entries[at].address == entry.address {
                // The block was freed unseen, within another hook.
                self.used -= 1;
                break;
            }
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let length = (self.entries.len() * 2).max(FIRST);
        let mut entries = Vec::new();
        if entries.try_reserve_exact(length).is_err() {
            return false;
        }
        entries.resize(length, FREE);
        let before = std::mem::replace(&mut self.entries, entries);
        before.iter().filter(|entry| entry.address != 0).for_each(|entry| self.place(*entry));
        true
    }

    fn find(&self, address: usize) -> Option<RecordId> {
        let mask = self.entries.len().checked_sub(1)?;
        let mut at = self.home(address);
        while self.entries[at].address != address {
            if self.entries[at].address == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
        Some(self.entries[at].record)
    }

    fn remove(&mut self, address: usize) -> Option<(RecordId, Weight)> {
        if self.entries.is_empty() {
            return None;
        }
        let mask = self.entries.len() - 1;
        let mut at = self.home(address);
        while self.entries[at].address != address {
            if self.entries[at].address == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
        let Entry { record, weight, .. } = self.entries[at];
        // Whoever probed past this slot moves up: Knuth's algorithm R.
        let mut next = (at + 1) & mask;
        while self.entries[next].address != 0 {
            let home = self.home(self.entries[next].address);
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(at) & mask {
                self.entries[at] = self.entries[next];
                at = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[at] = FREE;
        self.used -= 1;
        Some((record, weight))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_shard_is_a_map() {
        let mut shard = Shard { entries: Vec::new(), used: 0 };
        let mut model: HashMap<usize, u64> = HashMap::new();
        let mut state = 1_u64;
        assert_eq!(shard.remove(16), None);
        for step in 0..200_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Few addresses, so that they come again, and crowded ones, so that they collide.
            let address = ((state >> 40) as usize % 3000 + 1) * 16;
            assert_eq!(shard.find(address).is_some(), model.contains_key(&address));
            if let Some(weight) = model.remove(&address) {
                assert_eq!(shard.remove(address), Some((RecordId(7), Weight(weight))));
            } else {
                assert_eq!(shard.remove(address), None);
                model.insert(address, step);
                assert!(shard.insert(Entry { address, weight: Weight(step), record: RecordId(7) }));
            }
            assert_eq!(shard.used, model.len());
        }
        for (address, weight) in model {
            assert_eq!(shard.remove(address), Some((RecordId(7), Weight(weight))));
        }
        assert!(shard.entries.iter().all(|entry| entry.address == 0));
    }
}
