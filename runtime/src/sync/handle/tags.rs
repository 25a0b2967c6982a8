//! Which tags of a core are allocated, and how many handles it has.
//!
//! A tag is a slot and the slot's generation, which grows each time the slot is freed; slots are given out in rotation. A
//! stale word comes back to life only when its slot is in use and has been freed 65 536 times since.
//!
//! Most primitives have few handles: the first [`INLINE`] slots lie in the core and need no lock. The others lie in an
//! [`extension`](super::extension) that is made when it is first needed.
//!
//! `live` holds a bit for each inline slot, and the number of handles in the extension in its upper half. It is zero
//! when no handle is left, and since a handle is only ever cloned from a live one, zero is final.
//!
//! The core of a reader-writer lock has no handles. Its table gives tags to the guards of readers, which come and go: there
//! zero says nothing.

use std::ptr;

use super::{
    extension::Extension,
    word::{SLOT_BITS, Tag},
};
use crate::{
    heap,
    sys::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering},
};

/// Slots in the core itself. Under loom so few that a model can use the extension too, and enough for models of primitives.
const INLINE: u32 = if cfg!(loom) { 4 } else { 12 };
const INLINE_BITS: u64 = (1 << INLINE) - 1;
const EXTENSION_UNIT: u64 = 1 << 32;

/// The slot of handles beyond all others: one tag for all of them, live as long as there
/// are handles in the extension. More than two million handles.
const SHARED_SLOT: u32 = (1 << SLOT_BITS) - 1;

pub(crate) struct TagTable {
    live: AtomicU64,
    extension: AtomicPtr<Extension>,
    /// Where the search for a free slot starts: after the one given out last. A hint, and none of loom's atomics: a model
    /// would try all the values that it may have.
    cursor: std::sync::atomic::AtomicU32,
    generations: [AtomicU16; INLINE as usize],
}

impl TagTable {
    pub(crate) fn new() -> Self {
        Self {
            live: AtomicU64::new(0),
            extension: AtomicPtr::new(ptr::null_mut()),
            cursor: std::sync::atomic::AtomicU32::new(0),
            // Not from 0: the first words would be round numbers, which memory is full of.
            generations: std::array::from_fn(|slot| AtomicU16::new(0xa5c3 ^ (slot as u16) << 9)),
        }
    }

    /// Allocates a tag. The caller holds a live handle of the core, has just made the core, or borrows the lock that
    /// owns it.
    #[inline]
    pub(crate) fn allocate(&self) -> Tag {
        let mut live = self.live.load(Ordering::Relaxed);
        loop {
            let free = !live & INLINE_BITS;
            if free == 0 {
                return self.allocate_beyond();
            }
            // Relaxed: a hint. At most INLINE, so nothing is left after the last slot.
            let onward = free & u64::MAX << self.cursor.load(Ordering::Relaxed);
            let slot = if onward != 0 { onward } else { free }.trailing_zeros();
            // AcqRel: Acquire pairs with the Release in `release`: the slot's new generation is visible. Release: a word
            // with this tag is published after it.
            match self.live.compare_exchange_weak(live, live | 1 << slot, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    // Relaxed: a hint.
                    self.cursor.store(slot + 1, Ordering::Relaxed);
                    // Relaxed: the slot is ours now.
                    let generation = self.generations[slot as usize].load(Ordering::Relaxed);
                    return Tag { slot, generation };
                }
                Err(now) => live = now,
            }
        }
    }

    /// Frees a tag. Returns whether it was the last: then the core has no handle, and never will again.
    #[inline]
    pub(crate) fn release(&self, tag: Tag) -> bool {
        if tag.slot < INLINE {
            let generation = &self.generations[tag.slot as usize];
            // Release: pairs with the Acquire in `is_live`. Before the bit, which gives the slot away.
            generation.store(tag.generation.wrapping_add(1), Ordering::Release);
            let bit = 1 << tag.slot;
            // A subtraction, because the bit is set, and x86 has no instruction that clears bits and gives what was
            // there.
            // AcqRel: Release pairs with the Acquire in `allocate`; Acquire, so that the last one sees what all others
            // did before they released theirs.
            return self.live.fetch_sub(bit, Ordering::AcqRel) == bit;
        }
        self.release_beyond(tag)
    }

    #[cold]
    fn release_beyond(&self, tag: Tag) -> bool {
        if tag.slot != SHARED_SLOT {
            self.extension().give_back(Tag { slot: tag.slot - INLINE, ..tag });
        }
        // AcqRel: as in `release`.
        self.live.fetch_sub(EXTENSION_UNIT, Ordering::AcqRel) == EXTENSION_UNIT
    }

    /// Whether the tag is allocated.
    pub(crate) fn is_live(&self, tag: Tag) -> bool {
        if tag.slot < INLINE {
            // Acquire: pairs with the Release in `release`.
            let live = self.live.load(Ordering::Acquire) >> tag.slot & 1 == 1;
            return live && self.generations[tag.slot as usize].load(Ordering::Acquire) == tag.generation;
        }
        if tag.slot == SHARED_SLOT {
            // Acquire: as above.
            return tag.generation == 0 && self.live.load(Ordering::Acquire) >= EXTENSION_UNIT;
        }
        // SAFETY: null, or an extension, which is freed with the core only. Acquire: pairs with the Release in
        // `extension`.
        unsafe { self.extension.load(Ordering::Acquire).as_ref() }
            .is_some_and(|e| e.is_live(Tag { slot: tag.slot - INLINE, ..tag }))
    }

    #[cold]
    fn allocate_beyond(&self) -> Tag {
        // AcqRel: as in `allocate`.
        let taken = self.live.fetch_add(EXTENSION_UNIT, Ordering::AcqRel) / EXTENSION_UNIT + 1;
        match self.extension().allocate(taken as u32, SHARED_SLOT - INLINE) {
            Some(tag) => Tag { slot: INLINE + tag.slot, ..tag },
            None => Tag { slot: SHARED_SLOT, generation: 0 }, // no room for another
        }
    }

    fn extension(&self) -> &Extension {
        // Acquire: pairs with the Release below.
        let mut extension = self.extension.load(Ordering::Acquire);
        if extension.is_null() {
            let fresh = Box::into_raw(heap::untracked(|| Box::new(Extension::new())));
            // Release: publishes the box; Acquire on failure: sees the other's.
            match self.extension.compare_exchange(ptr::null_mut(), fresh, Ordering::Release, Ordering::Acquire) {
                Ok(_) => extension = fresh,
                Err(other) => {
                    // SAFETY: made above, and not published.
                    drop(unsafe { Box::from_raw(fresh) });
                    extension = other;
                }
            }
        }
        // SAFETY: not null, and freed with the core only.
        unsafe { &*extension }
    }

    /// The allocated tags, as of about now.
    pub(crate) fn live(&self) -> Vec<Tag> {
        // Acquire: as in `is_live`.
        let live = self.live.load(Ordering::Acquire);
        let inline = (0..INLINE)
            .filter(|slot| live >> slot & 1 == 1)
            .map(|slot| Tag { slot, generation: self.generations[slot as usize].load(Ordering::Acquire) });
        // SAFETY: as in `is_live`.
        let extension = unsafe { self.extension.load(Ordering::Acquire).as_ref() };
        let beyond = extension.into_iter().flat_map(Extension::live);
        inline.chain(beyond.map(|tag| Tag { slot: INLINE + tag.slot, ..tag })).collect()
    }

    /// Frees the extension. The core must be out of use; generations go on, for the sake of stale words.
    pub(crate) fn reset(&self) {
        debug_assert_eq!(self.live.load(Ordering::Relaxed), 0);
        let extension = self.extension.swap(ptr::null_mut(), Ordering::Relaxed);
        if !extension.is_null() {
            // SAFETY: made by `extension`, and nobody uses the core.
            drop(unsafe { Box::from_raw(extension) });
        }
    }

    /// Live handles.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        let live = self.live.load(Ordering::Relaxed);
        (live & INLINE_BITS).count_ones() as u64 + live / EXTENSION_UNIT
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Against a model: live tags are distinct and known, freed ones are dead, the last release says so.
        #[test]
        fn tags_follow_the_model(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..400)) {
            let table = TagTable::new();
            let mut live = vec![table.allocate()];
            let mut dead: HashMap<(u32, u16), ()> = HashMap::new();
            for (grow, which) in steps {
                if grow {
                    let tag = table.allocate();
                    prop_assert!(!live.contains(&tag));
                    dead.remove(&(tag.slot, tag.generation));
                    live.push(tag);
                } else {
                    let tag = live.swap_remove(which.index(live.len()));
                    prop_assert_eq!(table.release(tag), live.is_empty());
                    dead.insert((tag.slot, tag.generation), ());
                    if live.is_empty() {
                        break;
                    }
                }
                prop_assert_eq!(table.count(), live.len() as u64);
                prop_assert_eq!(table.live().len(), live.len());
                prop_assert!(table.live().iter().all(|tag| live.contains(tag)));
                prop_assert!(live.iter().all(|tag| table.is_live(*tag)));
                let revived = dead.keys().find(|(slot, generation)| {
                    table.is_live(Tag { slot: *slot, generation: *generation })
                });
                prop_assert_eq!(revived, None);
            }
            for (i, tag) in live.iter().enumerate() {
                prop_assert_eq!(table.release(*tag), i + 1 == live.len());
            }
            table.reset();
        }
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    /// Two clones come and go while a third handle is held: no tag twice, nobody believes to be the last.
    #[test]
    fn clones_on_two_threads() {
        crate::sys::model::check(3, 10, || {
            let table = Arc::new(TagTable::new());
            let own = table.allocate();
            // All but one of the core's own slots are taken: one of the two uses the extension.
            let others: Vec<Tag> = (2..INLINE).map(|_| table.allocate()).collect();
            let other = {
                let table = table.clone();
                loom::thread::spawn(move || {
                    let tag = table.allocate();
                    assert!(table.is_live(tag));
                    (tag, table.release(tag))
                })
            };
            let mine = table.allocate();
            assert!(table.is_live(mine) && table.is_live(own) && mine != own);
            assert!(!table.release(mine));
            let (tag, last) = other.join().unwrap();
            assert!(!last && tag != own);
            others.into_iter().for_each(|tag| assert!(!table.release(tag)));
            assert!(table.release(own));
            table.reset();
        });
    }
}
