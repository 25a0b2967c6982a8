//! The slots of a core that has more handles than fit into itself: without locks, and made as they are needed.
//!
//! Slots lie in groups of one cache line, groups in chunks of which each is twice as large as the one before. A slot is
//! taken by setting its bit, and given back by raising its generation and then clearing the bit; the order is that of
//! the slots in the core. Slots are given out in rotation, so that a freed one rests for as long as possible. There
//! are always so many that a quarter is free: a search looks at few groups, for a rotation passes each once and finds a
//! quarter of all slots.

use std::ptr;

use super::word::Tag;
use crate::{
    heap,
    sys::atomic::{AtomicPtr, AtomicU16, AtomicU32, Ordering},
};

/// Slots of a group. Few under loom, so that a model reaches the next chunk.
const SLOTS: u32 = if cfg!(loom) { 2 } else { 30 };
/// Groups of the first chunk.
const FIRST_GROUPS: u32 = if cfg!(loom) { 1 } else { 2 };
const CHUNKS: usize = if cfg!(loom) { 3 } else { 16 };

#[repr(align(64))]
struct Group {
    /// A bit for each slot that is taken.
    live: AtomicU32,
    generations: [AtomicU16; SLOTS as usize],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Group>() == 64, "a cache line");

const ALL: u32 = (1 << SLOTS) - 1;

impl Group {
    fn new() -> Self {
        Self { live: AtomicU32::new(0), generations: std::array::from_fn(|_| AtomicU16::new(0)) }
    }

    /// Takes a free slot, the first from `start` on if there is one.
    fn take(&self, start: u32) -> Option<(u32, u16)> {
        let mut live = self.live.load(Ordering::Relaxed);
        loop {
            let free = !live & ALL;
            let onward = free & u32::MAX << start;
            let slot = if onward != 0 { onward } else { free }.trailing_zeros();
            if free == 0 {
                return None;
            }
            // AcqRel: Acquire pairs with the Release in `give_back`: the slot's new generation is visible. Release: a
            // word with this tag is published after it.
            match self.live.compare_exchange_weak(live, live | 1 << slot, Ordering::AcqRel, Ordering::Relaxed) {
                // Relaxed: the slot is ours now.
                Ok(_) => return Some((slot, self.generations[slot as usize].load(Ordering::Relaxed))),
                Err(now) => live = now,
            }
        }
    }

    fn give_back(&self, slot: u32, generation: u16) {
        // Release: pairs with the Acquire in `is_live`. Before the bit, which gives the slot away.
        self.generations[slot as usize].store(generation.wrapping_add(1), Ordering::Release);
        // Release: pairs with the Acquire in `take`.
        self.live.fetch_and(!(1 << slot), Ordering::Release);
    }

    fn is_live(&self, slot: u32, generation: u16) -> bool {
        // Acquire: pairs with the Release in `give_back`.
        let live = self.live.load(Ordering::Acquire) >> slot & 1 == 1;
        live && self.generations[slot as usize].load(Ordering::Acquire) == generation
    }
}

pub(super) struct Extension {
    chunks: [AtomicPtr<Group>; CHUNKS],
    /// Groups in all chunks. Grows.
    groups: AtomicU32,
    /// The slot after the one given out last: where a search starts. A hint, and none of loom's atomics: a model would try
    /// all the values that it may have.
    cursor: std::sync::atomic::AtomicU32,
}

/// Groups in the chunks before this one.
const fn groups_before(chunk: usize) -> u32 {
    FIRST_GROUPS * ((1 << chunk) - 1)
}

const fn groups_of(chunk: usize) -> u32 {
    FIRST_GROUPS << chunk
}

impl Extension {
    pub(super) fn new() -> Self {
        Self {
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            groups: AtomicU32::new(0),
            cursor: std::sync::atomic::AtomicU32::new(0),
        }
    }

    fn group(&self, index: u32) -> &Group {
        let chunk = (index / FIRST_GROUPS + 1).ilog2() as usize;
        // Acquire: pairs with the Release in `grow`. Who knows of the group has seen `groups`, or a tag in it.
        let groups = self.chunks[chunk].load(Ordering::Acquire);
        debug_assert!(!groups.is_null());
        // SAFETY: chunks are freed with the extension only, and the group is inside its chunk.
        unsafe { &*groups.add((index - groups_before(chunk)) as usize) }
    }

    /// Takes a slot below `limit`; nothing if there is none. `taken` is how many are, with the caller's.
    pub(super) fn allocate(&self, taken: u32, limit: u32) -> Option<Tag> {
        // Acquire: pairs with the Release in `grow`.
        let mut groups = self.groups.load(Ordering::Acquire);
        if u64::from(taken) * 4 > u64::from(groups * SLOTS) * 3 {
            groups = self.grow(groups);
        }
        // Relaxed: a hint.
        let start = self.cursor.load(Ordering::Relaxed);
        // Once around, and the first group's first slots again.
        (0..=groups).find_map(|step| {
            let index = (start / SLOTS + step) % groups;
            let from = if step == 0 { start % SLOTS } else { 0 };
            let (slot, generation) = self.group(index).take(from)?;
            let slot = index * SLOTS + slot;
            if slot >= limit {
                self.give_back(Tag { slot, generation });
                return None;
            }
            self.cursor.store(slot + 1, Ordering::Relaxed);
            Some(Tag { slot, generation })
        })
    }

    /// Makes the next chunk, unless somebody else has since there were `groups`. Returns how many there are.
    #[cold]
    fn grow(&self, groups: u32) -> u32 {
        let Some(chunk) = (0..CHUNKS).find(|chunk| groups_before(*chunk) == groups) else { return groups };
        let fresh: Box<[Group]> = heap::untracked(|| (0..groups_of(chunk)).map(|_| Group::new()).collect());
        let fresh = Box::into_raw(fresh);
        // Release: publishes the groups.
        let swap =
            self.chunks[chunk].compare_exchange(ptr::null_mut(), fresh.cast(), Ordering::Release, Ordering::Relaxed);
        if swap.is_ok() {
            // The new slots are the ones that have rested longest.
            self.cursor.store(groups * SLOTS, Ordering::Relaxed);
        } else {
            // SAFETY: made above, and not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
        // AcqRel: Release pairs with the Acquire in `allocate`, Acquire with itself.
        self.groups.fetch_max(groups_before(chunk + 1), Ordering::AcqRel).max(groups_before(chunk + 1))
    }

    pub(super) fn give_back(&self, tag: Tag) {
        self.group(tag.slot / SLOTS).give_back(tag.slot % SLOTS, tag.generation);
    }

    pub(super) fn is_live(&self, tag: Tag) -> bool {
        // Acquire: pairs with the Release in `grow`. A stale word may name a slot that does not exist yet.
        tag.slot / SLOTS < self.groups.load(Ordering::Acquire)
            && self.group(tag.slot / SLOTS).is_live(tag.slot % SLOTS, tag.generation)
    }

    /// The tags that are taken, as of about now.
    pub(super) fn live(&self) -> impl Iterator<Item = Tag> {
        // Acquire: as in `is_live`.
        (0..self.groups.load(Ordering::Acquire)).flat_map(|index| {
            let group = self.group(index);
            let live = group.live.load(Ordering::Acquire);
            (0..SLOTS).filter(move |slot| live >> slot & 1 == 1).map(move |slot| Tag {
                slot: index * SLOTS + slot,
                generation: group.generations[slot as usize].load(Ordering::Acquire),
            })
        })
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        for (chunk, groups) in self.chunks.iter().enumerate() {
            // Acquire: pairs with the Release in `grow`.
            let groups = groups.load(Ordering::Acquire);
            if !groups.is_null() {
                let groups = ptr::slice_from_raw_parts_mut(groups, groups_of(chunk) as usize);
                // SAFETY: made by `grow` as a box of so many, and nobody has the extension any more.
                drop(unsafe { Box::from_raw(groups) });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn slots_are_taken_in_rotation_and_there_are_always_enough() {
        let extension = Extension::new();
        let tags: Vec<Tag> = (1..=10_000).map(|taken| extension.allocate(taken, u32::MAX).unwrap()).collect();
        assert_eq!(tags.iter().map(|tag| tag.slot).collect::<HashSet<_>>().len(), 10_000);
        assert!(tags.iter().all(|tag| extension.is_live(*tag)));
        assert_eq!(extension.live().collect::<HashSet<_>>(), tags.iter().copied().collect());
        tags.iter().skip(1).for_each(|tag| extension.give_back(*tag));
        assert_eq!(extension.live().collect::<Vec<_>>(), tags[..1]);
        let mut seen: HashSet<Tag> = tags.iter().copied().collect();
        let slots = extension.groups.load(Ordering::Relaxed) * SLOTS;
        for _ in 0..10 * slots {
            let tag = extension.allocate(2, u32::MAX).unwrap();
            assert!(seen.insert(tag), "a tag came back");
            extension.give_back(tag);
        }
        assert!(seen.iter().all(|tag| u32::from(tag.generation) < 12), "no slot is used more than others");
        assert!(!extension.is_live(Tag { slot: slots, generation: 0 }));
    }

    #[test]
    fn the_limit_holds() {
        let extension = Extension::new();
        let taken = (1..200).map_while(|taken| extension.allocate(taken, 70)).count();
        assert_eq!(taken, 70);
        assert_eq!(extension.live().count(), 70, "what was beyond has been given back");
    }
}
