//! A heap that can be looked into: an allocator that knows of any word which block it points into, samples allocations, and
//! keeps the runtime's own memory apart.
//!
//! A program that wants a heap profile or a leak scan makes it its allocator; one that does not pays nothing for it.
//!
//! ```
//! #[global_allocator]
//! static HEAP: greenprof_runtime::heap::Heap = greenprof_runtime::heap::Heap::new();
//!
//! let numbers: Vec<u64> = (0..1000).collect();
//! let stats = greenprof_runtime::heap::stats();
//! assert!(stats.in_use.bytes >= 8000);
//! # drop(numbers);
//! ```
//!
//! # Shape
//!
//! All memory lies in one reserved range of up to 1 TiB of addresses, less if the process may not have that much. Blocks up
//! to 32 KiB come in 72 sizes, at most an eighth apart above 128 bytes, from spans of one size; larger ones have a span of
//! their own, in units of 8 KiB. Every thread has a cache. Freed memory goes back to the system after about half a second,
//! by threads that come along or by the monitor of a [`Runtime`](crate::Runtime), or with [`release`]. Exhaustion gives null, never an abort in here.
//!
//! Costs: an allocation or a free about 2 ns from the cache; a few microseconds for a large block, and its page faults;
//! resident memory about 1 % of the heap for tables, and up to 40 KiB for each thread that uses all sizes.
//!
//! The cores of the primitives of [`sync`](crate::sync) do not lie in this heap but in a region of their own: a word that
//! points to one never resolves here, but with [`Stopped::primitive_at`](crate::world::stop::Stopped::primitive_at).
//!
//! `runtime/src/heap/README.md` has the whole design, its sources, and why a stopped world can be read.

mod blocks;
mod cache;
mod central;
mod classes;
mod fork;
mod large;
mod local;
pub(crate) mod lock;
mod pages;
mod purge;
mod range;
mod samples;
pub mod sampling;
mod scope;
mod span;
mod stats;
mod view;

use std::alloc::{GlobalAlloc, Layout};

pub(crate) use purge::{has_excess, tend};
pub use scope::{in_untracked, tracked, untracked};
pub use stats::{SizeStats, Stats, Total, stats};
pub use view::{Block, SpanView, View, extent};

/// The allocator. All of them are the same heap.
///
/// ```standalone_crate
/// use greenprof_runtime::heap::{self, Heap};
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// assert!(heap::is_active());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap(());

impl Heap {
    /// The heap. Reserves nothing: that happens at the first allocation.
    pub const fn new() -> Self {
        Self(())
    }
}

// SAFETY: blocks are at least as large and as aligned as asked for (`classes.rs`), lie apart, and stay where they are until
// they are freed. Nothing here unwinds: there are no panics but failed assertions about the heap's own state, and the
// functions do not call back into code that could.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        blocks::allocate(layout.size(), layout.align())
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        blocks::free(block);
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        blocks::allocate_zeroed(layout.size(), layout.align())
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { blocks::reallocate(block, layout.size(), layout.align(), new) }
    }
}

/// Whether this heap is the program's global allocator: without it there is nothing to sample, and nothing to scan. Costs an
/// allocation.
///
/// ```
/// use greenprof_runtime::heap;
///
/// // This example has the system's allocator: leaks could not be looked for in it.
/// assert!(!heap::is_active());
/// ```
pub fn is_active() -> bool {
    // A block that the compiler must not leave out.
    let block = std::hint::black_box(Box::new(0_u8));
    range::page_of(std::ptr::from_ref(&*block) as usize).is_some()
}

/// Gives all free memory back to the system that can be: the calling thread's cache, what is in transit, and idle pages.
/// The other threads empty their caches when they next visit the centre. Costs a system call for each run of pages.
///
/// ```standalone_crate
/// use greenprof_runtime::heap::{self, Heap};
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let before = heap::stats().returned;
/// drop(vec![1_u8; 64 << 20]);
/// heap::release();
/// assert!(heap::stats().returned > before);
/// ```
pub fn release() {
    if range::base() == 0 {
        return;
    }
    cache::release();
    central::trim(true);
    purge::purge(true);
}
