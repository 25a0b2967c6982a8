//! The reserved range: the heap's pages, and the tables about them, all in one mapping.
//!
//! ```text
//! heap pages | spans | heads | kinds | free bits | marks | thread caches
//! ```
//!
//! Everything is reserved at once and committed by touch, so no table ever grows, moves or has to be looked up under a
//! lock, and whatever an address of the heap leads to is found by arithmetic.

use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::{
    cache::CACHE_BYTES,
    classes::{GRAIN, PAGE, PAGE_SHIFT},
    lock::Locked,
    span::Span,
};
use crate::sys::memory;

/// The range is 2^40 bytes, or as much less as the process may have, down to 2^24.
const LARGEST: u32 = 40;
const SMALLEST: u32 = 24;
/// What the range is aligned to.
const RANGE_ALIGN: usize = 2 << 20;

/// Bits of a page in each bitmap: one for each block that it could have at most.
const BITS: usize = PAGE / GRAIN;
pub(super) const WORDS: usize = BITS / 64;
/// Bytes in the tables for a page of the heap.
const PER_PAGE: usize = size_of::<Span>() + size_of::<AtomicU32>() + 1 + 2 * BITS / 8;

/// Thread caches at most, and how many bytes of the heap there must be for each.
const MAX_CACHES: usize = 1 << 15;
const HEAP_PER_CACHE: usize = 2 << 20;

/// The address of page 0. Zero until there is a range. The other addresses are written before it.
static BASE: AtomicUsize = AtomicUsize::new(0);
static PAGES: AtomicUsize = AtomicUsize::new(0);
static CACHES: AtomicUsize = AtomicUsize::new(0);
static SPANS: AtomicPtr<Span> = AtomicPtr::new(std::ptr::null_mut());
static HEADS: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// The kind of the page at address 0, were it in the range: saves `dealloc` a subtraction.
static KINDS: AtomicUsize = AtomicUsize::new(0);
static FREE_BITS: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static MARKS: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static CACHE_AREA: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the mapping.
static RESERVED: AtomicUsize = AtomicUsize::new(0);
/// Guards the making of the range.
static MAKING: Locked<()> = Locked::new(());

/// Makes the range if there is none. False if the system has no room for even the smallest.
pub(super) fn make() -> bool {
    if base() != 0 {
        return true;
    }
    let _making = MAKING.lock();
    if base() != 0 {
        return true;
    }
    (SMALLEST..=largest()).rev().any(reserve)
}

/// The largest range that makes sense: half of what the process may map, if that is limited.
fn largest() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid place for the answer; on failure it stays as it is.
    unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    if limit.rlim_cur == libc::RLIM_INFINITY {
        return LARGEST;
    }
    (limit.rlim_cur / 2).max(1).ilog2().min(LARGEST)
}

fn reserve(bits: u32) -> bool {
    let heap = 1usize << bits;
    let pages = heap >> PAGE_SHIFT;
    let caches = (heap / HEAP_PER_CACHE).clamp(16, MAX_CACHES);
    let bytes = heap + pages * PER_PAGE + caches * CACHE_BYTES + memory::PAGE;
    let Ok(start) = memory::reserve(bytes.next_multiple_of(memory::PAGE), RANGE_ALIGN) else {
        return false;
    };
    let base = start as usize;
    let mut next = base + heap;
    let mut table = |bytes: usize| {
        let at = next;
        next += bytes;
        at
    };
    // Relaxed, all of them: published by the Release of `BASE`, and by whatever hands a block to another thread. Each
    // table is a multiple of 64 bytes, as there are at least 2048 pages.
    SPANS.store(table(pages * size_of::<Span>()) as *mut Span, Ordering::Relaxed);
    HEADS.store(table(pages * size_of::<AtomicU32>()) as *mut AtomicU32, Ordering::Relaxed);
    KINDS.store(table(pages).wrapping_sub(base >> PAGE_SHIFT), Ordering::Relaxed);
    for bits in [&FREE_BITS, &MARKS] {
        bits.store(table(pages * BITS / 8) as *mut AtomicU64, Ordering::Relaxed);
    }
    let caches_at = next.next_multiple_of(memory::PAGE);
    CACHE_AREA.store(caches_at, Ordering::Relaxed);
    CACHES.store(caches, Ordering::Relaxed);
    PAGES.store(pages, Ordering::Relaxed);
    RESERVED.store(bytes, Ordering::Relaxed);
    // Release: pairs with the Acquire in `make` and in `resolve`.
    BASE.store(base, Ordering::Release);
    true
}

/// The address of page 0; 0 if there is no range.
#[inline]
pub(super) fn base() -> usize {
    // Acquire: pairs with the Release in `reserve`.
    BASE.load(Ordering::Acquire)
}

/// How many pages there are.
#[inline]
pub(super) fn pages() -> usize {
    PAGES.load(Ordering::Relaxed)
}

/// How many thread caches there can be.
pub(super) fn caches() -> usize {
    CACHES.load(Ordering::Relaxed)
}

/// Bytes of address space, tables included.
pub(super) fn reserved() -> usize {
    RESERVED.load(Ordering::Relaxed)
}

#[inline]
pub(super) fn address(page: usize) -> usize {
    base() + (page << PAGE_SHIFT)
}

/// The page of an arbitrary word, if it is in the range.
#[inline]
pub(super) fn page_of(word: usize) -> Option<usize> {
    let base = base();
    let page = word.wrapping_sub(base) >> PAGE_SHIFT;
    (base != 0 && page < pages()).then_some(page)
}

/// The memory of a thread cache.
pub(super) fn cache(index: usize) -> *mut u8 {
    debug_assert!(index < caches());
    (CACHE_AREA.load(Ordering::Relaxed) + index * CACHE_BYTES) as *mut u8
}

/// The record of the span that begins at a page.
#[inline]
pub(super) fn span(page: usize) -> &'static Span {
    debug_assert!(page < pages());
    // SAFETY: the page is in the range, whose tables are never unmapped; zeroes are a valid record.
    unsafe { &*SPANS.load(Ordering::Relaxed).add(page) }
}

/// Which page is the first of the span that a page belongs to; out of date if the span is free.
#[inline]
pub(super) fn head(page: usize) -> &'static AtomicU32 {
    debug_assert!(page < pages());
    // SAFETY: as in `span`.
    unsafe { &*HEADS.load(Ordering::Relaxed).add(page) }
}

/// The kind of a page.
#[inline]
pub(super) fn kind(page: usize) -> &'static AtomicU8 {
    kind_of(address(page) as *mut u8)
}

/// The kind of the page of a block of ours.
#[inline(always)]
pub(super) fn kind_of(block: *mut u8) -> &'static AtomicU8 {
    // SAFETY: the block is in the range, so this is its entry in the table, which is never unmapped.
    unsafe { &*(KINDS.load(Ordering::Relaxed).wrapping_add(block as usize >> PAGE_SHIFT) as *const AtomicU8) }
}

fn bits(table: &AtomicPtr<AtomicU64>, page: usize, words: usize) -> &'static [AtomicU64] {
    debug_assert!(page + words.div_ceil(WORDS) <= pages());
    // SAFETY: a span has at least `WORDS` words for each of its pages, and asks for no more than it has.
    unsafe { std::slice::from_raw_parts(table.load(Ordering::Relaxed).add(page * WORDS), words) }
}

/// The first words of a small span's bitmap of blocks that are neither given out nor cached, one bit a block.
#[inline]
pub(super) fn free_bits(page: usize, words: usize) -> &'static [AtomicU64] {
    bits(&FREE_BITS, page, words)
}

/// The same for the marks of a [`View`](super::View): blocks that lie in a cache.
#[inline]
pub(super) fn marks(page: usize, words: usize) -> &'static [AtomicU64] {
    bits(&MARKS, page, words)
}
