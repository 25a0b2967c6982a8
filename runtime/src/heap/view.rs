//! The heap of a stopped world: which block a word points into, and all spans and blocks.
//!
//! Free blocks lie in three places: in their span's bitmap, in a thread's cache, and in transit. A view first marks those
//! in the second and third place in bitmaps beside the spans'. After that a look-up is a few loads, without a search, and
//! exact. Nothing here allocates or takes a lock, because any thread may have been stopped anywhere in the allocator;
//! `README.md` says why what is found is right all the same.

use std::{
    marker::PhantomData,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    cache,
    central::{Slot, central},
    classes::{CLASSES, PAGE, PAGE_SHIFT},
    pages, range,
    span::{Arena, Span, State, head_of},
};

/// A block that is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its address.
    pub start: usize,
    /// Its length in bytes, which may be more than was asked for.
    pub size: usize,
}

/// A run of pages that is in use, in the program's part of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanView {
    /// The address of its first page.
    pub start: usize,
    /// Its length in bytes.
    pub bytes: usize,
    /// The length in bytes of each of its blocks, which lie next to each other from the start.
    pub block_size: usize,
    /// How many blocks there are, free ones included.
    pub blocks: usize,
}

/// The heap while nobody changes it. There is at most one at a time.
#[derive(Debug)]
pub struct View {
    /// Ends on the thread that has made it, which is the one that runs.
    thread: PhantomData<*mut ()>,
}

/// From the heap's first page to the end of the last that was ever used: where blocks lie. It grows.
pub fn extent() -> Range<usize> {
    let base = range::base();
    if base == 0 { 0..0 } else { base..range::address(pages::top()) }
}

static TAKEN: AtomicBool = AtomicBool::new(false);

impl View {
    /// Makes the view, or gives `None` if there is one. The cost is that of visiting all cached blocks, at most a few
    /// thousand for each thread.
    ///
    /// # Safety
    /// Until the view is dropped no other thread may run that uses this allocator, and the caller must not use it either.
    /// Other threads may have been stopped at any instruction.
    pub unsafe fn of_stopped_world() -> Option<Self> {
        // Acquire, and Release in `drop`: two views in a row see each other's marks undone.
        if TAKEN.swap(true, Ordering::Acquire) {
            return None;
        }
        mark_cached(true);
        Some(Self { thread: PhantomData })
    }

    /// The allocated block that a word points into, its first or any other byte; `None` for everything else, which includes
    /// free blocks and blocks of the untracked arena. Takes constant time.
    pub fn resolve(&self, word: usize) -> Option<Block> {
        let page = range::page_of(word)?;
        let head = range::head(page).load(Ordering::Relaxed) as usize;
        let span = range::span(head);
        let state = span.state();
        // Acquire: pairs with the Release of the page heap. Entries of pages in no span in use are out of date, and lead
        // to a span that is not in use, or that does not reach here.
        let length = span.pages.load(Ordering::Acquire) as usize;
        if page < head || page - head >= length || span.arena() == Arena::Untracked {
            return None;
        }
        let start = range::address(head);
        match state {
            State::Large => Some(Block { start, size: length * PAGE }),
            State::Small => {
                let class = span.class();
                let index = class.index(word - start);
                let size = class.size as usize;
                (index < class.blocks as usize && !is_free(head, index))
                    .then(|| Block { start: start + index * size, size })
            }
            State::Transit | State::Clean | State::Dirty => None,
        }
    }

    /// All spans of the program's part of the heap, in the order of their addresses.
    pub fn spans(&self) -> impl Iterator<Item = SpanView> + '_ {
        used_spans().map(|(page, span)| {
            let bytes = span.length() << PAGE_SHIFT;
            let (block_size, blocks) = match span.state() {
                State::Small => (span.class().size as usize, span.class().blocks as usize),
                _ => (bytes, 1),
            };
            SpanView { start: range::address(page), bytes, block_size, blocks }
        })
    }

    /// Which blocks of a span are free, a bit for each, from the lowest of the first word on.
    pub fn free_blocks(&self, span: &SpanView) -> impl Iterator<Item = u64> {
        let head = (span.start - range::base()) >> PAGE_SHIFT;
        let words = match range::span(head).state() {
            State::Small => span.blocks.div_ceil(64),
            _ => 0,
        };
        let (free, marked) = (range::free_bits(head, words), range::marks(head, words));
        free.iter().zip(marked).map(|(free, marked)| free.load(Ordering::Relaxed) | marked.load(Ordering::Relaxed))
    }

    /// All allocated blocks, in the order of their addresses.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        self.spans().flat_map(|span| {
            let head = (span.start - range::base()) >> PAGE_SHIFT;
            let small = range::span(head).state() == State::Small;
            (0..span.blocks)
                .filter(move |&index| !small || !is_free(head, index))
                .map(move |index| Block { start: span.start + index * span.block_size, size: span.block_size })
        })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        mark_cached(false);
        // Release: see `of_stopped_world`.
        TAKEN.store(false, Ordering::Release);
    }
}

/// Whether a block of a small span is free or cached.
fn is_free(head: usize, index: usize) -> bool {
    let (word, bit) = (index / 64, 1 << (index % 64));
    let free = range::free_bits(head, word + 1)[word].load(Ordering::Relaxed);
    let marked = range::marks(head, word + 1)[word].load(Ordering::Relaxed);
    (free | marked) & bit != 0
}

/// The tracked spans in use and their first pages.
fn used_spans() -> impl Iterator<Item = (usize, &'static Span)> {
    let top = pages::top();
    let mut page = 1;
    std::iter::from_fn(move || {
        while page < top {
            let (this, span) = (page, range::span(page));
            // Acquire: pairs with the Release in the page heap. Never zero below the top; but an endless loop in a
            // stopped world would be worse than a wrong answer.
            page += (span.pages.load(Ordering::Acquire) as usize).max(1);
            if matches!(span.state(), State::Small | State::Large) && span.arena() == Arena::Tracked {
                return Some((this, span));
            }
        }
        None
    })
}

/// Sets or clears the marks of all blocks that lie in caches and in transit.
fn mark_cached(set: bool) {
    if range::base() == 0 {
        return;
    }
    for cache in cache::all() {
        for kind in 0..CLASSES {
            mark(cache.bin(kind).blocks(), set);
        }
    }
    // The untracked kinds come behind, and do not resolve anyway.
    for kind in 0..CLASSES {
        mark(central(kind).transit(), set);
    }
}

fn mark(slots: &[Slot], set: bool) {
    for slot in slots {
        let block = slot.load(Ordering::Relaxed);
        let head = head_of(block);
        let index = range::span(head).class().index(block as usize - range::address(head));
        let word = &range::marks(head, index / 64 + 1)[index / 64];
        let (bits, bit) = (word.load(Ordering::Relaxed), 1 << (index % 64));
        word.store(if set { bits | bit } else { bits & !bit }, Ordering::Relaxed);
    }
}
