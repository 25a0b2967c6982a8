//! The word of a guard that excludes all others: a core's index and a generation, which says which guard is the one.
//!
//! Taking the lock starts a generation. A guard that is used at another address than before has moved, and starts one
//! too, so that the copies of its word elsewhere are stale. One that is used first near where it was made, as nearly
//! all are, keeps its generation; the module `home` says why that loses nothing. The generation needs no table of tags,
//! so a lock and an unlock cost one store for it beside those of the guard itself.

use std::marker::PhantomData;

use super::{
    super::core::{self, Body, Core},
    home::Home,
    word::Word,
};
use crate::sys::atomic::{AtomicU64, Ordering};

/// The generations of a core's exclusive guards.
pub(crate) struct Generations {
    /// Of the guard that holds the lock. Written by its owner.
    current: AtomicU64,
    /// A second valid one, while a guard that has moved changes from one to the other; else 0.
    moved: AtomicU64,
}

/// How far apart the first generations of two locks are: more than a lock goes through, most of the time, and no round
/// number.
const APART: u64 = 0x09_e377_9b97;

impl Default for Generations {
    /// For a new lock, whose words are unlike those of one that had the core before.
    fn default() -> Self {
        /// A hint, and none of loom's atomics: a model repeats itself.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(APART);
        let first = if cfg!(loom) { APART } else { NEXT.fetch_add(APART, std::sync::atomic::Ordering::Relaxed) };
        Self { current: AtomicU64::new(first), moved: AtomicU64::new(0) }
    }
}

/// A body with an exclusive lock.
pub(crate) trait Exclusive: Body {
    fn generations(&self) -> &Generations;

    /// Whether somebody holds the lock.
    fn is_held(&self) -> bool;
}

impl Generations {
    /// The word of the next guard. The caller has just taken the lock.
    #[inline]
    fn next(&self, index: u32) -> Word {
        // Relaxed: only the lock's owner writes it.
        let generation = self.current.load(Ordering::Relaxed) + 1;
        self.current.store(generation, Ordering::Relaxed);
        Word::exclusive(index, generation)
    }
}

/// The words that are valid while the lock of a core is held; none while it is free.
pub(in crate::sync) fn words<B: Exclusive>(index: u32, core: &Core) -> impl Iterator<Item = u64> {
    // SAFETY: the core was that of a `B` just now. It is never unmapped, and what is read are atomics that accept any value.
    let body = unsafe { &*core.peek::<B>() };
    let generations = body.generations();
    // The moved one first: a guard that changes between the loads has the current one then.
    // Acquire: pairs with the Release in `retag`.
    let moved = generations.moved.load(Ordering::Acquire);
    let current = generations.current.load(Ordering::Acquire);
    let held = body.is_held();
    [current, moved]
        .into_iter()
        .filter(move |generation| held && *generation != 0)
        .map(move |generation| Word::exclusive(index, generation).bits())
}

/// The word, in the guard.
pub(crate) struct ExclusiveWord<B: Exclusive> {
    home: Home,
    word: AtomicU64,
    body: PhantomData<fn(B)>,
}

impl<B: Exclusive> ExclusiveWord<B> {
    /// For a guard of the lock that the caller has just taken, in the core with that index.
    #[inline]
    pub(crate) fn new(index: u32, generations: &Generations) -> Self {
        let word = generations.next(index).made(generations);
        Self { word: AtomicU64::new(word), home: Home::of_made(), body: PhantomData }
    }

    /// What every use of the guard does that may be shared.
    #[inline]
    pub(crate) fn touch(&self) {
        // A stale answer leads to `retag_shared`, which looks again.
        if !self.home.is_right() {
            self.retag_shared();
        }
    }

    /// What every use does that is exclusive. It needs no lock, and is what most guards see first.
    #[inline]
    pub(crate) fn touch_mut(&mut self) {
        if !self.home.is_right_mut() {
            self.retag_mut();
        }
    }

    fn index(&self) -> u32 {
        Word::from_bits(self.word.load(Ordering::Relaxed)).index()
    }

    #[cold]
    #[inline(never)]
    fn retag_mut(&mut self) {
        self.retag(core::core(self.index()));
    }

    #[cold]
    #[inline(never)]
    fn retag_shared(&self) {
        let core = core::core(self.index());
        // Several threads may share a guard: one after the other.
        core.lock();
        if !self.home.is_right() {
            self.retag(core);
        }
        // SAFETY: locked above.
        unsafe { core.unlock() };
    }

    /// Starts a generation. Only one thread at a time may do so.
    fn retag(&self, core: &Core) {
        // SAFETY: the guard's core is that of a `B`, and generations are atomics.
        let generations = unsafe { &*core.body::<B>() }.generations();
        // Relaxed: the generation is written by who holds the lock, and that is this guard.
        let generation = generations.current.load(Ordering::Relaxed) + 1;
        // Release: whoever sees one of these stores sees those before it, so the word in memory is one of the two valid
        // generations at every moment. Pairs with the Acquire in `words`.
        generations.moved.store(generation, Ordering::Release);
        self.word.store(Word::exclusive(self.index(), generation).made(generations), Ordering::Release);
        generations.current.store(generation, Ordering::Release);
        generations.moved.store(0, Ordering::Release);
        self.home.set();
    }

    /// The core, at the guard's end.
    #[inline]
    pub(crate) fn end(&mut self) -> &'static Core {
        // Relaxed: nobody else has the guard any more.
        Word::consumed_at(self.word.load(Ordering::Relaxed)).1
    }

    /// The word as a scan of the memory sees it. Acquire: with what was done before it was stored.
    #[cfg(all(test, loom))]
    pub(crate) fn scanned(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(crate) fn bits(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }

    /// As if the guard had just been moved here.
    #[cfg(all(test, loom))]
    pub(crate) fn set_moved(&self) {
        self.home.set_moved();
    }
}
