//! A hierarchical timing wheel: entries by deadline, with insertion, removal and expiry in constant time.
//!
//! Time is cut into ticks of 16 us. Level 0 has a slot for each of the 64 ticks of the current block, level 1 one for each
//! of the 64 blocks around it, and so on; an entry lies on the level of the highest group of six bits in which its tick
//! differs from the wheel's. When time reaches a slot of a higher level, its entries move down. So an entry moves at most
//! once a level, and the first occupied slot of the lowest occupied level always holds the earliest entry.
//!
//! Ticks are for finding entries only: each keeps its deadline in nanoseconds and never expires before it. Entries that
//! expire together are given in the order of their slots, so up to a tick out of order.
//!
//! Entries lie in a slab and are linked by index. A removed entry's place is used again at once, so stopping timers leaves
//! nothing behind; the slab stays as large as the most entries that were ever armed together.

/// Nanoseconds in a tick, as a power of two: about as exact as the kernel's sleeps are, whose slack is 50 us.
const TICK_BITS: u32 = 14;

/// Slots of a level, as a power of two: their occupation is one word.
const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;

/// As many as the 50 bits of a tick need.
const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(LEVEL_BITS) as usize;

/// How far a slot is searched for its earliest deadline. A longer one is taken as due when it begins, which costs a look
/// at the wheel that finds nothing.
const SCAN: usize = 32;

const NONE: u32 = u32::MAX;
/// The list number of a place that holds no entry.
const FREE: u16 = u16::MAX;

/// Names an entry; of one that has expired or was removed, it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

struct Entry<T> {
    deadline: u64,
    /// Nothing while the place is free.
    value: Option<T>,
    /// In a slot's list, which is circular; `next` also links the free places.
    next: u32,
    previous: u32,
    generation: u32,
    list: u16,
}

/// What has expired.
pub(super) struct Expired<T> {
    pub(super) key: Key,
    pub(super) deadline: u64,
    pub(super) value: T,
}

pub(super) struct Wheel<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    /// The first entry of each slot's list.
    slots: Box<[u32]>,
    /// Which slots of a level hold entries.
    occupied: [u64; LEVELS],
    /// The tick up to which the wheel has turned: no entry lies in a slot before it.
    elapsed: u64,
    length: usize,
}

impl<T> Wheel<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            slots: heap::untracked(|| vec![NONE; LEVELS * SLOTS].into()),
            occupied: [0; LEVELS],
            elapsed: 0,
            length: 0,
        }
    }

    pub(super) fn insert(&mut self, deadline: u64, value: T) -> Key {
        let index = if self.free == NONE {
            let index = u32::try_from(self.entries.len()).ok().filter(|i| *i != NONE).expect("fewer than 2^32 timers");
            if self.entries.len() == self.entries.capacity() {
                heap::untracked(|| self.entries.reserve(1));
            }
            self.entries.push(Entry {
                deadline,
                value: Some(value),
                next: NONE,
                previous: NONE,
                generation: 0,
                list: FREE,
            });
            index
        } else {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            self.free = entry.next;
            entry.deadline = deadline;
            entry.value = Some(value);
            index
        };
        self.link(index);
        self.length += 1;
        Key { index, generation: self.entries[index as usize].generation }
    }

    /// Takes an entry out that has not expired.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.list == FREE {
            return None;
        }
        self.unlink(key.index);
        Some(self.release(key.index).value)
    }

    /// Takes out entries whose deadline is not after `now`, at most `most`. Whether there may be more.
    pub(super) fn expire(&mut self, now: u64, most: usize, mut expired: impl FnMut(Expired<T>)) -> bool {
        let target = now >> TICK_BITS;
        let mut count = 0;
        while let Some((level, slot, start)) = self.first() {
            if start > target {
                break;
            }
            self.elapsed = self.elapsed.max(start);
            if level > 0 {
                self.move_down(level, slot);
                continue;
            }
            let first = self.slots[slot];
            // Entries of the current tick may be due later in it; walked once, up to the last of the list.
            let last = self.entries[first as usize].previous;
            let mut index = first;
            loop {
                let Entry { next, deadline, .. } = self.entries[index as usize];
                let at_end = index == last;
                if deadline <= now {
                    if count == most {
                        return true;
                    }
                    self.unlink(index);
                    expired(self.release(index));
                    count += 1;
                }
                if at_end {
                    break;
                }
                index = next;
            }
            if start == target {
                return false; // what is left of this tick is later than `now`, and so is everything behind it
            }
        }
        self.elapsed = self.elapsed.max(target);
        false
    }

    /// A moment not after the earliest deadline, and equal to it unless many entries lie close together.
    pub(super) fn next(&self) -> Option<u64> {
        let (level, slot, start) = self.first()?;
        let first = self.slots[level * SLOTS + slot];
        let mut earliest = u64::MAX;
        let mut index = first;
        for _ in 0..SCAN {
            let entry = &self.entries[index as usize];
            earliest = earliest.min(entry.deadline);
            index = entry.next;
            if index == first {
                return Some(earliest);
            }
        }
        Some(start << TICK_BITS)
    }

    /// All entries, in no particular order.
    #[cfg(not(loom))]
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    /// Takes all entries out.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut values = Vec::with_capacity(self.length);
        for index in 0..self.entries.len() as u32 {
            if self.entries[index as usize].list != FREE {
                self.unlink(index);
                values.push(self.release(index).value);
            }
        }
        values
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Places for entries, used or not.
    #[cfg(all(test, not(loom)))]
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    /// The first occupied slot: level, slot, and the tick at which it begins.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = level as u32 * LEVEL_BITS;
        let block = self.elapsed >> (shift + LEVEL_BITS) << LEVEL_BITS;
        Some((level, slot, (block | slot as u64) << shift))
    }

    fn move_down(&mut self, level: usize, slot: usize) {
        let list = level * SLOTS + slot;
        let first = std::mem::replace(&mut self.slots[list], NONE);
        self.occupied[level] &= !(1 << slot);
        let mut index = first;
        loop {
            let next = self.entries[index as usize].next;
            self.link(index);
            if next == first {
                return;
            }
            index = next;
        }
    }

    /// Puts an entry that is in no list at the end of its slot's.
    fn link(&mut self, index: u32) {
        let tick = (self.entries[index as usize].deadline >> TICK_BITS).max(self.elapsed);
        let differing = (tick ^ self.elapsed) | (SLOTS as u64 - 1);
        let level = differing.ilog2() / LEVEL_BITS;
        let slot = (tick >> (level * LEVEL_BITS)) as usize % SLOTS;
        let list = level as usize * SLOTS + slot;
        self.occupied[level as usize] |= 1 << slot;
        let first = self.slots[list];
        let (previous, next) = if first == NONE {
            self.slots[list] = index;
            (index, index)
        } else {
            let last = self.entries[first as usize].previous;
            self.entries[last as usize].next = index;
            self.entries[first as usize].previous = index;
            (last, first)
        };
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next, entry.list) = (previous, next, list as u16);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { previous, next, list, .. } = self.entries[index as usize];
        let list = usize::from(list);
        if next == index {
            self.slots[list] = NONE;
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            return;
        }
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
        if self.slots[list] == index {
            self.slots[list] = next;
        }
    }

    /// Frees the place of an entry that is in no list any more.
    fn release(&mut self, index: u32) -> Expired<T> {
        let entry = &mut self.entries[index as usize];
        let key = Key { index, generation: entry.generation };
        let value = entry.value.take().expect("an entry in a list has a value");
        entry.generation = entry.generation.wrapping_add(1);
        entry.list = FREE;
        entry.next = self.free;
        self.free = index;
        self.length -= 1;
        Expired { key, deadline: entry.deadline, value }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expire(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        while wheel.expire(now, 3, |e| expired.push(e.value)) {}
        expired
    }

    #[test]
    fn nothing_expires_early_not_even_within_its_tick() {
        let mut wheel = Wheel::new();
        let tick = 1 << TICK_BITS;
        wheel.insert(10 * tick + 5, 1);
        wheel.insert(10 * tick + 3, 0);
        assert_eq!(wheel.next(), Some(10 * tick + 3));
        assert_eq!(expire(&mut wheel, 10 * tick + 2), []);
        assert_eq!(expire(&mut wheel, 10 * tick + 4), [0]);
        assert_eq!(wheel.next(), Some(10 * tick + 5));
        assert_eq!(expire(&mut wheel, 10 * tick + 5), [1]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn past_and_farthest_deadlines_have_their_place() {
        let mut wheel = Wheel::new();
        let now = 1 << 50;
        assert_eq!(expire(&mut wheel, now), []);
        wheel.insert(0, 7);
        let far = wheel.insert(u64::MAX, 8);
        assert_eq!(expire(&mut wheel, now), [7]);
        assert_eq!(wheel.next(), Some(u64::MAX));
        assert_eq!(wheel.remove(far), Some(8));
        assert_eq!(wheel.remove(far), None);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn places_of_removed_entries_are_used_again() {
        let mut wheel = Wheel::new();
        for n in 0..10_000 {
            let key = wheel.insert(n << 30, n);
            assert_eq!(wheel.remove(key), Some(n));
        }
        assert_eq!(wheel.places(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        // Distances of all magnitudes.
        let distance = || (0..45_u32, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1));
        prop_oneof![
            distance().prop_map(Step::Insert),
            any::<usize>().prop_map(Step::Remove),
            distance().prop_map(Step::Advance)
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_of_deadlines(start in 0..u64::MAX >> 8, steps in prop::collection::vec(step(), 1..200)) {
            let mut now = start;
            let mut wheel = Wheel::new();
            let mut model: Vec<(u64, u64, Key)> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(distance) => {
                        let n = n as u64;
                        model.push((now + distance, n, wheel.insert(now + distance, n)));
                    }
                    Step::Remove(at) if !model.is_empty() => {
                        let (_, n, key) = model.swap_remove(at % model.len());
                        prop_assert_eq!(wheel.remove(key), Some(n));
                        prop_assert_eq!(wheel.remove(key), None);
                    }
                    Step::Remove(_) => {}
                    Step::Advance(distance) => {
                        now += distance;
                        let mut due = expire(&mut wheel, now);
                        due.sort_unstable();
                        let mut expected: Vec<u64> = model.extract_if(.., |e| e.0 <= now).map(|e| e.1).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(due, expected);
                    }
                }
                let earliest = model.iter().map(|e| e.0).min();
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next(), earliest) {
                    (None, None) => {}
                    (Some(next), Some(earliest)) => prop_assert!(next <= earliest),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let mut left = wheel.drain();
            left.sort_unstable();
            let mut expected: Vec<u64> = model.iter().map(|e| e.1).collect();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(wheel.next(), None);
        }
    }
}
use crate::heap;
