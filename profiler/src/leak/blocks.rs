//! Which block of the heap a word points into, and which blocks were reached.
//!
//! The heap's own tables answer the first question with some five loads. A scan asks for every word of the heap, so it
//! makes a table of its own: for each page the first page of its span and the number of its size. Of the
//! second there is a bit for each block. Those of free blocks are set from the start: to a scan, a free block is one that
//! needs no look any more, so a word is judged by two loads.

use std::io;

use greenprof_runtime::heap::{self, View};

use super::memory::Table;

const PAGE_BITS: u32 = 13;
const PAGE: usize = 1 << PAGE_BITS;
/// Bits for a page: a block for each 16 bytes.
const WORDS: usize = PAGE / 16 / 64;

/// Sizes of blocks in spans of several. The heap has some fifty.
const SIZES: usize = 128;

/// Marks an entry of a page that belongs to a span of the program's.
const KNOWN: u64 = 1 << 63;
/// In place of a size's number: the span is one block.
const WHOLE: u64 = 0xff;

/// An offset is divided by a size with a multiplication and this shift. Exact as long as offset times size is below
/// 2^SHIFT; spans of several blocks are shorter than 2^20 bytes, and their blocks than 2^20.
const SHIFT: u32 = 40;

#[derive(Clone, Copy, Default)]
struct Size {
    bytes: usize,
    reciprocal: u64,
}

pub(super) struct Blocks {
    /// For each page: `KNOWN | number of the size << 40 | pages since the first of the span`.
    pages: Table<u64>,
    /// For each block, at the place of its span's first page: whether it was reached, or is free.
    marks: Table<u64>,
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
}

impl Blocks {
    /// Room for a heap that is a little larger than it is now, times `scale`.
    pub(super) fn new(scale: usize) -> io::Result<Self> {
        let pages = (heap::extent().len() / PAGE + (64 << 20) / PAGE) * scale;
        Ok(Self {
            pages: Table::new(pages)?,
            marks: Table::new(pages * WORDS)?,
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
        for span in view.spans() {
            let Some(size) = (if span.blocks == 1 { Some(WHOLE) } else { self.number(span.block_size) }) else {
                return false;
            };
            let first = (span.start - self.base) / PAGE;
            for page in 0..span.bytes / PAGE {
                self.pages[first + page] = KNOWN | size << 40 | page as u64;
            }
            for (at, free) in view.free_blocks(&span).enumerate() {
                self.marks[first * WORDS + at] = free;
            }
            // What is left behind the last block is no block.
            if span.blocks * span.block_size < span.bytes {
                self.marks[first * WORDS + span.blocks / 64] |= 1 << (span.blocks % 64);
            }
        }
        true
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let number = self.sizes.iter().position(|size| size.bytes == bytes || size.bytes == 0)?;
        self.sizes[number] = Size { bytes, reciprocal: (1 << SHIFT) / bytes as u64 + 1 };
        Some(number as u64)
    }

    /// The block that a word points into, if it is allocated and was not reached before; from now on it was.
    #[inline]
    pub(super) fn reach(&mut self, word: usize) -> Option<Reached> {
        let block = self.find(word)?;
        let bits = self.marks.get_mut(block.mark / 64)?;
        if *bits >> (block.mark % 64) & 1 != 0 {
            return None;
        }
        *bits |= 1 << (block.mark % 64);
        Some(Reached { size: if block.size == 0 { self.whole(block.start) } else { block.size }, ..block })
    }

    /// The block that a word points into, reached, not reached or free.
    pub(super) fn block_at(&self, word: usize) -> Option<Reached> {
        let block = self.find(word)?;
        Some(Reached { size: if block.size == 0 { self.whole(block.start) } else { block.size }, ..block })
    }

    /// The block, with size 0 in place of that of a span that is one.
    #[inline(always)]
    fn find(&self, word: usize) -> Option<Reached> {
        let offset = word.wrapping_sub(self.base);
        if offset >= self.length {
            return None;
        }
        let page = offset >> PAGE_BITS;
        let entry = *self.pages.get(page)?;
        if entry & KNOWN == 0 {
            return None;
        }
        let first = page - entry as u32 as usize;
        let number = entry >> 40 & 0xff;
        if number == WHOLE {
            return Some(Reached { start: self.base + (first << PAGE_BITS), size: 0, mark: first * WORDS * 64 });
        }
        let size = self.sizes.get(number as usize)?;
        let index = (((offset - (first << PAGE_BITS)) as u64 * size.reciprocal) >> SHIFT) as usize;
        let start = self.base + (first << PAGE_BITS) + index * size.bytes;
        Some(Reached { start, size: size.bytes, mark: first * WORDS * 64 + index })
    }

    /// The length of a span that is one block.
    fn whole(&self, start: usize) -> usize {
        let first = (start - self.base) >> PAGE_BITS;
        let pages = self.pages.get(first..).unwrap_or_default();
        let length = pages
            .iter()
            .enumerate()
            .take_while(|(page, entry)| **entry & KNOWN != 0 && **entry as u32 as usize == *page);
        length.count() * PAGE
    }

    /// Takes back that a block was reached.
    pub(super) fn forget(&mut self, mark: usize) {
        if let Some(bits) = self.marks.get_mut(mark / 64) {
            *bits &= !(1 << (mark % 64));
        }
    }
}
