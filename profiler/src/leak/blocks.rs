//! Which block of the heap a word points into, and which blocks were reached.
//!
//! The heap's own tables answer the first question with some five loads. A scan asks for every word of the heap, so it
//! makes a table of its own: for each page the first page of its span and the number of its size. Of the
//! second there is a bit for each block. Those of free blocks are set from the start: to a scan, a free block is one that
//! needs no look any more, so a word is judged by two loads.
//!
//! Blocks that were reached are looked at span by span, the span that has waited longest first: meanwhile more of its blocks are
//! reached, and all of them are on the same few pages. Looked at one by one, in the order in which they were reached, each
//! would cost a walk through the processor's page tables, which for small blocks takes longer than all the rest. (Go's collector
//! does so, too: Green Tea.)
//!
//! Several threads may mark at once. Whoever sets a block's bit then sees to it that the span is in the queue; whoever takes a span out
//! says first that it is no more there, and then looks at the bits. Of the two pairs of accesses, all in one order (`SeqCst`), either the
//! one who marks finds that the span is not in the queue, or the one who takes it finds the bit: no block is overlooked. Each span is
//! in the queue once at most, so there is always room.

use std::{
    io,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use greenprof_runtime::heap::{self, View};

use super::memory::{Queue, Table};

const PAGE_BITS: u32 = 13;
const PAGE: usize = 1 << PAGE_BITS;
/// Words of bits for a page at most: a block for each 16 bytes.
const WORDS: usize = PAGE / 16 / 64;

/// Sizes of blocks in spans of several, of which the heap has some fifty; the last one, which stays empty, stands for spans that are
/// one block.
const SIZES: usize = WHOLE as usize + 1;

/// Marks an entry of a page that belongs to a span of the program's.
const KNOWN: u64 = 1 << 63;
const NUMBER_SHIFT: u32 = 55;
const DELTA_SHIFT: u32 = 32;
/// In place of a size's number: the span is one block.
const WHOLE: u64 = 0xff;
/// The largest number of pages since the first that an entry has room for: if it is there, the first one is as far or further.
const MOST_DELTA: usize = (1 << (NUMBER_SHIFT - DELTA_SHIFT)) - 1;

/// An offset is divided by a size with a multiplication and this shift. Exact as long as offset times size is below
/// 2^SHIFT; spans of several blocks are shorter than 2^20 bytes, and their blocks than 2^20.
const SHIFT: u32 = 40;

#[derive(Clone, Copy, Default)]
struct Size {
    bytes: usize,
    reciprocal: u64,
}

pub(super) struct Blocks {
    /// For each page: `KNOWN | number of the size << 55 | pages since the first of the span << 32 | first word of the span's bits`.
    pages: Table<u64>,
    /// By first page: words of the span's bits.
    words: Table<u32>,
    /// For each block whether it was reached, or is free: a bit each, and whole words for each span, one span's behind another's, so
    /// that they take as little of the nearest caches as can be.
    marks: Table<AtomicU64>,
    /// For each block: whether it was looked at, or is free.
    seen: Table<AtomicU64>,
    /// Spans of which a block was reached and not looked at, by their first pages.
    waiting: Queue,
    /// By first page: whether the span is in the queue.
    waits: Table<AtomicU32>,
    sizes: [Size; SIZES],
    base: usize,
    length: usize,
}

/// A block that had not been reached before.
#[derive(Clone, Copy)]
pub(super) struct Reached {
    pub(super) start: usize,
    pub(super) size: usize,
    /// Where its bit is.
    pub(super) mark: usize,
    /// The first page of its span.
    page: usize,
}

/// A span with blocks to look at.
#[derive(Clone, Copy)]
pub(super) struct WaitingSpan {
    /// Its address, and the size of its blocks.
    pub(super) start: usize,
    pub(super) size: usize,
    /// Where its bits begin, and how many words of them there are.
    at: usize,
    pub(super) words: usize,
}

impl Blocks {
    /// Room for a heap that is a little larger than it is now, times `scale`.
    pub(super) fn new(scale: usize) -> io::Result<Self> {
        let pages = (heap::extent().len() / PAGE + (64 << 20) / PAGE) * scale;
        Ok(Self {
            pages: Table::new(pages)?,
            words: Table::new(pages)?,
            marks: Table::new(pages * WORDS)?,
            seen: Table::new(pages * WORDS)?,
            waiting: Queue::new(pages)?,
            waits: Table::new(pages)?,
            sizes: [Size::default(); SIZES],
            base: 0,
            length: 0,
        })
    }

    /// The number of blocks that there can be.
    pub(super) fn most(&self) -> usize {
        self.marks.len() * 64
    }

    /// Enters all spans. `false`: there is no room for them.
    pub(super) fn enter(&mut self, view: &View) -> bool {
        let extent = heap::extent();
        (self.base, self.length) = (extent.start, extent.len());
        if self.length / PAGE > self.pages.len() {
            return false;
        }
        let mut at = 0;
        for span in view.spans() {
            let Some(size) = (if span.blocks == 1 { Some(WHOLE) } else { self.number(span.block_size) }) else {
                return false;
            };
            let first = (span.start - self.base) / PAGE;
            // What is left behind the last block is no block, but has a bit, if it is large enough for a word to be in it.
            let is_rest = span.blocks * span.block_size < span.bytes;
            let words = (span.blocks + usize::from(is_rest)).div_ceil(64);
            if at + words > self.marks.len() {
                return false;
            }
            for page in 0..span.bytes / PAGE {
                let delta = page.min(MOST_DELTA) as u64;
                self.pages[first + page] = KNOWN | size << NUMBER_SHIFT | delta << DELTA_SHIFT | at as u64;
            }
            self.words[first] = words as u32;
            for (word, free) in view.free_blocks(&span).enumerate() {
                *self.marks[at + word].get_mut() = free;
                *self.seen[at + word].get_mut() = free;
            }
            if is_rest {
                let (word, bit) = (at + span.blocks / 64, 1 << (span.blocks % 64));
                *self.marks[word].get_mut() |= bit;
                *self.seen[word].get_mut() |= bit;
            }
            at += words;
        }
        true
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let sizes = &self.sizes[..SIZES - 1];
        let number = sizes.iter().position(|size| size.bytes == bytes || size.bytes == 0)?;
        self.sizes[number] = Size { bytes, reciprocal: (1 << SHIFT) / bytes as u64 + 1 };
        Some(number as u64)
    }

    /// What is needed to judge words quickly.
    #[inline(always)]
    pub(super) fn sight(&self) -> Sight<'_> {
        let Self { pages, marks, sizes, base, length, .. } = self;
        Sight { pages, marks, sizes, base: *base, length: *length }
    }

    /// The block at an offset at which [`Sight::is_new`] has found one, if it still was not reached; from now on it was, and will be
    /// looked at.
    #[inline(never)]
    pub(super) fn reach(&self, offset: usize) -> Option<Reached> {
        let block = self.mark(self.find(offset)?)?;
        let waits = self.waits.get(block.page)?;
        // SeqCst, as in `mark`, `next_span` and `take`: see the head of this file.
        if waits.load(Ordering::SeqCst) == 0 && waits.swap(1, Ordering::SeqCst) == 0 {
            self.waiting.put(block.page as u32);
        }
        Some(block)
    }

    fn mark(&self, block: Reached) -> Option<Reached> {
        let bit = 1 << (block.mark % 64);
        let before = self.marks.get(block.mark / 64)?.fetch_or(bit, Ordering::SeqCst);
        (before & bit == 0).then_some(block)
    }

    /// Whether no span waited a moment ago.
    pub(super) fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The span that has waited longest; it waits no more.
    pub(super) fn next_span(&self) -> Option<WaitingSpan> {
        let ticket = self.waiting.take(1).next()?;
        let page = self.waiting.at(ticket) as usize;
        self.waits.get(page)?.swap(0, Ordering::SeqCst);
        let entry = *self.pages.get(page)?;
        let start = self.base + (page << PAGE_BITS);
        let size = match entry >> NUMBER_SHIFT & WHOLE {
            WHOLE => self.whole(start),
            number => self.sizes.get(number as usize)?.bytes,
        };
        Some(WaitingSpan { start, size, at: entry as u32 as usize, words: *self.words.get(page)? as usize })
    }

    /// Which of 64 blocks of a span were reached and not looked at; from now on they were.
    #[inline]
    pub(super) fn take(&self, span: &WaitingSpan, word: usize) -> u64 {
        let (Some(marks), Some(seen)) = (self.marks.get(span.at + word), self.seen.get(span.at + word)) else {
            return 0;
        };
        // Relaxed: who else takes the same blocks, because the span has been in the queue again, is found out below.
        let taken = marks.load(Ordering::SeqCst) & !seen.load(Ordering::Relaxed);
        if taken == 0 {
            return 0;
        }
        taken & !seen.fetch_or(taken, Ordering::Relaxed)
    }

    /// The block that a word points into, if it is allocated and was not reached before; from now on it was. It is not going to be
    /// looked at.
    pub(super) fn claim(&self, word: usize) -> Option<Reached> {
        let block = self.mark(self.find(word.wrapping_sub(self.base))?)?;
        Some(Reached { size: if block.size == 0 { self.whole(block.start) } else { block.size }, ..block })
    }

    /// The block that a word points into, reached, not reached or free.
    pub(super) fn block_at(&self, word: usize) -> Option<Reached> {
        let block = self.find(word.wrapping_sub(self.base))?;
        Some(Reached { size: if block.size == 0 { self.whole(block.start) } else { block.size }, ..block })
    }

    /// The block at an offset, with size 0 in place of that of a span that is one.
    fn find(&self, offset: usize) -> Option<Reached> {
        if offset >= self.length {
            return None;
        }
        let mark = self.sight().mark(offset)?;
        let page = offset >> PAGE_BITS;
        let first = self.first_page(page)?;
        let start = self.base + (first << PAGE_BITS);
        let entry = *self.pages.get(page)?;
        let size = match entry >> NUMBER_SHIFT & WHOLE {
            WHOLE => 0,
            number => self.sizes.get(number as usize)?.bytes,
        };
        let index = mark - entry as u32 as usize * 64;
        Some(Reached { start: start + index * size, size, mark, page: first })
    }

    fn first_page(&self, mut page: usize) -> Option<usize> {
        loop {
            let delta = delta(*self.pages.get(page)?);
            page -= delta;
            if delta < MOST_DELTA {
                return Some(page);
            }
        }
    }

    /// The length of a span that is one block.
    fn whole(&self, start: usize) -> usize {
        let first = (start - self.base) >> PAGE_BITS;
        let pages = self.pages.get(first..).unwrap_or_default();
        let of_span = |page: usize, entry: u64| entry & KNOWN != 0 && delta(entry) == page.min(MOST_DELTA);
        pages.iter().enumerate().take_while(|(page, entry)| of_span(*page, **entry)).count() * PAGE
    }

    /// Takes back a claim.
    pub(super) fn forget(&self, mark: usize) {
        if let Some(bits) = self.marks.get(mark / 64) {
            // Relaxed: one thread claims and forgets.
            bits.fetch_and(!(1 << (mark % 64)), Ordering::Relaxed);
        }
    }
}

fn delta(entry: u64) -> usize {
    (entry >> DELTA_SHIFT) as usize & MOST_DELTA
}

/// The tables by which a word is judged, side by side in registers.
#[derive(Clone, Copy)]
pub(super) struct Sight<'b> {
    pages: &'b [u64],
    marks: &'b [AtomicU64],
    sizes: &'b [Size; SIZES],
    base: usize,
    length: usize,
}

impl Sight<'_> {
    /// How far a word is into the heap, if it is an address there.
    #[inline(always)]
    pub(super) fn offset(&self, word: usize) -> Option<usize> {
        let offset = word.wrapping_sub(self.base);
        (offset < self.length).then_some(offset)
    }

    /// Whether the offset lies in a block that is allocated and was not reached, as far as this thread has heard.
    #[inline(always)]
    pub(super) fn is_new(&self, offset: usize) -> bool {
        let Some(mark) = self.mark(offset) else { return false };
        // Relaxed: it only ever becomes set; whoever finds it so leaves the rest to the one who set it.
        self.marks.get(mark / 64).is_some_and(|bits| bits.load(Ordering::Relaxed) >> (mark % 64) & 1 == 0)
    }

    /// Where the bit of the block at an offset is.
    #[inline(always)]
    fn mark(&self, offset: usize) -> Option<usize> {
        let page = offset >> PAGE_BITS;
        let entry = *self.pages.get(page)?;
        if entry & KNOWN == 0 {
            return None;
        }
        let first = entry as u32 as usize * 64;
        // Its reciprocal is 0: all of the span is block 0.
        let size = self.sizes.get((entry >> NUMBER_SHIFT & WHOLE) as usize)?;
        let in_span = (delta(entry) << PAGE_BITS) + offset % PAGE;
        Some(first + ((in_span as u64 * size.reciprocal) >> SHIFT) as usize)
    }
}
