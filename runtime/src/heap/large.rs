//! Blocks that have a span of their own: above 32 KiB, or aligned to more than a page.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    cache,
    central::take_pages,
    classes::{PAGE, PAGE_SHIFT, class_of},
    local::{count_down, local},
    pages::PAGE_HEAP,
    purge, range, sampling,
    span::{Arena, LARGE, Span, State},
};

/// What was allocated and freed, for each arena.
static COUNTERS: [Counters; 2] = [const { Counters::new() }; 2];

/// Totals. Relaxed, all of them: nothing is concluded from one about another.
pub(super) struct Counters {
    pub allocated: AtomicU64,
    pub allocated_bytes: AtomicU64,
    pub freed: AtomicU64,
    pub freed_bytes: AtomicU64,
}

impl Counters {
    const fn new() -> Self {
        Self {
            allocated: AtomicU64::new(0),
            allocated_bytes: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
        }
    }

    fn allocated(&self, bytes: usize) {
        self.allocated.fetch_add(1, Ordering::Relaxed);
        self.allocated_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn freed(&self, bytes: usize) {
        self.freed.fetch_add(1, Ordering::Relaxed);
        self.freed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

pub(super) fn counters(arena: Arena) -> &'static Counters {
    &COUNTERS[arena as usize]
}

/// Allocates; null if there is no memory.
#[cold]
#[inline(never)]
pub(super) fn allocate(size: usize, align: usize, zeroed: bool) -> *mut u8 {
    // A cache is needed for nothing here but the countdown.
    let cache = cache::own();
    if !range::make() {
        return std::ptr::null_mut();
    }
    if let Some(cache) = cache {
        cache::visit(cache);
    }
    let pages = size.div_ceil(PAGE).max(1);
    let Some((page, reads_zero)) = take_pages(pages, align) else {
        return std::ptr::null_mut();
    };
    let arena = cache::current_arena();
    let span = range::span(page);
    span.set_arena(arena);
    span.kept.store(0, Ordering::Relaxed);
    span.set_heads(page, 0);
    range::kind(page).store(LARGE, Ordering::Relaxed);
    let block = range::address(page) as *mut u8;
    if zeroed && !reads_zero {
        // SAFETY: the span's own pages, which nobody else knows of.
        unsafe { block.write_bytes(0, size) };
    }
    span.set_state(State::Large);
    counters(arena).allocated(pages << PAGE_SHIFT);
    count(block, size);
    block
}

/// Counts an allocation towards the next sample.
fn count(block: *mut u8, size: usize) {
    // An untracked scope counts down to a sample that never comes; a thread without a cache is not sampled.
    let local = local();
    if !local.cache.get().is_empty_cache() && count_down(&local.half.get().remaining, size) < 0 {
        sampling::crossed(block, size);
    }
}

fn span_of(block: *mut u8) -> (usize, &'static Span) {
    let page = (block as usize - range::base()) >> PAGE_SHIFT;
    (page, range::span(page))
}

pub(super) fn arena(block: *mut u8) -> Arena {
    span_of(block).1.arena()
}

pub(super) fn free(block: *mut u8) {
    let (page, span) = span_of(block);
    debug_assert_eq!(span.state(), State::Large, "freed twice, or not at its start");
    sampling::freed(block, span.length() << PAGE_SHIFT);
    counters(span.arena()).freed(span.length() << PAGE_SHIFT);
    // First of all: from here on it does not resolve.
    span.set_state(State::Transit);
    let mut heap = PAGE_HEAP.lock();
    heap.give(page);
    let figures = heap.figures;
    drop(heap);
    purge::relieve(&figures);
    if let Some(cache) = cache::own() {
        cache::visit(cache);
    }
}

/// Changes the size in place. False if it cannot, or if the block would better be a small one.
pub(super) fn resize(block: *mut u8, align: usize, size: usize) -> bool {
    if class_of(size, align).is_some() {
        return false;
    }
    let (page, span) = span_of(block);
    let (old, new) = (span.length(), size.div_ceil(PAGE));
    if new > old {
        if new >= range::pages() || !PAGE_HEAP.lock().extend(page, new) {
            return false;
        }
    } else if new < old {
        let mut heap = PAGE_HEAP.lock();
        heap.shorten(page, new);
        let figures = heap.figures;
        drop(heap);
        purge::relieve(&figures);
    }
    sampling::freed(block, old << PAGE_SHIFT);
    let counters = counters(span.arena());
    counters.freed(old << PAGE_SHIFT);
    counters.allocated(new << PAGE_SHIFT);
    if span.arena() == Arena::Tracked && cache::current_arena() == Arena::Tracked {
        count(block, size);
    }
    true
}
