//! Spans: runs of pages with one purpose, and what is noted about each, outside the heap itself.
//!
//! Every page from the first up to the highest ever used belongs to exactly one span, whose record is that of its first
//! page. A free run is a span, too. `README.md` says in which order records change, so that a reader who stops a thread
//! anywhere finds them in order.

use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::{
    classes::{CLASSES, Class, PAGE_SHIFT, TABLE},
    range,
};

/// What a span is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Not in use and in no list: between two other states, or never touched.
    Transit = 0,
    /// Free, and its pages read as zero and cost nothing.
    Clean = 1,
    /// Free, and its pages hold what was in them.
    Dirty = 2,
    /// Blocks of one class.
    Small = 3,
    /// One block.
    Large = 4,
}

/// The two parts of the heap: the program's, and the runtime's and the profilers' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arena {
    Tracked = 0,
    Untracked = 1,
}

/// What the table of kinds says about a page: one byte that tells `dealloc` all it needs in the common case.
///
/// Below `CLASSES`: blocks of that class. Then the same for the untracked arena, then for the program's blocks that are
/// samples. [`LARGE`] is a span that is one block.
pub(super) const SAMPLED: usize = 2 * CLASSES;
pub(super) const LARGE: u8 = 255;

/// The number of kinds of small spans.
pub(super) const KINDS: usize = 3 * CLASSES;
const _: () = assert!(KINDS < LARGE as usize);

pub(super) fn kind(arena: Arena, class: usize) -> usize {
    arena as usize * CLASSES + class
}

pub(super) fn arena_of_kind(kind: usize) -> Arena {
    if kind / CLASSES == Arena::Untracked as usize { Arena::Untracked } else { Arena::Tracked }
}

/// The kinds of the program's blocks.
pub(super) fn tracked_kinds() -> impl Iterator<Item = usize> {
    (0..CLASSES).chain(SAMPLED..KINDS)
}

pub(super) fn class_of_kind(kind: usize) -> &'static Class {
    &TABLE[kind % CLASSES]
}

/// The number of no page: page 0 is never used.
pub(super) const NONE: u32 = 0;

/// A span's record. All fields are atomic because a stopped world is read without locks; who may *write* them is said at
/// each.
#[repr(C, align(64))]
pub(super) struct Span {
    state: AtomicU8,
    arena: AtomicU8,
    /// Of a small span. Written before the state becomes `Small`.
    class: AtomicU8,
    /// Of a large span: whether its pages read as zero when it was made.
    pub zeroed: AtomicU8,
    /// Length. Also in the last page's record if the span is free, so that the neighbour behind finds the first.
    pub pages: AtomicU32,
    /// Of a free span's last page: its first page. Guarded by the page heap's lock.
    pub first: AtomicU32,
    /// Of a small span: blocks that are neither given out nor cached. Guarded by its kind's lock.
    pub free: AtomicU32,
    /// Of a small span: no word of its bitmap below this one has a free block. Guarded by its kind's lock.
    hint: AtomicU32,
    /// Neighbours in the list of spans with free blocks (kind's lock), or of free runs of this size (page heap's lock).
    pub next: AtomicU32,
    pub previous: AtomicU32,
    /// Neighbours in the list of dirty runs, oldest first, and when it entered (milliseconds). Page heap's lock.
    pub younger: AtomicU32,
    pub older: AtomicU32,
    pub since: AtomicU32,
    /// Of a large span: what an instrument keeps about it as a sample; 0 if it is none. Written by whoever owns the block.
    pub kept: AtomicU64,
    /// Of a span of samples: the same of each block, see `samples.rs`. Written before the first block is given out.
    pub words: AtomicPtr<AtomicU64>,
}

const _: () = assert!(size_of::<Span>() == 64, "a cache line a span");

impl Span {
    pub(super) fn state(&self) -> State {
        // Acquire: pairs with the Release in `set_state`.
        match self.state.load(Ordering::Acquire) {
            1 => State::Clean,
            2 => State::Dirty,
            3 => State::Small,
            4 => State::Large,
            _ => State::Transit,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        // Release: what was written about the span before is seen by whoever sees the state.
        self.state.store(state as u8, Ordering::Release);
        // What is written afterwards must not be seen under the old state by one who stops this thread.
        compiler_fence(Ordering::SeqCst);
    }

    pub(super) fn arena(&self) -> Arena {
        if self.arena.load(Ordering::Relaxed) == 0 { Arena::Tracked } else { Arena::Untracked }
    }

    pub(super) fn set_arena(&self, arena: Arena) {
        self.arena.store(arena as u8, Ordering::Relaxed);
    }

    pub(super) fn class(&self) -> &'static Class {
        &TABLE[self.class.load(Ordering::Relaxed) as usize]
    }

    pub(super) fn length(&self) -> usize {
        self.pages.load(Ordering::Relaxed) as usize
    }

    /// Makes a span in transit one of small blocks, all free.
    pub(super) fn become_small(&self, page: usize, kind: usize) {
        let about = class_of_kind(kind);
        self.set_arena(arena_of_kind(kind));
        self.class.store((kind % CLASSES) as u8, Ordering::Relaxed);
        self.free.store(about.blocks, Ordering::Relaxed);
        self.hint.store(0, Ordering::Relaxed);
        let mut left = about.blocks;
        for word in range::free_bits(page, (about.blocks as usize).div_ceil(64)) {
            word.store(if left >= 64 { u64::MAX } else { (1 << left) - 1 }, Ordering::Relaxed);
            left = left.saturating_sub(64);
        }
        for number in 0..self.length() {
            range::kind(page + number).store(kind as u8, Ordering::Relaxed);
        }
        self.set_heads(page, 0);
        self.set_state(State::Small);
    }

    /// Enters the span as the owner of its pages from number `from` on.
    pub(super) fn set_heads(&self, page: usize, from: usize) {
        for number in from..self.length() {
            range::head(page + number).store(page as u32, Ordering::Relaxed);
        }
    }

    /// Takes up to `out.len()` free blocks, lowest addresses first; returns how many. The kind's lock must be held.
    ///
    /// Lowest first keeps what is used together, and leaves the far end of a span untouched as long as possible.
    pub(super) fn take(&self, page: usize, mut put: impl FnMut(*mut u8), wanted: usize) -> usize {
        let class = self.class();
        let start = range::address(page);
        let mut taken = 0;
        let first = self.hint.load(Ordering::Relaxed) as usize;
        let words = range::free_bits(page, (class.blocks as usize).div_ceil(64));
        for (number, word) in words.iter().enumerate().skip(first) {
            let mut bits = word.load(Ordering::Relaxed);
            let before = bits;
            while bits != 0 && taken < wanted {
                let index = number * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                put((start + index * class.size as usize) as *mut u8);
                taken += 1;
            }
            if bits != before {
                word.store(bits, Ordering::Relaxed);
            }
            if taken == wanted {
                self.hint.store(number as u32, Ordering::Relaxed);
                break;
            }
        }
        self.free.store(self.free.load(Ordering::Relaxed) - taken as u32, Ordering::Relaxed);
        taken
    }

    /// Takes a block back; returns how many are free now. The kind's lock must be held.
    pub(super) fn give(&self, page: usize, block: *mut u8) -> u32 {
        let index = self.class().index(block as usize - range::address(page));
        let word = &range::free_bits(page, index / 64 + 1)[index / 64];
        let bits = word.load(Ordering::Relaxed);
        debug_assert_eq!(bits & (1 << (index % 64)), 0, "a block is freed twice");
        word.store(bits | 1 << (index % 64), Ordering::Relaxed);
        if (index / 64) < self.hint.load(Ordering::Relaxed) as usize {
            self.hint.store((index / 64) as u32, Ordering::Relaxed);
        }
        let free = self.free.load(Ordering::Relaxed) + 1;
        self.free.store(free, Ordering::Relaxed);
        free
    }
}

/// The first page of the span that a block of ours lies in.
#[inline]
pub(super) fn head_of(block: *mut u8) -> usize {
    range::head((block as usize - range::base()) >> PAGE_SHIFT).load(Ordering::Relaxed) as usize
}
