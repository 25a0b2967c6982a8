//! The centre: for each kind, the spans that have free blocks, and batches of blocks on their way between threads.
//!
//! A thread whose cache is full puts a batch here, and one whose cache is empty takes one. Batches that come and go are
//! only copied, into and out of the *transit* array; blocks go back into their spans' bitmaps when it is full, or when
//! nobody has used it for a while. This is TCMalloc's transfer cache in front of its central free lists. A block that was
//! allocated by one thread and freed by another needs nothing else: caches belong to threads, blocks do not.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, compiler_fence},
};

use super::{
    classes::MAX_BATCH,
    lock::{Guard, Locked},
    pages::PAGE_HEAP,
    purge, range, samples,
    span::{KINDS, NONE, SAMPLED, Span, State, class_of_kind, head_of},
};

/// Batches in transit at most.
const BATCHES: usize = 4;

/// Bytes in transit at most, of classes of which that is less than [`BATCHES`].
const TRANSIT_BYTES: usize = 128 << 10;

/// Blocks in a row: a thread's, or those in transit.
pub(super) type Slot = AtomicPtr<u8>;

static CENTRALS: [Central; KINDS] = [const { Central::new() }; KINDS];

pub(super) fn central(kind: usize) -> &'static Central {
    &CENTRALS[kind]
}

pub(super) struct Central {
    /// Guards the list, the spans in it, and writing to all other fields.
    list: Locked<List>,
    /// How many blocks are in transit: the first so many of `slots`.
    stored: AtomicU32,
    slots: [Slot; BATCHES * MAX_BATCH],
    /// Whether it was used since the last [`trim`].
    used: AtomicBool,
    /// Blocks that threads without a cache have allocated and freed.
    pub(super) direct_allocated: AtomicU64,
    pub(super) direct_freed: AtomicU64,
}

/// The spans of a kind that have free blocks.
struct List {
    first: u32,
    last: u32,
    /// How many of them have no other blocks.
    empty: u32,
}

impl List {
    fn push(&mut self, page: usize, in_front: bool) {
        let span = range::span(page);
        let (neighbour, other) = if in_front { (self.first, NONE) } else { (NONE, self.last) };
        span.next.store(neighbour, Ordering::Relaxed);
        span.previous.store(other, Ordering::Relaxed);
        if neighbour != NONE {
            range::span(neighbour as usize).previous.store(page as u32, Ordering::Relaxed);
        } else {
            self.last = page as u32;
        }
        if other != NONE {
            range::span(other as usize).next.store(page as u32, Ordering::Relaxed);
        } else {
            self.first = page as u32;
        }
    }

    fn remove(&mut self, page: usize) {
        let span = range::span(page);
        let (next, previous) = (span.next.load(Ordering::Relaxed), span.previous.load(Ordering::Relaxed));
        if next == NONE {
            self.last = previous;
        } else {
            range::span(next as usize).previous.store(previous, Ordering::Relaxed);
        }
        if previous == NONE {
            self.first = next;
        } else {
            range::span(previous as usize).next.store(next, Ordering::Relaxed);
        }
    }

    /// Takes a block back into its span. A span that gets empty stays if it is the only empty one; otherwise it leaves
    /// the list, and is put in front of `leaving`.
    fn give(&mut self, block: *mut u8, leaving: &mut u32) {
        let page = head_of(block);
        let span = range::span(page);
        let free = span.give(page, block);
        if free == 1 {
            self.push(page, false);
        }
        if free == span.class().blocks {
            self.empty += 1;
            if self.empty > 1 {
                self.leave(page, span, leaving);
            }
        }
    }

    fn leave(&mut self, page: usize, span: &Span, leaving: &mut u32) {
        self.empty -= 1;
        self.remove(page);
        samples::abandon(span);
        span.set_state(State::Transit);
        span.next.store(*leaving, Ordering::Relaxed);
        *leaving = page as u32;
    }
}

impl Central {
    const fn new() -> Self {
        Self {
            list: Locked::new(List { first: NONE, last: NONE, empty: 0 }),
            stored: AtomicU32::new(0),
            slots: [const { AtomicPtr::new(std::ptr::null_mut()) }; BATCHES * MAX_BATCH],
            used: AtomicBool::new(false),
            direct_allocated: AtomicU64::new(0),
            direct_freed: AtomicU64::new(0),
        }
    }

    /// The lock, for forking, and for looking at a span from outside.
    pub(super) fn raw(&self) -> &super::lock::RawLock {
        self.list.raw()
    }

    /// The blocks in transit, for one who has stopped the world.
    pub(super) fn transit(&self) -> &[Slot] {
        &self.slots[..self.stored.load(Ordering::Relaxed) as usize]
    }

    /// Clears slots that are not in use any more: to a leak scan this is a variable like others, and what was left in it would lead to
    /// blocks that are in use again.
    fn forget(&self, slots: Range<usize>) {
        // Who stops this thread must find their number lowered before this.
        compiler_fence(Ordering::SeqCst);
        self.slots[slots].iter().for_each(|slot| slot.store(std::ptr::null_mut(), Ordering::Relaxed));
    }

    /// Fills up to `out.len()` slots with blocks; returns how many. None means that there is no memory.
    pub(super) fn take(&self, kind: usize, out: &[Slot]) -> usize {
        let mut put = out.iter();
        let mut into = |block| put.next().expect("no more than asked for").store(block, Ordering::Relaxed);
        let mut list = self.list.lock();
        self.used.store(true, Ordering::Relaxed);
        let stored = self.stored.load(Ordering::Relaxed) as usize;
        if stored > 0 {
            let left = stored - stored.min(out.len());
            self.slots[left..stored].iter().for_each(|slot| into(slot.load(Ordering::Relaxed)));
            self.stored.store(left as u32, Ordering::Relaxed);
            self.forget(left..stored);
            return stored - left;
        }
        if list.first == NONE {
            drop(list);
            let Some(page) = new_span(kind) else { return 0 };
            list = self.list.lock();
            list.empty += 1;
            list.push(page, true);
        }
        let mut taken = 0;
        while taken < out.len() && list.first != NONE {
            let page = list.first as usize;
            let span = range::span(page);
            if span.free.load(Ordering::Relaxed) == span.class().blocks {
                list.empty -= 1;
            }
            taken += span.take(page, &mut into, out.len() - taken);
            if span.free.load(Ordering::Relaxed) == 0 {
                list.remove(page);
            }
        }
        taken
    }

    /// Takes blocks back. They must not be in the caller's cache any more.
    pub(super) fn give(&self, kind: usize, blocks: &[Slot]) {
        let class = class_of_kind(kind);
        let room = (BATCHES * class.batch as usize).min((TRANSIT_BYTES / class.size as usize).max(2));
        let mut leaving = NONE;
        {
            let mut list = self.list.lock();
            self.used.store(true, Ordering::Relaxed);
            let stored = self.stored.load(Ordering::Relaxed) as usize;
            let transit = blocks.len().min(room.saturating_sub(stored));
            for (slot, block) in self.slots[stored..].iter().zip(&blocks[..transit]) {
                slot.store(block.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            // Who stops this thread must find the slots written, whose number is raised after this.
            compiler_fence(Ordering::SeqCst);
            self.stored.store((stored + transit) as u32, Ordering::Relaxed);
            for block in &blocks[transit..] {
                list.give(block.load(Ordering::Relaxed), &mut leaving);
            }
        }
        release_spans(leaving);
    }

    /// Allocates for a thread without a cache.
    pub(super) fn take_one(&self, kind: usize) -> *mut u8 {
        let slot = [Slot::new(std::ptr::null_mut())];
        if self.take(kind, &slot) == 1 {
            self.direct_allocated.fetch_add(1, Ordering::Relaxed);
        }
        slot[0].load(Ordering::Relaxed)
    }

    /// Frees for a thread without a cache.
    pub(super) fn give_one(&self, kind: usize, block: *mut u8) {
        self.direct_freed.fetch_add(1, Ordering::Relaxed);
        self.give(kind, &[Slot::new(block)]);
    }

    /// Puts blocks in transit back into their spans, and lets all empty spans go.
    fn settle(&self, mut list: Guard<'_, List>) {
        let mut leaving = NONE;
        let stored = self.stored.load(Ordering::Relaxed) as usize;
        self.stored.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        for slot in &self.slots[..stored] {
            list.give(slot.load(Ordering::Relaxed), &mut leaving);
        }
        self.forget(0..stored);
        let mut page = list.first as usize;
        while list.empty > 0 && page != NONE as usize {
            let span = range::span(page);
            let next = span.next.load(Ordering::Relaxed) as usize;
            if span.free.load(Ordering::Relaxed) == span.class().blocks {
                list.leave(page, span, &mut leaving);
            }
            page = next;
        }
        drop(list);
        release_spans(leaving);
    }
}

/// Puts what nobody has used since the last call back into the spans; with `all`, everything.
pub(super) fn trim(all: bool) {
    for central in &CENTRALS {
        if !all && central.used.swap(false, Ordering::Relaxed) {
            continue;
        }
        if all {
            central.settle(central.list.lock());
        } else if let Some(list) = central.list.try_lock()
            && (list.empty > 0 || central.stored.load(Ordering::Relaxed) > 0)
        {
            central.settle(list);
        }
    }
}

/// Whether a kind was used since the last [`trim`], so that another one may find more.
pub(super) fn is_unsettled() -> bool {
    CENTRALS.iter().any(|central| central.used.load(Ordering::Relaxed))
}

fn new_span(kind: usize) -> Option<usize> {
    let (page, _) = take_pages(class_of_kind(kind).pages as usize, 1)?;
    let span = range::span(page);
    if kind >= SAMPLED && !samples::prepare(span, kind) {
        PAGE_HEAP.lock().give(page);
        return None;
    }
    span.become_small(page, kind);
    Some(page)
}

/// Takes a run from the page heap; if there is none, after everything that is idle was gathered.
pub(super) fn take_pages(pages: usize, align: usize) -> Option<(usize, bool)> {
    if let Some(found) = PAGE_HEAP.lock().take(pages, align) {
        return Some(found);
    }
    trim(true);
    // Clean runs join those beside them.
    purge::purge(true);
    PAGE_HEAP.lock().take(pages, align)
}

fn release_spans(mut leaving: u32) {
    if leaving == NONE {
        return;
    }
    let mut heap = PAGE_HEAP.lock();
    while leaving != NONE {
        let page = leaving as usize;
        leaving = range::span(page).next.load(Ordering::Relaxed);
        heap.give(page);
    }
    let figures = heap.figures;
    drop(heap);
    purge::relieve(&figures);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::heap::blocks;

    #[test]
    fn what_has_left_the_transit_is_forgotten() {
        for _ in 0..3 {
            let blocks: Vec<usize> = (0..2000).map(|_| blocks::allocate(48, 8) as usize).collect();
            assert!(blocks.iter().all(|block| *block != 0));
            blocks.into_iter().for_each(|block| blocks::free(block as *mut u8));
        }
        for central in &CENTRALS {
            let _list = central.list.lock();
            let stored = central.stored.load(Ordering::Relaxed) as usize;
            assert!(central.slots[stored..].iter().all(|slot| slot.load(Ordering::Relaxed).is_null()));
        }
    }
}
