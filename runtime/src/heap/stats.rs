//! How much memory is used for what.

use std::sync::atomic::Ordering;

use super::{
    cache,
    central::central,
    classes::{CLASSES, PAGE, TABLE},
    large,
    pages::PAGE_HEAP,
    range,
    span::{Arena, SAMPLED, kind},
};

/// Blocks and bytes, of blocks: what was asked for may be less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many blocks.
    pub objects: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Total {
    fn add(&mut self, objects: u64, size: u64) {
        self.objects += objects;
        self.bytes += objects * size;
    }

    fn minus(self, other: Self) -> Self {
        Self { objects: self.objects.saturating_sub(other.objects), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// The blocks of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeStats {
    /// Bytes of a block.
    pub size: usize,
    /// Blocks allocated since the start: Go's `BySize[].Mallocs`.
    pub allocated: u64,
    /// Blocks freed since the start: Go's `BySize[].Frees`.
    pub freed: u64,
}

/// Figures of the heap, as [`stats`] gives them. Where Go's `runtime.MemStats` has the same figure, its name is given.
///
/// A `realloc` counts as freeing and allocating. The figures of running threads are read one after the other, not at one
/// moment. "In use" for pages is from the system's point of view: pages of a span that nobody has touched yet count, so the
/// resident memory is at most what `in_use_pages`, `idle_pages` and the tables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Allocated by the program since the start: `Mallocs` and `TotalAlloc`.
    pub allocated: Total,
    /// Freed by the program since the start: `Frees`.
    pub freed: Total,
    /// The difference: `HeapObjects` and `HeapAlloc`.
    pub in_use: Total,
    /// In use in the untracked arena, which the figures above leave out.
    pub untracked: Total,
    /// By size of block, without those that have a span of their own: `BySize`.
    pub by_size: [SizeStats; CLASSES],
    /// Blocks that have a span of their own and are in use.
    pub large: Total,
    /// Bytes of pages that have blocks on them, of both arenas: `HeapInuse`.
    pub in_use_pages: u64,
    /// Bytes of pages that have none and were not given back: `HeapIdle` less `HeapReleased`.
    pub idle_pages: u64,
    /// Bytes of pages that have none and were given back, or never used again: `HeapReleased`.
    pub released_pages: u64,
    /// Bytes given back to the system since the start.
    pub returned: u64,
    /// Bytes of address space, most of which is never touched. `Sys` would be the first two figures for pages.
    pub reserved: u64,
}

/// The heap's figures. Costs some microseconds, and a visit to each thread's counters.
///
/// ```standalone_crate
/// use greenprof_runtime::heap::{self, Heap};
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let before = heap::stats();
/// let kept = std::hint::black_box(vec![0_u8; 1 << 20]);
/// let after = heap::stats();
/// assert!(after.in_use.bytes >= before.in_use.bytes + kept.len() as u64);
/// ```
pub fn stats() -> Stats {
    let mut stats = Stats {
        allocated: Total::default(),
        freed: Total::default(),
        in_use: Total::default(),
        untracked: Total::default(),
        by_size: [SizeStats::default(); CLASSES],
        large: Total::default(),
        in_use_pages: 0,
        idle_pages: 0,
        released_pages: 0,
        returned: 0,
        reserved: range::reserved() as u64,
    };
    let mut untracked = (Total::default(), Total::default());
    for (class, about) in TABLE.iter().enumerate() {
        let size = u64::from(about.size);
        let (program, samples) = (small(kind(Arena::Tracked, class)), small(SAMPLED + class));
        let (allocated, freed) = (program.0 + samples.0, program.1 + samples.1);
        stats.by_size[class] = SizeStats { size: about.size as usize, allocated, freed };
        stats.allocated.add(allocated, size);
        stats.freed.add(freed, size);
        let (allocated, freed) = small(kind(Arena::Untracked, class));
        untracked.0.add(allocated, size);
        untracked.1.add(freed, size);
    }
    let (allocated, freed) = large(Arena::Tracked);
    stats.large = allocated.minus(freed);
    stats.allocated =
        Total { objects: stats.allocated.objects + allocated.objects, bytes: stats.allocated.bytes + allocated.bytes };
    stats.freed = Total { objects: stats.freed.objects + freed.objects, bytes: stats.freed.bytes + freed.bytes };
    stats.in_use = stats.allocated.minus(stats.freed);
    let (allocated, freed) = large(Arena::Untracked);
    let (small, large) = (untracked.0.minus(untracked.1), allocated.minus(freed));
    stats.untracked = Total { objects: small.objects + large.objects, bytes: small.bytes + large.bytes };

    let figures = PAGE_HEAP.lock().figures;
    let bytes = |pages: usize| (pages * PAGE) as u64;
    stats.in_use_pages = bytes(figures.used);
    stats.idle_pages = bytes(figures.dirty);
    stats.released_pages = bytes(figures.clean);
    stats.returned = figures.returned * PAGE as u64;
    stats
}

/// Blocks of a kind that were allocated and freed.
///
/// A thread counts only what it allocates. What it has freed is what it has in its cache, less what it took from the
/// centre, plus what it gave away again: a block that comes into a cache comes from the centre or from the program.
fn small(kind: usize) -> (u64, u64) {
    let centre = central(kind);
    let mut allocated = centre.direct_allocated.load(Ordering::Relaxed);
    let mut freed = centre.direct_freed.load(Ordering::Relaxed);
    for cache in cache::all() {
        let bin = cache.bin(kind);
        let given_out = bin.allocated.load(Ordering::Relaxed);
        let cached = u64::from(bin.len.load(Ordering::Relaxed));
        let taken = bin.taken.load(Ordering::Relaxed);
        allocated += given_out;
        freed = freed.wrapping_add(given_out.wrapping_add(cached).wrapping_sub(taken));
    }
    // A thread that runs can be read in the middle of a step, which is worth a batch.
    (allocated, freed.min(allocated))
}

fn large(arena: Arena) -> (Total, Total) {
    let counters = large::counters(arena);
    let total = |objects: &std::sync::atomic::AtomicU64, bytes: &std::sync::atomic::AtomicU64| Total {
        objects: objects.load(Ordering::Relaxed),
        bytes: bytes.load(Ordering::Relaxed),
    };
    (total(&counters.allocated, &counters.allocated_bytes), total(&counters.freed, &counters.freed_bytes))
}
