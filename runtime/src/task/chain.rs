//! Chains of control blocks, and queues of them, linked through the blocks themselves: for tasks that wait in the
//! injector and for free stacks. Nothing here allocates, and moving a chain costs the same however long it is.
//!
//! A link belongs to whoever holds the chain; all accesses are Relaxed, because a lock hands chains over.

use std::{
    ptr::{self, NonNull},
    sync::atomic::Ordering,
};

use super::control::Control;
use crate::sys::memory::prefetch;

/// The block behind a link that is not null.
fn block<'a>(task: *mut Control) -> Option<&'a Control> {
    // SAFETY: links point to control blocks, which are never unmapped.
    unsafe { task.as_ref() }
}

/// Blocks of a long chain are in no cache, and each holds the address of the next: whoever walks it would wait for one
/// after the other. So each also has the address of the one that is so many places ahead, to be fetched early.
const AHEAD: usize = 8;

/// A chain of blocks linked through `Control::next`, not empty. The link of the last one means nothing.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    head: NonNull<Control>,
    tail: NonNull<Control>,
    length: usize,
}

impl Batch {
    /// Links blocks. They must be the caller's: free, or of tasks that it has made runnable or taken from a queue.
    pub(crate) fn link(blocks: impl IntoIterator<Item = NonNull<Control>>) -> Option<Self> {
        let mut recent: [Option<NonNull<Control>>; AHEAD] = [None; AHEAD];
        let mut at = 0;
        let single = |task: NonNull<Control>| {
            if let Some(before) = recent[at].replace(task) {
                // SAFETY: control blocks are never unmapped.
                unsafe { before.as_ref() }.ahead.store(task.as_ptr(), Ordering::Relaxed);
            }
            at = (at + 1) % AHEAD;
            Self { head: task, tail: task, length: 1 }
        };
        blocks.into_iter().map(single).reduce(Self::followed_by)
    }

    /// A chain with one more block, in front. The block must be the caller's, as for [`Batch::link`].
    #[inline]
    pub(crate) fn with_head(head: NonNull<Control>, rest: Option<Self>) -> Self {
        let Some(rest) = rest else { return Self { head, tail: head, length: 1 } };
        // SAFETY: control blocks are never unmapped.
        let (block, next) = unsafe { (head.as_ref(), rest.head.as_ref()) };
        block.next.store(rest.head.as_ptr(), Ordering::Relaxed);
        // Two places are what is known here; of the last block's link, which means nothing, no harm comes.
        block.ahead.store(next.next.load(Ordering::Relaxed), Ordering::Relaxed);
        Self { head, length: rest.length + 1, ..rest }
    }

    /// One chain of both.
    pub(crate) fn followed_by(self, next: Self) -> Self {
        // SAFETY: control blocks are never unmapped.
        unsafe { self.tail.as_ref() }.next.store(next.head.as_ptr(), Ordering::Relaxed);
        Self { head: self.head, tail: next.tail, length: self.length + next.length }
    }

    /// The first block.
    #[inline]
    pub(crate) fn head(&self) -> &'static Control {
        // SAFETY: control blocks are never unmapped.
        unsafe { self.head.as_ref() }
    }

    /// How many blocks.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The first block, and the others.
    pub(crate) fn split(self) -> (NonNull<Control>, Option<Self>) {
        // SAFETY: as above.
        let head = unsafe { self.head.as_ref() };
        // Stale in the last blocks of a chain, which does no harm.
        prefetch(head.ahead.load(Ordering::Relaxed));
        let next = head.next.load(Ordering::Relaxed);
        let rest = NonNull::new(next).filter(|_| self.length > 1);
        (self.head, rest.map(|head| Self { head, length: self.length - 1, ..self }))
    }
}

impl IntoIterator for Batch {
    type Item = NonNull<Control>;
    type IntoIter = Blocks;

    fn into_iter(self) -> Blocks {
        Blocks(Some(self))
    }
}

/// The blocks of a batch. Each link is read before its block is given away.
pub(crate) struct Blocks(Option<Batch>);

impl Iterator for Blocks {
    type Item = NonNull<Control>;

    fn next(&mut self) -> Option<NonNull<Control>> {
        let (block, rest) = self.0?.split();
        self.0 = rest;
        Some(block)
    }
}

/// Batches, linked through the first block of each.
pub(crate) struct Queue {
    newest: *mut Control,
    oldest: *mut Control,
    /// Blocks.
    length: usize,
}

// SAFETY: it is an owner of blocks, and these are never unmapped.
unsafe impl Send for Queue {}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { newest: ptr::null_mut(), oldest: ptr::null_mut(), length: 0 }
    }

    /// Blocks in all batches.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn push_newest(&mut self, batch: Batch) {
        let at = batch.head.as_ptr();
        self.write(batch, self.newest, ptr::null_mut());
        match block(self.newest) {
            Some(newest) => newest.batch.newer.store(at, Ordering::Relaxed),
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn push_oldest(&mut self, batch: Batch) {
        let at = batch.head.as_ptr();
        self.write(batch, ptr::null_mut(), self.oldest);
        match block(self.oldest) {
            Some(oldest) => oldest.batch.older.store(at, Ordering::Relaxed),
            None => self.newest = at,
        }
        self.oldest = at;
    }

    fn write(&mut self, batch: Batch, older: *mut Control, newer: *mut Control) {
        // SAFETY: as in `block`.
        let links = unsafe { &batch.head.as_ref().batch };
        links.tail.store(batch.tail.as_ptr(), Ordering::Relaxed);
        links.length.store(batch.length, Ordering::Relaxed);
        links.older.store(older, Ordering::Relaxed);
        links.newer.store(newer, Ordering::Relaxed);
        self.length += batch.length;
    }

    fn read(at: *mut Control) -> Option<Batch> {
        let head = NonNull::new(at)?;
        let links = &block(at)?.batch;
        let tail = NonNull::new(links.tail.load(Ordering::Relaxed))?;
        Some(Batch { head, tail, length: links.length.load(Ordering::Relaxed) })
    }

    pub(crate) fn pop_newest(&mut self) -> Option<Batch> {
        let batch = Self::read(self.newest)?;
        self.newest = block(self.newest)?.batch.older.load(Ordering::Relaxed);
        match block(self.newest) {
            Some(newest) => newest.batch.newer.store(ptr::null_mut(), Ordering::Relaxed),
            None => self.oldest = ptr::null_mut(),
        }
        self.length -= batch.length;
        Some(batch)
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<Batch> {
        let batch = Self::read(self.oldest)?;
        self.oldest = block(self.oldest)?.batch.newer.load(Ordering::Relaxed);
        match block(self.oldest) {
            Some(oldest) => oldest.batch.older.store(ptr::null_mut(), Ordering::Relaxed),
            None => self.newest = ptr::null_mut(),
        }
        self.length -= batch.length;
        Some(batch)
    }

    /// The first block of the oldest batch; what is left of it stays the oldest.
    pub(crate) fn pop_oldest_block(&mut self) -> Option<NonNull<Control>> {
        let (block, rest) = self.pop_oldest()?.split();
        if let Some(rest) = rest {
            self.push_oldest(rest);
        }
        Some(block)
    }
}
