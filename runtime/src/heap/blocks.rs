//! Allocating and freeing: the fast paths, and where they lead.
//!
//! [`allocate`] and [`free`] are not inlined, so that what they know about their thread cannot outlive a call; see
//! `local.rs`. Both are about twenty instructions in the common case: two table look-ups, and a stack of blocks.

use std::{
    ptr,
    sync::atomic::{Ordering, compiler_fence},
};

use super::{
    cache::{self, push},
    central::central,
    classes::{CLASSES, class_of, fine_class_of},
    large,
    local::{self, count_down, half},
    range, sampling,
    scope::Entered,
    span::{Arena, LARGE, SAMPLED, arena_of_kind, class_of_kind},
};

/// Allocates; null if there is no memory.
#[inline(never)]
pub(super) fn allocate(size: usize, align: usize) -> *mut u8 {
    match fine_class_of(size, align) {
        Some(class) => take(size, align, class),
        None => allocate_other(size, align),
    }
}

/// Allocates what is larger or more aligned than most. A function of its own, to keep the registers of the other free.
#[inline(never)]
fn allocate_other(size: usize, align: usize) -> *mut u8 {
    match class_of(size, align) {
        Some(class) => take(size, align, class),
        None => large::allocate(size, align, false),
    }
}

/// Takes a block of a class.
#[inline(always)]
fn take(size: usize, align: usize, class: usize) -> *mut u8 {
    let half = half();
    // SAFETY: `class_of` gives numbers below CLASSES.
    let bin = unsafe { half.bins.get_unchecked(class) };
    let len = bin.len.load(Ordering::Relaxed);
    if len == 0 {
        return refill(size, align, class);
    }
    // SAFETY: the lowest `len` slots hold blocks.
    let block = unsafe { (*bin.slots.load(Ordering::Relaxed).add(len as usize - 1)).load(Ordering::Relaxed) };
    bin.len.store(len - 1, Ordering::Relaxed);
    bin.allocated.store(bin.allocated.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    if count_down(&half.remaining, size) < 0 {
        return sampling::crossed(block, size);
    }
    block
}

#[cold]
#[inline(never)]
fn refill(size: usize, align: usize, class: usize) -> *mut u8 {
    let Some(cache) = cache::own() else {
        // Without a range there is no centre either.
        let kind = cache::current_kind(class);
        return if range::base() == 0 { ptr::null_mut() } else { central(kind).take_one(kind) };
    };
    let kind = cache::current_kind(class);
    if cache.bin(kind).len.load(Ordering::Relaxed) == 0 && !cache::refill(cache, kind) {
        return ptr::null_mut();
    }
    allocate(size, align)
}

/// Frees a block of ours.
#[inline(never)]
pub(super) fn free(block: *mut u8) {
    let kind = range::kind_of(block).load(Ordering::Relaxed) as usize;
    if kind >= CLASSES {
        return free_other(block, kind);
    }
    if !push(&local::cache().half(Arena::Tracked).bins[kind], block) {
        cache::overflow(kind, block);
    }
}

#[cold]
#[inline(never)]
fn free_other(block: *mut u8, kind: usize) {
    let kind = match kind {
        kind if kind == LARGE as usize => return large::free(block),
        kind if kind >= SAMPLED => {
            sampling::freed(block, class_of_kind(kind).size as usize);
            kind
        }
        kind => kind,
    };
    if !push(local::cache().bin(kind), block) {
        cache::overflow(kind, block);
    }
}

/// Allocates memory that reads as zero.
pub(super) fn allocate_zeroed(size: usize, align: usize) -> *mut u8 {
    if class_of(size, align).is_none() {
        return large::allocate(size, align, true);
    }
    let block = allocate(size, align);
    if !block.is_null() {
        // SAFETY: a new block of at least `size` bytes.
        unsafe { block.write_bytes(0, size) };
    }
    block
}

/// Allocates in an arena, whatever scope the caller is in.
fn allocate_in(arena: Arena, size: usize, align: usize) -> *mut u8 {
    let _entered = Entered::new(arena);
    allocate(size, align)
}

/// Changes the size of a block, in place if that wastes little. The block stays in its arena. Null if there is no memory:
/// then the block is as it was.
///
/// # Safety
/// The block is the caller's, was allocated with `align`, and holds `size` bytes.
#[inline(never)]
pub(super) unsafe fn reallocate(block: *mut u8, size: usize, align: usize, new: usize) -> *mut u8 {
    let kind = range::kind_of(block).load(Ordering::Relaxed);
    let arena = if kind == LARGE {
        if large::resize(block, align, new) {
            return block;
        }
        large::arena(block)
    } else {
        let kind = kind as usize;
        let usable = class_of_kind(kind).size as usize;
        let class = kind % CLASSES;
        if new <= usable && (new >= usable - usable / 4 || class_of(new, align) == Some(class)) {
            return in_place(block, kind, new);
        }
        arena_of_kind(kind)
    };
    let moved = allocate_in(arena, new, align);
    if !moved.is_null() {
        // SAFETY: both are at least that long, and different blocks.
        unsafe { ptr::copy_nonoverlapping(block, moved, size.min(new)) };
        free(block);
    }
    moved
}

/// Notes that a block was freed and allocated with another size: that is what it counts as, for samples, too.
fn in_place(block: *mut u8, kind: usize, size: usize) -> *mut u8 {
    if kind >= SAMPLED {
        sampling::freed(block, class_of_kind(kind).size as usize);
    }
    let Some(cache) = cache::own() else { return block };
    let bin = cache.bin(kind);
    bin.allocated.store(bin.allocated.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    if arena_of_kind(kind) == Arena::Tracked && count_down(&cache.half(Arena::Tracked).remaining, size) < 0 {
        return sampling::crossed_in_place(block, size);
    }
    block
}
