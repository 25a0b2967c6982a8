//! The word of a handle, and the two opaque instructions that keep it whole.
//!
//! ```text
//!   63          38   37   36           16 15         0
//!  ┌──────────────┬──────┬───────────────┬────────────┐
//!  │ core index   │  0   │ slot          │ generation │  handle, guard of a reader
//!  ├──────────────┼──────┼───────────────┴────────────┤
//!  │ core index   │  1   │ generation                 │  guard that excludes all others
//!  └──────────────┴──────┴────────────────────────────┘
//! ```

use super::super::core::{self, Core, INDEX_BITS};

pub(crate) const TAG_BITS: u32 = 64 - INDEX_BITS;
pub(crate) const GENERATION_BITS: u32 = 16;
pub(crate) const SLOT_BITS: u32 = TAG_BITS - 1 - GENERATION_BITS;

/// Set in the words of exclusive guards.
const EXCLUSIVE: u64 = 1 << (TAG_BITS - 1);

/// What tells a live handle of a core from the others and from stale copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    pub(crate) slot: u32,
    pub(crate) generation: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    pub(crate) fn new(index: u32, tag: Tag) -> Self {
        Self(u64::from(index) << TAG_BITS | u64::from(tag.slot) << GENERATION_BITS | u64::from(tag.generation))
    }

    /// The word of a guard that excludes all others. Of the generation, the lower 37 bits count.
    pub(crate) fn exclusive(index: u32, generation: u64) -> Self {
        Self(u64::from(index) << TAG_BITS | EXCLUSIVE | generation & (EXCLUSIVE - 1))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 >> TAG_BITS) as u32
    }

    /// Whether it would be the word of a guard that excludes all others.
    pub(crate) fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    pub(crate) fn tag(self) -> Tag {
        Tag { slot: (self.0 >> GENERATION_BITS) as u32 & ((1 << SLOT_BITS) - 1), generation: self.0 as u16 }
    }

    /// The bits of a word that comes into being: to the compiler, a value it knows nothing about. A pointer into the core, if
    /// it is given, exists until the whole word does: a thread that is stopped in between is in the middle of an operation,
    /// where pointers to cores count.
    #[inline(always)]
    pub(crate) fn made<T>(self, inside_core: *const T) -> u64 {
        opaque(self.0, inside_core).0
    }

    /// The word that a handle ends with: to the compiler, a use of all its bits.
    #[inline(always)]
    pub(crate) fn consumed(bits: u64) -> Self {
        Self(opaque(bits, std::ptr::null::<()>()).0)
    }

    /// As `consumed`, with the address of its core, which exists before the word ends.
    #[inline(always)]
    pub(in crate::sync) fn consumed_at(bits: u64) -> (Self, &'static Core) {
        let (bits, core) = opaque(bits, core::core(Self(bits).index()));
        // SAFETY: the reference, unchanged.
        (Self(bits), unsafe { &*core })
    }
}

/// The core of an owner of a word. The owner's address exists until that of the core does: it may be all by which a scan finds
/// the word.
#[inline(always)]
pub(in crate::sync) fn core_of<T>(owner: &T, core: &'static Core) -> &'static Core {
    let (_, core) = opaque(std::ptr::from_ref(owner) as u64, core);
    // SAFETY: the reference, unchanged.
    unsafe { &*core }
}

/// Returns its arguments. Not `pure`, so the compiler can neither compute the results itself nor drop the call.
#[inline(always)]
fn opaque<T>(
    #[cfg_attr(miri, expect(unused_mut))] mut word: u64,
    #[cfg_attr(miri, expect(unused_mut))] mut beside: *const T,
) -> (u64, *const T) {
    // Miri knows no assembly, and does not optimise.
    #[cfg(not(miri))]
    #[expect(clippy::pointers_in_nomem_asm_block, reason = "only the address matters")]
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} {1} */", inout(reg) word, inout(reg) beside, options(nomem, nostack, preserves_flags));
    };
    (word, beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for index in [1, 77, (1 << INDEX_BITS) - 1] {
            for slot in [0, 5, (1 << SLOT_BITS) - 1] {
                for generation in [0, 1, u16::MAX] {
                    let tag = Tag { slot, generation };
                    let word = Word::consumed(Word::new(index, tag).made(std::ptr::null::<()>()));
                    assert_eq!((word.index(), word.tag()), (index, tag));
                    let guard = Word::exclusive(index, word.bits());
                    assert_eq!(guard.index(), index);
                    assert_ne!(guard, word, "no guard looks like a handle");
                }
            }
        }
    }
}
