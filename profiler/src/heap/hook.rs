//! What happens when the allocator has chosen a sample, on the thread that allocates, within the allocation.
//!
//! The hooks run in an untracked scope, and the allocator does not sample what they do themselves. They take a lock of
//! a shard for some ten nanoseconds, twice, and never two at a time; while one is held, memory may be allocated in the
//! untracked arena, never in the program's. The locks are std's, which neither allocate nor keep anything in
//! thread-locals with destructors: an allocation may come from a thread that is about to end.

use std::sync::atomic::{AtomicU64, Ordering};

use greenprof_runtime::heap::sampling::{self, Hooks, Sample};

use super::{
    live,
    weight::{Sum, Weight},
};
use crate::records::{self, Frames, Table, forked};

/// Records that are kept: some 40 MiB with their stacks. Go keeps any number.
const MAX_RECORDS: usize = 1 << 18;

/// What was allocated at a place, in blocks of one size, and what of it was freed.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub(super) allocated: Sum,
    pub(super) freed: Sum,
}

impl records::Sums for Sums {
    const ZERO: Self = Self { allocated: Sum::ZERO, freed: Sum::ZERO };

    fn plus(self, other: Self) -> Self {
        Self { allocated: self.allocated.plus(other.allocated), freed: self.freed.plus(other.freed) }
    }
}

/// A record's kind is the size of its blocks.
pub(super) static TABLE: Table<Sums> = Table::new(MAX_RECORDS);

static HOOKS: Hooks = Hooks { allocated, freed };

/// Samples that could not be kept: too many records, or no memory.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Samples whose stack has more frames than are kept.
static CUT: AtomicU64 = AtomicU64::new(0);

/// To be called once.
pub(super) fn install() {
    records::forbid_in_forked_child();
    sampling::install(&HOOKS);
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
    let mut room = Frames::new();
    let stack = records::capture(&mut room);
    if stack.is_cut {
        CUT.fetch_add(1, Ordering::Relaxed);
    }
    let weight = Weight::of(sample.requested, sample.rate);
    let Some(record) = TABLE.record(&stack, sample.size, |sums| sums.allocated.add(weight)) else {
        LOST.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if !live::insert(sample.address, record, weight) {
        // Nobody would notice when it is freed; so it counts as freed, rather than as a leak.
        LOST.fetch_add(1, Ordering::Relaxed);
        TABLE.update(record, |sums| sums.freed.add(weight));
    }
}

#[inline(never)]
fn freed(address: usize, _: usize) {
    if forked() {
        return;
    }
    // Nothing is found for a sample that was lost, or taken before these hooks were installed.
    if let Some((record, weight)) = live::remove(address) {
        TABLE.update(record, |sums| sums.freed.add(weight));
    }
}
