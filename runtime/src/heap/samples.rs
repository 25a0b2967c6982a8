//! Which blocks are samples, and the word that an instrument keeps about each.
//!
//! A small span with samples has a bit for each block, another kind, so that freeing a block of any other span costs nothing,
//! and an array of words in the untracked arena. A bit and a word belong to whoever owns the block, so to enter a sample
//! and to take it out is one locked instruction each, and no two threads meet there unless their blocks are neighbours.
//! The kind and the array come with a span's first sample, and go when somebody frees a block that is none and finds no
//! other left.
//!
//! That is the one race: A enters a sample into a span that B finds empty. A sets its bit and then looks at the span's state;
//! B writes the state and then looks at the bits; both in the total order of sequentially consistent operations. So A sees
//! that B is at it, and goes the slow way, behind the lock that B holds; or B sees the bit, and leaves everything as it is.
//! And whoever has a bit set knows that the array stays.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use super::{
    blocks,
    central::central,
    classes::PAGE,
    range,
    scope::Entered,
    span::{self, Arena, KINDS, LARGE, SAMPLED, Span, State, class_of_kind, head_of},
};

/// A span without samples, whose kind says so.
const PLAIN: u32 = 0;
/// It has an array of words, and its kind says that there may be samples.
const MARKED: u32 = 1;
/// As `MARKED`; somebody looks whether there still are any.
const CHECKED: u32 = 2;

/// Arrays of spans that are no more, linked by their first words. They left under a lock, where nothing may be freed.
static ORPHANS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// Notes that a block is a sample, about which the word is 0; returns its size. Nothing if there is no memory for that.
pub(super) fn enter(block: *mut u8) -> Option<usize> {
    let kind = range::kind_of(block).load(Ordering::Relaxed);
    let page = head_of(block);
    let span = range::span(page);
    if kind == LARGE {
        span.words.store(ptr::null_mut(), Ordering::Relaxed);
        span.sampled.store(MARKED, Ordering::Relaxed);
        return Some(span.length() * PAGE);
    }
    let class = span.class();
    let (bits, bit, _) = place(page, span, block as usize);
    // SeqCst, both: see the module; their counterparts are in `clear`.
    bits.fetch_or(bit, Ordering::SeqCst);
    if span.sampled.load(Ordering::SeqCst) != MARKED && !prepare(page, span, kind as usize % KINDS) {
        bits.fetch_and(!bit, Ordering::Relaxed);
        return None;
    }
    Some(class.size as usize)
}

/// Sets the word about a sample. The block is the caller's.
pub(super) fn keep(block: *mut u8, word: u64) {
    let page = head_of(block);
    let span = range::span(page);
    if span.state() == State::Large {
        span.words.store(ptr::without_provenance_mut(word as usize), Ordering::Relaxed);
    } else {
        let (_, _, index) = place(page, span, block as usize);
        // SAFETY: the block's bit is set.
        unsafe { self::word(span, index) }.store(word, Ordering::Relaxed);
    }
}

/// Takes out a block of a span that may have samples, and gives the word about it, if it is one. The block is the caller's.
pub(super) fn leave(block: *mut u8, kind: usize) -> Option<u64> {
    let page = head_of(block);
    let span = range::span(page);
    let (bits, bit, index) = place(page, span, block as usize);
    let found = bits.load(Ordering::Relaxed);
    if found & bit == 0 {
        if found == 0 {
            clear(page, span, kind);
        }
        return None;
    }
    // SAFETY: the block's bit is set.
    let word = unsafe { self::word(span, index) };
    let kept = word.load(Ordering::Relaxed);
    // For the next sample here.
    word.store(0, Ordering::Relaxed);
    // Release: pairs with the loads in `clear`, after which the array may be freed.
    bits.fetch_and(!bit, Ordering::Release);
    Some(kept)
}

/// As [`leave`], for a large block.
pub(super) fn leave_large(span: &Span) -> Option<u64> {
    if span.sampled.load(Ordering::Relaxed) == PLAIN {
        return None;
    }
    span.sampled.store(PLAIN, Ordering::Relaxed);
    Some(span.words.load(Ordering::Relaxed).addr() as u64)
}

/// The word about the block that an address points into, if it is a sample that is in use.
pub(super) fn look(address: usize) -> Option<u64> {
    let page = range::head(range::page_of(address)?).load(Ordering::Relaxed) as usize;
    let span = range::span(page);
    match span.state() {
        State::Large if span.sampled.load(Ordering::Relaxed) == MARKED => {
            Some(span.words.load(Ordering::Relaxed).addr() as u64)
        }
        State::Small => {
            let kind = || span::kind(span.arena(), span.number_of_class());
            let seen = kind();
            let lock = central(seen).raw();
            // Arrays go under the lock of the span's kind.
            lock.lock();
            let is_current =
                span.state() == State::Small && kind() == seen && span.sampled.load(Ordering::Relaxed) == MARKED;
            let found = is_current.then(|| place(page, span, address)).and_then(|(bits, bit, index)| {
                // Acquire: pairs with the Release in `leave`.
                // SAFETY: the span has its array as long as the lock is held.
                (bits.load(Ordering::Acquire) & bit != 0).then(|| unsafe { word(span, index) }.load(Ordering::Relaxed))
            });
            lock.unlock();
            found
        }
        _ => None,
    }
}

/// A small span has no blocks any more. The lock of its kind must be held.
pub(super) fn abandon(span: &Span) {
    if span.sampled.load(Ordering::Relaxed) == PLAIN {
        return;
    }
    span.sampled.store(PLAIN, Ordering::Relaxed);
    let words = span.words.swap(ptr::null_mut(), Ordering::Relaxed);
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

/// Where a block's bit is, which it is, and the block's number.
#[inline]
fn place(page: usize, span: &Span, address: usize) -> (&'static AtomicU64, u64, usize) {
    let index = span.class().index(address - range::address(page));
    (&range::sample_bits(page, index / 64 + 1)[index / 64], 1 << (index % 64), index)
}

/// The word about a block.
///
/// # Safety
/// The block's bit must be set, and nobody else free the block, or else the lock of the span's kind be held.
#[inline]
unsafe fn word(span: &Span, index: usize) -> &AtomicU64 {
    // Relaxed: whoever has set the bit has seen `MARKED` afterwards, with SeqCst, which was written after the pointer.
    // SAFETY: the span's array, which has a word for each block.
    unsafe { &*span.words.load(Ordering::Relaxed).add(index) }
}

/// Makes the span one with samples, if nobody has meanwhile. False if there is no memory.
#[cold]
#[inline(never)]
fn prepare(page: usize, span: &Span, kind: usize) -> bool {
    free_orphans();
    let made = {
        let _entered = Entered::new(Arena::Untracked);
        blocks::allocate_zeroed(class_of_kind(kind).blocks as usize * size_of::<AtomicU64>(), align_of::<AtomicU64>())
    };
    if made.is_null() {
        return false;
    }
    let lock = central(kind).raw();
    lock.lock();
    let is_plain = span.sampled.load(Ordering::Relaxed) == PLAIN;
    if is_plain {
        span.words.store(made.cast(), Ordering::Relaxed);
        // Relaxed: whoever frees the block has got it from this thread, in an order that includes this.
        span.set_kinds(page, SAMPLED + kind as u8);
        span.sampled.store(MARKED, Ordering::SeqCst);
    }
    lock.unlock();
    if !is_plain {
        blocks::free(made);
    }
    true
}

/// Makes the span one without samples, if it has none.
#[cold]
#[inline(never)]
fn clear(page: usize, span: &Span, kind: usize) {
    let bits = range::sample_bits(page, (class_of_kind(kind).blocks as usize).div_ceil(64));
    let is_empty = || bits.iter().all(|word| word.load(Ordering::SeqCst) == 0);
    let lock = central(kind).raw();
    if !is_empty() || !lock.try_lock() {
        return;
    }
    let mut words = ptr::null_mut();
    if span.sampled.load(Ordering::Relaxed) == MARKED {
        // SeqCst, and in `is_empty`: see the module; their counterparts are in `enter`.
        span.sampled.store(CHECKED, Ordering::SeqCst);
        if is_empty() {
            span.set_kinds(page, kind as u8);
            words = span.words.swap(ptr::null_mut(), Ordering::Relaxed);
            span.sampled.store(PLAIN, Ordering::SeqCst);
        } else {
            span.sampled.store(MARKED, Ordering::SeqCst);
        }
    }
    lock.unlock();
    if !words.is_null() {
        blocks::free(words.cast());
    }
}
