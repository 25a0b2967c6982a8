//! What happens when the allocator has chosen a sample, on the thread that allocates, within the allocation.
//!
//! The hooks run in an untracked scope, and the allocator does not sample what they do themselves. They take a lock of
//! a shard for some ten nanoseconds, twice, and never two at a time; while one is held, memory may be allocated in the
//! untracked arena, never in the program's. The locks are std's, which neither allocate nor keep anything in
//! thread-locals with destructors: an allocation may come from a thread that is about to end.

use std::{
    mem::MaybeUninit,
    ops::ControlFlow,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use greenprof_runtime::{
    heap::sampling::{self, Hooks, Sample},
    world::caller,
};

use super::{
    live,
    records::{self, StackHash},
    weight::Weight,
};

/// Frames kept of each stack; Go's number.
const MAX_FRAMES: usize = 128;

static HOOKS: Hooks = Hooks { allocated, freed };

/// Samples that could not be kept: too many records, or no memory.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Samples whose stack has more frames than are kept.
static CUT: AtomicU64 = AtomicU64::new(0);
/// In a forked child, where another thread's lock may be held for ever.
static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

/// To be called once.
pub(super) fn install() {
    // SAFETY: a function that lives as long as the program. Without memory for the entry, a child that allocates before
    // its `exec` could wait for a lock.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    sampling::install(&HOOKS);
}

/// Whether this is a forked child: then nothing here may be locked.
pub(super) fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Samples that could not be kept.
pub(super) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Samples whose stack is not whole.
pub(super) fn cut() -> u64 {
    CUT.load(Ordering::Relaxed)
}

#[inline(never)]
fn allocated(sample: &Sample) {
    if forked() {
        return;
    }
    let mut frames = [const { MaybeUninit::<usize>::uninit() }; MAX_FRAMES];
    let mut count = 0;
    let mut hash = StackHash::EMPTY;
    let caller = caller::walk(|address| {
        if count == MAX_FRAMES {
            CUT.fetch_add(1, Ordering::Relaxed);
            return ControlFlow::Break(());
        }
        frames[count].write(address);
        count += 1;
        hash.push(address);
        ControlFlow::Continue(())
    });
    // SAFETY: the first `count` were written.
    let frames = unsafe { frames[..count].assume_init_ref() };
    let weight = Weight::of(sample.requested, sample.rate);
    let Some(record) = records::allocated(hash, frames, sample.size, caller.labels, weight) else {
        LOST.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if !live::insert(sample.address, record, weight) {
        // Nobody would notice when it is freed; so it counts as freed, rather than as a leak.
        LOST.fetch_add(1, Ordering::Relaxed);
        records::freed(record, weight);
    }
}

#[inline(never)]
fn freed(address: usize, _: usize) {
    if forked() {
        return;
    }
    // Nothing is found for a sample that was lost, or taken before these hooks were installed.
    if let Some((record, weight)) = live::remove(address) {
        records::freed(record, weight);
    }
}
