//! The ring between a thread that records events and the thread that reads them: words, one writer, one reader, no lock.
//!
//! The writer never waits. If there is no room it counts a loss, and the next record that finds room is preceded by one that
//! says how many were lost: so the reader knows *where* in the order of this thread something is missing.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;
use memmap2::MmapMut;

/// Words of a ring: 1 MiB, some 60 000 events, 20 ms of a worker that does nothing but switch tasks. Pages that were never
/// used take no memory.
pub(crate) const CAPACITY: usize = 1 << 17;

/// The reader is woken each time so many words were written.
pub(crate) const WAKE_EVERY: u64 = CAPACITY as u64 / 4;

const MASK: u64 = CAPACITY as u64 - 1;

pub(crate) struct Ring {
    words: &'static [AtomicU64],
    /// Words ever written. Written by the writer.
    written: CachePadded<AtomicU64>,
    /// Words ever read. Written by the reader.
    read: CachePadded<AtomicU64>,
}

impl Ring {
    /// A ring that is never freed, or nothing if the system has no memory.
    pub(crate) fn leak() -> Option<&'static Self> {
        let map = MmapMut::map_anon(CAPACITY * size_of::<u64>()).ok()?;
        let bytes: &'static mut MmapMut = Box::leak(Box::new(map));
        // SAFETY: zeroed pages that live for ever, aligned to a page, of that length; an atomic has the layout of its integer.
        let words = unsafe { std::slice::from_raw_parts(bytes.as_mut_ptr().cast::<AtomicU64>(), CAPACITY) };
        Some(Box::leak(Box::new(Self {
            words,
            written: CachePadded::new(AtomicU64::new(0)),
            read: CachePadded::new(AtomicU64::new(0)),
        })))
    }

    /// Whether everything has been read.
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire on both: for whoever takes the ring over from another writer.
        self.read.load(Ordering::Acquire) == self.written.load(Ordering::Acquire)
    }

    /// For the writer that takes the ring: where it continues.
    pub(super) fn written(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`, of an earlier writer.
        self.written.load(Ordering::Acquire)
    }

    /// For the writer: up to where it may write.
    pub(crate) fn limit(&self) -> u64 {
        // Acquire: pairs with the Release in `set_read`: the reader is done with the words.
        self.read.load(Ordering::Acquire) + CAPACITY as u64
    }

    /// For the writer, below `limit`.
    #[inline(always)]
    pub(crate) fn put(&self, at: u64, word: u64) {
        // Relaxed: `publish` hands the words over.
        self.words[(at & MASK) as usize].store(word, Ordering::Relaxed);
    }

    /// For the writer: all words below `end` may be read.
    #[inline(always)]
    pub(crate) fn publish(&self, end: u64) {
        // Release: pairs with the Acquire in `end`.
        self.written.store(end, Ordering::Release);
    }

    /// For the reader: up to where it may read.
    pub(crate) fn end(&self) -> u64 {
        // Acquire: pairs with the Release in `publish`.
        self.written.load(Ordering::Acquire)
    }

    /// For the reader: from where it has not read yet.
    pub(crate) fn start(&self) -> u64 {
        // Relaxed: the reader's own, or handed over with the lock of the readers.
        self.read.load(Ordering::Relaxed)
    }

    /// For the reader: appends words below `end`, at most a ring's.
    pub(crate) fn copy(&self, range: Range<u64>, to: &mut Vec<u64>) {
        let (start, length) = ((range.start & MASK) as usize, (range.end - range.start) as usize);
        let until_wrap = length.min(CAPACITY - start);
        // Relaxed: as for `put`.
        let words = |range: Range<usize>| self.words[range].iter().map(|word| word.load(Ordering::Relaxed));
        to.reserve(length);
        to.extend(words(start..start + until_wrap));
        to.extend(words(0..length - until_wrap));
    }

    /// For the reader: it is done with all words below `start`.
    pub(crate) fn set_read(&self, start: u64) {
        // Release: pairs with the Acquire in `limit`.
        self.read.store(start, Ordering::Release);
    }
}
