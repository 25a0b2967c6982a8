//! A word with a tag, in the place where its owner lives: what handles and the guards of readers are made of.
//!
//! The module above tells what the tag is for, and the retag protocol.

use super::{
    super::core::{self, Core},
    home::Home,
    word::Word,
};
use crate::sys::atomic::{AtomicU64, Ordering, const_unless_loom};

/// How many words were found to be bitwise copies.
static ALIASED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// The word of an owner that has no core; no core has index 0.
const NIL: u64 = 0;

/// It does not free its tag when it is dropped: the owner does, with what [`Tagged::end`] returns.
pub(crate) struct Tagged {
    home: Home,
    word: AtomicU64,
}

impl Tagged {
    #[inline]
    pub(in crate::sync) fn new(word: Word, core: &Core) -> Self {
        Self { word: AtomicU64::new(word.made(core)), home: Home::of_made() }
    }

    const_unless_loom! {
        /// Without a core, for ever or until [`Tagged::publish`].
        pub(crate) const fn nil() -> Self {
            Self { word: AtomicU64::new(NIL), home: Home::none() }
        }
    }

    #[inline]
    pub(crate) fn is_nil(&self) -> bool {
        // Acquire: pairs with the Release in `publish`.
        self.word.load(Ordering::Acquire) == NIL
    }

    /// Gives a word to one that is nil. `false`: another thread was first.
    pub(crate) fn publish(&self, word: Word) -> bool {
        // AcqRel: publishes the core, or sees the one that another thread has made.
        let first = self
            .word
            .compare_exchange(NIL, word.made(std::ptr::null::<()>()), Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if first {
            self.home.set();
        }
        first
    }

    /// The word as it is in memory now.
    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Relaxed))
    }

    /// What every use of the owner does first: if it has moved, the word gets a fresh tag, and the copies elsewhere are
    /// dead. It must not be nil.
    #[inline]
    pub(crate) fn touch(&self) -> Word {
        if !self.home.is_here() {
            self.arrive();
        }
        self.word()
    }

    /// As `touch`, for an owner of which the first use is as likely as another.
    #[inline]
    pub(crate) fn touch_early(&self) -> Word {
        if !self.home.is_right() {
            self.retag();
        }
        self.word()
    }

    #[cold]
    #[inline(never)]
    fn arrive(&self) {
        if !self.home.is_right() {
            self.retag();
        }
    }

    /// Right at any time, so it does no harm that `home` may give a stale answer.
    #[cold]
    #[inline(never)]
    fn retag(&self) {
        // Acquire: pairs with the Release of the compare-and-swap of another toucher.
        let old = Word::from_bits(self.word.load(Ordering::Acquire));
        let core = core::core(old.index());
        if core.tags.is_live(old.tag()) {
            let fresh = Word::new(old.index(), core.tags.allocate());
            // AcqRel: the new tag is allocated before the word is seen; pairs with the Acquire above.
            let swap = self.word.compare_exchange(old.bits(), fresh.made(core), Ordering::AcqRel, Ordering::Acquire);
            let unused = if swap.is_ok() { old } else { fresh };
            let last = core.tags.release(unused.tag());
            debug_assert!(!last, "the owner's own tag is left");
        } else if self.word.load(Ordering::Acquire) == old.bits() {
            core.aliased.store(true, Ordering::Relaxed);
            ALIASED.fetch_add(1, Ordering::Relaxed);
        }
        self.home.set();
    }

    /// The word that the owner ends with; none if it is nil.
    #[inline]
    pub(crate) fn end(&mut self) -> Option<Word> {
        // Relaxed: nobody else has the owner any more.
        let word = Word::consumed(self.word.load(Ordering::Relaxed));
        (word.bits() != NIL).then_some(word)
    }

    /// As `end`, with its core.
    #[inline]
    pub(in crate::sync) fn end_at(&mut self) -> Option<(Word, &'static Core)> {
        // Relaxed: as above.
        let bits = self.word.load(Ordering::Relaxed);
        (bits != NIL).then(|| Word::consumed_at(bits))
    }

    /// As if the owner had just been moved here.
    #[cfg(test)]
    pub(crate) fn set_moved(&self) {
        self.home.set_moved();
    }

    /// The word as a scan of the memory sees it. Acquire: with what was done before it was stored.
    #[cfg(all(test, loom))]
    pub(crate) fn scanned(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    #[cfg(test)]
    pub(crate) fn set_bits(&self, bits: u64) {
        self.word.store(bits, Ordering::Relaxed);
    }
}
