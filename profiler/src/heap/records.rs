//! What was allocated, by where, how large, and for whom: a record for each stack, block size and set of labels, as Go
//! has one for each stack and size.
//!
//! Stacks are interned. Records are never removed, so there is a bound; samples beyond it are counted as lost.
//!
//! Threads that allocate at the same place would wait for each other at its record, and each time take its cache line
//! from the other. So there are up to [`COPIES`] records of the same thing, in neighbouring shards, one for every
//! so-manieth thread; they are added up when they are read.

use std::{
    cell::Cell,
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use greenprof_runtime::labels::LabelSet;

use super::{
    index::Index,
    weight::{Sum, Weight},
};

/// So many threads seldom meet in one of these, unless they allocate at the same place.
const SHARDS: usize = 64;
const SHARD_BITS: u32 = 6;

/// A quarter of the threads share a record.
const COPIES: usize = 4;

/// Records that are kept: some 40 MiB with their stacks. Go keeps any number.
pub(super) const MAX_RECORDS: usize = 1 << 18;

/// A record's shard, in the lower bits, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordId(pub(super) u32);

struct Stack {
    hash: u64,
    start: usize,
    length: usize,
}

struct Entry {
    stack: u32,
    labels: LabelSet,
    size: usize,
    allocated: Sum,
    freed: Sum,
}

struct Shard {
    stacks: Vec<Stack>,
    stack_index: Index,
    /// The addresses of all stacks, one after another.
    frames: Vec<usize>,
    records: Vec<Entry>,
    record_index: Index,
}

/// Each lock guards its shard, and is held for one operation, or for copying the shard. Aligned, so that shards do not
/// share cache lines.
#[repr(align(64))]
struct Locked(Mutex<Shard>);

static TABLE: [Locked; SHARDS] = [const { Locked(Mutex::new(Shard::EMPTY)) }; SHARDS];
/// Records of all shards.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn shard(number: usize) -> MutexGuard<'static, Shard> {
    TABLE[number % SHARDS].0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of the copies is the calling thread's. For code that does not wait.
#[inline]
fn own_copy() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<u8>> = const { Cell::new(None) };
    }
    let copy = OWN.get().unwrap_or_else(|| {
        let copy = (NEXT.fetch_add(1, Ordering::Relaxed) % COPIES) as u8;
        OWN.set(Some(copy));
        copy
    });
    copy.into()
}

/// A stack's hash, one address after another.
#[derive(Clone, Copy)]
pub(super) struct StackHash(u64);

impl StackHash {
    pub(super) const EMPTY: Self = Self(0x51_7c_c1_b7_27_22_0a_95);

    #[inline]
    pub(super) fn push(&mut self, address: usize) {
        self.0 = mix(self.0, address as u64);
    }
}

/// A multiplication whose upper half comes back to the lower bits.
#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// Adds a sample; nothing if there is no room for a new record.
#[inline]
pub(super) fn allocated(
    StackHash(hash): StackHash,
    frames: &[usize],
    size: usize,
    labels: LabelSet,
    weight: Weight,
) -> Option<RecordId> {
    let number = (hash as usize + own_copy()) % SHARDS;
    let mut shard = shard(number);
    let record_hash = mix(mix(hash, size as u64), u64::from(labels.index())) >> SHARD_BITS;
    let found = shard.record_index.find(record_hash, |at| shard.is(at, frames, size, labels));
    let at = match found {
        Some(at) => at,
        None => shard.add(hash, frames, size, labels, record_hash)?,
    };
    shard.records[at].allocated.add(weight);
    Some(RecordId((at as u32) << SHARD_BITS | number as u32))
}

/// A block of a record was freed.
#[inline]
pub(super) fn freed(RecordId(id): RecordId, weight: Weight) {
    let mut shard = shard(id as usize);
    shard.records[(id >> SHARD_BITS) as usize].freed.add(weight);
}

/// How many records there are, with copies of the same thing counted once.
pub(super) fn count() -> usize {
    greenprof_runtime::heap::untracked(|| {
        let mut keys = HashSet::new();
        for number in 0..SHARDS {
            let shard = shard(number);
            keys.extend(
                shard
                    .records
                    .iter()
                    .map(|record| (shard.stacks[record.stack as usize].hash, record.size, record.labels)),
            );
        }
        keys.len()
    })
}

/// A copy of a record.
pub(super) struct Copied {
    pub(super) stack: Vec<usize>,
    pub(super) labels: LabelSet,
    pub(super) size: usize,
    pub(super) allocated: Sum,
    pub(super) freed: Sum,
}

impl Copied {
    fn key(&self) -> (&[usize], usize, u32) {
        (&self.stack, self.size, self.labels.index())
    }
}

/// Copies all records, shard by shard. To be called in an untracked scope: an allocation that is sampled while a shard
/// is locked would wait for that lock.
pub(super) fn copy() -> Vec<Copied> {
    debug_assert!(greenprof_runtime::heap::in_untracked());
    let mut all: Vec<Copied> = Vec::with_capacity(COUNT.load(Ordering::Relaxed));
    for number in 0..SHARDS {
        let shard = shard(number);
        all.extend(shard.records.iter().map(|record| Copied {
            stack: shard.stack(record.stack).to_vec(),
            labels: record.labels,
            size: record.size,
            allocated: record.allocated,
            freed: record.freed,
        }));
    }
    all.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
    all.dedup_by(|copy, kept| {
        let same = copy.key() == kept.key();
        if same {
            kept.allocated = kept.allocated.plus(copy.allocated);
            kept.freed = kept.freed.plus(copy.freed);
        }
        same
    });
    all
}

impl Shard {
    const EMPTY: Self = Self {
        stacks: Vec::new(),
        stack_index: Index::new(),
        frames: Vec::new(),
        records: Vec::new(),
        record_index: Index::new(),
    };

    fn stack(&self, number: u32) -> &[usize] {
        let stack = &self.stacks[number as usize];
        &self.frames[stack.start..stack.start + stack.length]
    }

    #[inline]
    fn is(&self, at: usize, frames: &[usize], size: usize, labels: LabelSet) -> bool {
        let record = &self.records[at];
        record.size == size && record.labels == labels && self.stack(record.stack) == frames
    }

    /// Adds a record; nothing if there is no memory, or if there are too many.
    #[cold]
    fn add(&mut self, hash: u64, frames: &[usize], size: usize, labels: LabelSet, record_hash: u64) -> Option<usize> {
        if COUNT.fetch_add(1, Ordering::Relaxed) >= MAX_RECORDS {
            COUNT.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let added = self.try_add(hash, frames, size, labels, record_hash);
        if added.is_none() {
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
        added
    }

    fn try_add(
        &mut self,
        hash: u64,
        frames: &[usize],
        size: usize,
        labels: LabelSet,
        record_hash: u64,
    ) -> Option<usize> {
        let stack_hash = hash >> SHARD_BITS;
        let known =
            self.stack_index.find(stack_hash, |at| self.stacks[at].hash == hash && self.stack(at as u32) == frames);
        let stack = match known {
            Some(stack) => stack,
            None => {
                self.frames.try_reserve(frames.len()).ok()?;
                self.stacks.try_reserve(1).ok()?;
                let stack = self.stacks.len();
                self.stack_index.insert(stack_hash, stack).ok()?;
                self.stacks.push(Stack { hash, start: self.frames.len(), length: frames.len() });
                self.frames.extend_from_slice(frames);
                stack
            }
        };
        self.records.try_reserve(1).ok()?;
        let at = self.records.len();
        self.record_index.insert(record_hash, at).ok()?;
        let stack = stack as u32;
        self.records.push(Entry { stack, labels, size, allocated: Sum::ZERO, freed: Sum::ZERO });
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(frames: &[usize], size: usize, labels: u32) -> RecordId {
        let mut hash = StackHash::EMPTY;
        frames.iter().for_each(|frame| hash.push(*frame));
        allocated(hash, frames, size, LabelSet::from_index(labels), Weight::of(size, 1)).expect("room")
    }

    #[test]
    fn records_of_several_threads_are_added_up() {
        let stack = [0x111, 0x222];
        for _ in 0..6 {
            let thread = std::thread::spawn(move || sample(&stack, 96, 0));
            freed(thread.join().expect("no panic"), Weight::of(96, 1));
        }
        let copied = greenprof_runtime::heap::untracked(copy);
        let found: Vec<_> = copied.iter().filter(|record| record.stack == stack).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].allocated.samples, found[0].freed.samples), (6, 6));
    }

    #[test]
    fn a_record_has_a_stack_a_size_and_labels() {
        let one = sample(&[1, 2, 3], 48, 0);
        assert_eq!(sample(&[1, 2, 3], 48, 0), one);
        let others = [sample(&[1, 2, 3], 64, 0), sample(&[1, 2, 3], 48, 1), sample(&[1, 2], 48, 0)];
        assert!(others.iter().all(|other| *other != one));
        freed(one, Weight::of(48, 1));
        let copied = greenprof_runtime::heap::untracked(copy);
        let found = |size, labels, stack: &[usize]| {
            copied
                .iter()
                .filter(|record| (record.size, record.labels.index(), &record.stack[..]) == (size, labels, stack))
                .map(|record| (record.allocated.samples, record.freed.samples))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(48, 0, &[1, 2, 3]), [(2, 1)]);
        assert_eq!(found(64, 0, &[1, 2, 3]), [(1, 0)]);
        assert_eq!(found(48, 1, &[1, 2, 3]), [(1, 0)]);
        assert_eq!(found(48, 0, &[1, 2]), [(1, 0)]);
        assert!(count() >= 4);
    }
}
