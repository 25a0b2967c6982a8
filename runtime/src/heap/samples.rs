//! Where samples lie, and the word that an instrument keeps about each.
//!
//! A small block that is a sample lies in a span of samples: those are kinds of their own, with bins, centres and transit arrays
//! like all others (`span.rs`). So the kind of its page says that a block is a sample, which costs the others nothing; and to
//! make one is to take a block from another bin, which no other thread sees. (TCMalloc gives each sample a span.) The words are
//! an array beside the span, in the untracked arena, one for each block; a word belongs to whoever owns the block.
//!
//! A large block that is a sample has its word in its span's record.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use super::{
    blocks,
    cache::{self, Cache},
    central::central,
    classes::CLASSES,
    range,
    scope::Entered,
    span::{Arena, LARGE, SAMPLED, Span, State, class_of_kind, head_of},
};

/// Words in a cache line. A bin is filled with at least so many blocks, so that two threads seldom write to one line of words.
pub(super) const PER_LINE: u32 = 8;

/// Arrays of spans that are no more, linked by their first words. They are freed later: a span ends under locks, or while the
/// thread's bins are being filled.
static ORPHANS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// A block of the same class for a sample, instead of one of the program's part that was allocated or kept just now and is no
/// large one; null if there is no memory. The word about it is 0.
pub(super) fn instead_of(block: *mut u8, cache: &'static Cache) -> *mut u8 {
    let kind = range::kind_of(block).load(Ordering::Relaxed) as usize;
    debug_assert!(kind < CLASSES);
    let bin = cache.bin(SAMPLED + kind);
    let mut len = bin.len.load(Ordering::Relaxed);
    if len == 0 {
        if !cache::refill(cache, SAMPLED + kind) {
            return ptr::null_mut();
        }
        len = bin.len.load(Ordering::Relaxed);
    }
    let taken = bin.slots(len as usize)[len as usize - 1].load(Ordering::Relaxed);
    bin.len.store(len - 1, Ordering::Relaxed);
    // The other one does not count as allocated.
    bin.allocated.store(bin.allocated.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    let other = &cache.bin(kind).allocated;
    other.store(other.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    taken
}

/// Whether a block can have a word: a large one, or one in a span of samples.
pub(super) fn has_word(block: *mut u8) -> bool {
    range::kind_of(block).load(Ordering::Relaxed) as usize >= SAMPLED
}

/// Sets the word about a block that has one. The block is the caller's.
pub(super) fn keep(block: *mut u8, word: u64) {
    word_of(block).store(word, Ordering::Relaxed);
}

/// Takes the word about a block that has one; 0 if it is no sample. The block is the caller's.
pub(super) fn take(block: *mut u8) -> u64 {
    let word = word_of(block);
    let kept = word.load(Ordering::Relaxed);
    if kept != 0 {
        word.store(0, Ordering::Relaxed);
    }
    kept
}

/// The word about the block that an address points into, if it is a sample.
pub(super) fn look(address: usize) -> Option<u64> {
    let page_of_it = range::page_of(address)?;
    let page = range::head(page_of_it).load(Ordering::Relaxed) as usize;
    let (span, kind) = (range::span(page), || range::kind(page).load(Ordering::Relaxed));
    let seen = kind();
    let kept = match span.state() {
        State::Large if seen == LARGE => span.kept.load(Ordering::Relaxed),
        State::Small if usize::from(seen) >= SAMPLED && seen != LARGE => {
            // A span of a kind ends under that kind's lock.
            let lock = central(seen.into()).raw();
            lock.lock();
            // The entry of a page that is in no span is out of date, and behind the last block a span may have room for none.
            let is_inside = page <= page_of_it
                && page_of_it - page < span.length()
                && span.class().index(address - range::address(page)) < span.class().blocks as usize;
            let is_current = span.state() == State::Small && kind() == seen && is_inside;
            let kept = if is_current { small_word(span, page, address).load(Ordering::Relaxed) } else { 0 };
            lock.unlock();
            kept
        }
        _ => 0,
    };
    (kept != 0).then_some(kept)
}

#[inline]
fn word_of(block: *mut u8) -> &'static AtomicU64 {
    let page = head_of(block);
    let span = range::span(page);
    if span.state() == State::Large { &span.kept } else { small_word(span, page, block as usize) }
}

/// For a span of samples that is in use as long as the result.
#[inline]
fn small_word(span: &'static Span, page: usize, address: usize) -> &'static AtomicU64 {
    let index = span.class().index(address - range::address(page));
    // Relaxed: a block comes from who has made its span, in an order that includes this.
    // SAFETY: the span's array, which has a word for each block.
    unsafe { &*span.words.load(Ordering::Relaxed).add(index) }
}

/// Gives a span that is about to become one of samples its words. False if there is no memory.
pub(super) fn prepare(span: &Span, kind: usize) -> bool {
    debug_assert!(kind >= SAMPLED);
    free_orphans();
    let _entered = Entered::new(Arena::Untracked);
    let bytes = class_of_kind(kind).blocks as usize * size_of::<AtomicU64>();
    let words = blocks::allocate_zeroed(bytes, PER_LINE as usize * size_of::<AtomicU64>());
    span.words.store(words.cast(), Ordering::Relaxed);
    !words.is_null()
}

/// A small span has no blocks any more, and takes its leave.
pub(super) fn abandon(span: &Span) {
    let words = span.words.swap(ptr::null_mut(), Ordering::Relaxed);
    if words.is_null() {
        return;
    }
    let mut first = ORPHANS.load(Ordering::Relaxed);
    loop {
        // SAFETY: an array has a word at least, and this one is nobody else's any more.
        unsafe { &*words }.store(first.expose_provenance() as u64, Ordering::Relaxed);
        // Release: pairs with the Acquire in `free_orphans`.
        match ORPHANS.compare_exchange_weak(first, words, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => first = now,
        }
    }
}

fn free_orphans() {
    // Acquire: pairs with the Release in `abandon`.
    let mut words = ORPHANS.swap(ptr::null_mut(), Ordering::Acquire);
    while !words.is_null() {
        // SAFETY: an array that was taken out of the list just now.
        let next = unsafe { &*words }.load(Ordering::Relaxed);
        blocks::free(words.cast());
        words = ptr::with_exposed_provenance_mut(next as usize);
    }
}
