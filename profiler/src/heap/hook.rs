//! What happens when the allocator has chosen a sample, on the thread that allocates, within the allocation.
//!
//! The hooks run in an untracked scope, and the allocator does not sample what they do themselves. Each takes the lock of
//! one shard for some ten nanoseconds; while it is held, memory may be allocated in the untracked arena, never in the
//! program's.
//!
//! The allocator keeps a word with each sample ([`Kept`]), so nothing has to be looked up when its block is freed.

use std::sync::atomic::{AtomicU64, Ordering};

use greenprof_runtime::heap::sampling::{self, Hooks, Sample};

use super::weight::{Sum, Weight};
use crate::records::{self, Frames, RecordId, Table, forked};

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

/// What the allocator keeps for us with a sample: the record that it went into, and its weight.
#[derive(Clone, Copy)]
pub(super) struct Kept(pub(super) u64);

impl Kept {
    /// Of a sample that was not recorded. No weight is 0.
    const NOTHING: Self = Self(0);

    fn new(RecordId(record): RecordId, weight: Weight) -> Self {
        Self(u64::from(record) << 32 | u64::from(weight.bits()))
    }

    /// The record and the weight, unless the sample was not recorded.
    pub(super) fn parts(self) -> Option<(RecordId, Weight)> {
        Some((RecordId((self.0 >> 32) as u32), Weight::from_bits(self.0 as u32)?))
    }
}

#[inline(never)]
fn allocated(sample: &Sample) -> u64 {
    if forked() {
        return Kept::NOTHING.0;
    }
    let mut room = Frames::new();
    let stack = records::capture(&mut room);
    if stack.is_cut {
        CUT.fetch_add(1, Ordering::Relaxed);
    }
    let weight = Weight::of(sample.requested, sample.rate);
    match TABLE.record(&stack, sample.size, |sums| sums.allocated.add(weight)) {
        Some(record) => Kept::new(record, weight).0,
        None => {
            LOST.fetch_add(1, Ordering::Relaxed);
            Kept::NOTHING.0
        }
    }
}

#[inline(never)]
fn freed(_: usize, _: usize, kept: u64) {
    if forked() {
        return;
    }
    // Nothing for a sample that was lost.
    if let Some((record, weight)) = Kept(kept).parts() {
        TABLE.update(record, |sums| sums.freed.add(weight));
    }
}
