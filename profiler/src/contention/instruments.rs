//! What is recorded at the runtime's events, on the thread where they happen.
//!
//! The hooks allocate only in the untracked arena, and take only the locks of their own tables, one at a time.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use greenprof_runtime::{hooks::Instrument, task::WaitReason};

use super::{
    rates::{block_profile_rate, mutex_profile_fraction},
    sums::{Sums, block_weight, mutex_weight},
    waiting,
};
use crate::records::{self, Frames, Table, forked};

/// Records of a profile: some 12 MiB with their stacks.
const MAX_RECORDS: usize = 1 << 16;

/// The records of a profile, and what of it is missing.
pub(super) struct Samples {
    pub(super) table: Table<Sums>,
    /// Samples that could not be kept: too many records, or no memory.
    pub(super) lost: AtomicU64,
    /// Samples whose stack has more frames than are kept.
    pub(super) cut: AtomicU64,
}

pub(super) static BLOCK: Block = Block { waiters: Samples::new() };
pub(super) static MUTEX: Mutex = Mutex { unlockers: Samples::new(), waiters: Samples::new() };

/// Waits that the block profile should have and has not.
pub(crate) fn block_lost() -> u64 {
    // Relaxed, here and below: as of about now.
    BLOCK.waiters.lost.load(Ordering::Relaxed)
}

/// Unlocks that the mutex profile should have and has not.
pub(crate) fn mutex_lost() -> u64 {
    MUTEX.unlockers.lost.load(Ordering::Relaxed)
}

impl Samples {
    const fn new() -> Self {
        Self { table: Table::new(MAX_RECORDS), lost: AtomicU64::new(0), cut: AtomicU64::new(0) }
    }

    /// Records a sample for the callers of the function that this is inlined into.
    #[inline(always)]
    fn record(&self, weight: f64, delay: u64) {
        if forked() {
            return;
        }
        let mut room = Frames::new();
        let stack = records::capture(&mut room);
        if stack.is_cut {
            self.cut.fetch_add(1, Ordering::Relaxed);
        }
        if self.table.record(&stack, 0, |sums| sums.add(weight, delay)).is_none() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A random number, from a generator of the calling thread: Steele, Lea and Flood's SplitMix64.
fn random() -> u64 {
    static SEEDS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    let mut state = STATE.get();
    if state == 0 {
        let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
        state = mixed(seed.wrapping_add((&raw const SEEDS).addr() as u64).wrapping_add(std::process::id().into()));
    }
    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    mixed(state)
}

fn mixed(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Of the block profile.
pub(super) struct Block {
    pub(super) waiters: Samples,
}

impl Instrument for Block {
    #[inline(never)]
    fn thread_waits(&self, _: WaitReason) {
        if forked() {
            return;
        }
        let mut room = Frames::new();
        waiting::enter(&records::capture(&mut room));
    }

    #[inline(never)]
    fn waited(&self, reason: WaitReason, delay: u64) {
        waiting::leave();
        if reason == WaitReason::Sleep {
            return;
        }
        if let Some(weight) = block_weight(delay, block_profile_rate(), random) {
            self.waiters.record(weight, delay.max(1));
        }
    }
}

/// Of the mutex profile.
pub(super) struct Mutex {
    pub(super) unlockers: Samples,
    pub(super) waiters: Samples,
}

impl Instrument for Mutex {
    #[inline(never)]
    fn waited(&self, _: WaitReason, delay: u64) {
        if let Some(weight) = mutex_weight(mutex_profile_fraction(), random) {
            self.waiters.record(weight, delay);
        }
    }

    #[inline(never)]
    fn unlocked(&self, delay: u64) {
        if let Some(weight) = mutex_weight(mutex_profile_fraction(), random) {
            self.unlockers.record(weight, delay);
        }
    }
}
