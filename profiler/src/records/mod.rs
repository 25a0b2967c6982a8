//! What was sampled, by where and for whom: a record for each stack, each set of labels, and one number more that the
//! profiler chooses, such as a block's size. Heap and contention profiles keep their samples in such tables.
//!
//! Stacks are interned. Records are never removed, so there is a bound; samples beyond it are counted as lost.
//!
//! Threads that sample at the same place would wait for each other at its record, and each time take its cache line
//! from the other. So there are up to [`COPIES`] records of the same thing, in neighbouring shards, one for every
//! so-manieth thread; they are added up when they are read.

mod capture;
pub(crate) mod index;

use std::{
    cell::Cell,
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use greenprof_runtime::{
    heap,
    hooks::{Lock, LockGuard},
    labels::LabelSet,
};

pub(crate) use capture::{Captured, Frames, capture, forbid_in_forked_child, forked};
use index::Index;

/// So many threads seldom meet in one of these, unless they sample at the same place.
const SHARDS: usize = 64;
const SHARD_BITS: u32 = 6;

/// A quarter of the threads share a record.
const COPIES: usize = 4;

/// What a record adds up.
pub(crate) trait Sums: Copy {
    /// Nothing.
    const ZERO: Self;

    /// Both together.
    fn plus(self, other: Self) -> Self;
}

/// A record's shard, in the lower bits, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordId(pub(crate) u32);

struct Stack {
    hash: u64,
    start: usize,
    length: usize,
}

struct Entry<S> {
    stack: u32,
    labels: LabelSet,
    kind: usize,
    sums: S,
}

struct Shard<S> {
    stacks: Vec<Stack>,
    stack_index: Index,
    /// The addresses of all stacks, one after another.
    frames: Vec<usize>,
    records: Vec<Entry<S>>,
    record_index: Index,
}

/// Each lock guards its shard, and is held for one operation, or for copying the shard. Aligned, so that shards do not
/// share cache lines.
#[repr(align(64))]
struct Locked<S>(Lock<Shard<S>>);

/// The records of one profile.
pub(crate) struct Table<S> {
    shards: [Locked<S>; SHARDS],
    /// Records of all shards.
    count: AtomicUsize,
    most: usize,
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
pub(crate) struct StackHash(u64);

impl StackHash {
    pub(crate) const EMPTY: Self = Self(0x51_7c_c1_b7_27_22_0a_95);

    /// Two cycles: it is done while the stack is walked, whose next frame is known five cycles after the one before.
    #[inline]
    pub(crate) fn push(&mut self, address: usize) {
        self.0 = self.0.rotate_left(13).wrapping_add(address as u64);
    }

    #[inline]
    pub(crate) fn value(self) -> u64 {
        mix(self.0, self.0 >> 32)
    }
}

/// A multiplication whose upper half comes back to the lower bits.
#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// A copy of a record.
pub(crate) struct Copied<S> {
    pub(crate) stack: Vec<usize>,
    pub(crate) labels: LabelSet,
    pub(crate) kind: usize,
    pub(crate) sums: S,
}

impl<S> Copied<S> {
    fn key(&self) -> (&[usize], usize, u32) {
        (&self.stack, self.kind, self.labels.index())
    }
}

impl<S: Sums> Table<S> {
    /// An empty table for at most so many records.
    pub(crate) const fn new(most: usize) -> Self {
        let shards = [const { Locked(Lock::new(Shard::EMPTY)) }; SHARDS];
        Self { shards, count: AtomicUsize::new(0), most }
    }

    fn shard(&self, number: usize) -> LockGuard<'_, Shard<S>> {
        self.shards[number % SHARDS].0.lock()
    }

    /// Lets `add` change the sums of the record of a stack, made by the caller's labels, and a kind. Nothing if there
    /// is no room for a new record.
    #[inline]
    pub(crate) fn record(&self, stack: &Captured<'_>, kind: usize, add: impl FnOnce(&mut S)) -> Option<RecordId> {
        let hash = stack.hash.value();
        let number = (hash as usize + own_copy()) % SHARDS;
        let mut shard = self.shard(number);
        let record_hash = mix(mix(hash, kind as u64), u64::from(stack.labels.index())) >> SHARD_BITS;
        let found = shard.record_index.find(record_hash, |at| shard.is(at, stack, kind));
        let at = match found {
            Some(at) => at,
            None => self.add(&mut shard, stack, kind, record_hash)?,
        };
        add(&mut shard.records[at].sums);
        Some(RecordId((at as u32) << SHARD_BITS | number as u32))
    }

    /// Lets `change` change the sums of a record.
    #[inline]
    pub(crate) fn update(&self, RecordId(id): RecordId, change: impl FnOnce(&mut S)) {
        let mut shard = self.shard(id as usize);
        change(&mut shard.records[(id >> SHARD_BITS) as usize].sums);
    }

    /// The stack of a record.
    pub(crate) fn stack(&self, RecordId(id): RecordId) -> Vec<usize> {
        heap::untracked(|| {
            let shard = self.shard(id as usize);
            shard.stack(shard.records[(id >> SHARD_BITS) as usize].stack).to_vec()
        })
    }

    /// Adds a record; nothing if there is no memory, or if there are too many.
    #[cold]
    fn add(&self, shard: &mut Shard<S>, stack: &Captured<'_>, kind: usize, record_hash: u64) -> Option<usize> {
        let room = self.count.fetch_add(1, Ordering::Relaxed) < self.most;
        let added = if room { heap::untracked(|| shard.try_add(stack, kind, record_hash)) } else { None };
        if added.is_none() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        added
    }

    /// How many records there are, with copies of the same thing counted once.
    pub(crate) fn count(&self) -> usize {
        heap::untracked(|| {
            let mut keys = HashSet::new();
            for number in 0..SHARDS {
                let shard = self.shard(number);
                keys.extend(
                    shard
                        .records
                        .iter()
                        .map(|record| (shard.stacks[record.stack as usize].hash, record.kind, record.labels)),
                );
            }
            keys.len()
        })
    }

    /// Copies all records, shard by shard. To be called in an untracked scope: an allocation that is sampled while a
    /// shard is locked would wait for that lock.
    pub(crate) fn copy(&self) -> Vec<Copied<S>> {
        debug_assert!(heap::in_untracked());
        let mut all: Vec<Copied<S>> = Vec::with_capacity(self.count.load(Ordering::Relaxed));
        for number in 0..SHARDS {
            let shard = self.shard(number);
            all.extend(shard.records.iter().map(|record| Copied {
                stack: shard.stack(record.stack).to_vec(),
                labels: record.labels,
                kind: record.kind,
                sums: record.sums,
            }));
        }
        all.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        all.dedup_by(|copy, kept| {
            let same = copy.key() == kept.key();
            if same {
                kept.sums = kept.sums.plus(copy.sums);
            }
            same
        });
        all
    }
}

impl<S: Sums> Shard<S> {
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
    fn is(&self, at: usize, stack: &Captured<'_>, kind: usize) -> bool {
        let record = &self.records[at];
        // Word by word: a stack is shorter than what a call for the comparison is good for.
        let same = |kept: &[usize]| {
            kept.len() == stack.frames.len() && kept.iter().zip(stack.frames).all(|(kept, frame)| kept == frame)
        };
        record.kind == kind && record.labels == stack.labels && same(self.stack(record.stack))
    }

    fn try_add(&mut self, captured: &Captured<'_>, kind: usize, record_hash: u64) -> Option<usize> {
        let (hash, frames) = (captured.hash.value(), captured.frames);
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
        self.records.push(Entry { stack: stack as u32, labels: captured.labels, kind, sums: S::ZERO });
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Samples(u64);

    impl Sums for Samples {
        const ZERO: Self = Self(0);

        fn plus(self, other: Self) -> Self {
            Self(self.0 + other.0)
        }
    }

    fn sample(table: &Table<Samples>, frames: &[usize], kind: usize, labels: u32) -> Option<RecordId> {
        let mut hash = StackHash::EMPTY;
        frames.iter().for_each(|frame| hash.push(*frame));
        let stack = Captured { frames, hash, labels: LabelSet::from_index(labels), is_cut: false };
        table.record(&stack, kind, |sums| sums.0 += 1)
    }

    #[test]
    fn records_of_several_threads_are_added_up() {
        static TABLE: Table<Samples> = Table::new(100);
        for _ in 0..6 {
            let thread = std::thread::spawn(move || sample(&TABLE, &[0x111, 0x222], 96, 0));
            let record = thread.join().expect("no panic").expect("room");
            TABLE.update(record, |sums| sums.0 += 10);
        }
        let copied = heap::untracked(|| TABLE.copy());
        assert_eq!(copied.len(), 1);
        assert_eq!((&copied[0].stack[..], copied[0].sums.0), (&[0x111, 0x222][..], 66));
    }

    #[test]
    fn a_record_has_a_stack_a_kind_and_labels() {
        static TABLE: Table<Samples> = Table::new(4);
        let one = sample(&TABLE, &[1, 2, 3], 48, 0).expect("room");
        assert_eq!(sample(&TABLE, &[1, 2, 3], 48, 0), Some(one));
        let others =
            [sample(&TABLE, &[1, 2, 3], 64, 0), sample(&TABLE, &[1, 2, 3], 48, 1), sample(&TABLE, &[1, 2], 48, 0)];
        assert!(others.iter().all(|other| other.is_some_and(|other| other != one)));
        assert_eq!(sample(&TABLE, &[9], 48, 0), None, "there is room for four");
        let copied = heap::untracked(|| TABLE.copy());
        let found: Vec<_> = copied
            .iter()
            .map(|record| (&record.stack[..], record.kind, record.labels.index(), record.sums.0))
            .collect();
        assert_eq!(
            found,
            [
                (&[1, 2][..], 48, 0, 1),
                (&[1, 2, 3][..], 48, 0, 2),
                (&[1, 2, 3][..], 48, 1, 1),
                (&[1, 2, 3][..], 64, 0, 1)
            ]
        );
        assert_eq!(TABLE.count(), 4);
    }
}
