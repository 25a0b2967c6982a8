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
    classes::{PAGE, PAGE_SHIFT},
    pages, range,
    span::{self, Arena, Span, State},
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

/// The heap while nobody changes it.
///
/// If somebody does change it, because a stop was not complete or its caller was wrong, this view's answers may be wrong.
/// Those of later ones are not: it leaves no mark behind.
#[derive(Debug)]
pub struct View {
    /// How many blocks it has marked; `None` if cached blocks are not told apart.
    marked: Option<usize>,
    /// Ends on the thread that has made it, which is the one that runs.
    thread: PhantomData<*mut ()>,
}

/// From the heap's first page to the end of the last that was ever used: where blocks lie. It grows.
///
/// ```
/// use greenprof_runtime::heap;
///
/// let on_the_stack = 0_u8;
/// assert!(!heap::extent().contains(&(&raw const on_the_stack as usize)));
/// ```
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
        Some(Self { marked: Some(mark_cached(true)), thread: PhantomData })
    }

    /// A view while others run: blocks that lie in a thread's cache count as allocated, and what is given may be out of date
    /// at once. There may be any number. (Marking cached blocks while they move would leave marks behind, by which later views
    /// would take allocated blocks for free ones.)
    ///
    /// ```standalone_crate
    /// use greenprof_runtime::heap::{Heap, View};
    ///
    /// #[global_allocator]
    /// static HEAP: Heap = Heap::new();
    ///
    /// let numbers = std::hint::black_box(Box::new([0_u64; 100]));
    /// let block = View::of_running_world().resolve(&raw const numbers[50] as usize).expect("a word that points into a block");
    /// assert_eq!(block.start, &raw const *numbers as usize);
    /// assert!(block.size >= 800);
    /// ```
    pub fn of_running_world() -> Self {
        Self { marked: None, thread: PhantomData }
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
        let Some(marked) = self.marked else { return };
        // All marks are gone when as many were cleared as were set. If not, a thread has used its cache meanwhile, or ended.
        if mark_cached(false) != marked {
            clear_all();
        }
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

/// Sets or clears the marks of all blocks that lie in caches and in transit. How many marks that has changed.
fn mark_cached(set: bool) -> usize {
    if range::base() == 0 {
        return 0;
    }
    let cached = cache::all().flat_map(|cache| span::tracked_kinds().map(|kind| cache.bin(kind).blocks()));
    // The untracked kinds do not resolve anyway.
    let transit = span::tracked_kinds().map(|kind| central(kind).transit());
    cached.chain(transit).flatten().filter(|slot| mark(slot, set)).count()
}

/// Whether the block's mark was another one before.
fn mark(slot: &Slot, set: bool) -> bool {
    let block = slot.load(Ordering::Relaxed) as usize;
    let Some(page) = range::page_of(block) else { return false };
    let head = range::head(page).load(Ordering::Relaxed) as usize;
    let (span, start) = (range::span(head), range::address(head));
    // Always true while nobody changes the heap.
    let index = span.class().index(block.saturating_sub(start));
    if span.state() != State::Small || block < start || index >= span.class().blocks as usize {
        return false;
    }
    let word = &range::marks(head, index / 64 + 1)[index / 64];
    let (bits, bit) = (word.load(Ordering::Relaxed), 1 << (index % 64));
    word.store(if set { bits | bit } else { bits & !bit }, Ordering::Relaxed);
    (bits & bit != 0) != set
}

/// Clears the marks of all pages. Reads 64 bytes a page.
#[cold]
fn clear_all() {
    // Whatever span a page was in when it was marked, it was below the top.
    for page in 1..pages::top() {
        for word in range::marks(page, range::WORDS) {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
    }
}
