//! What one thread has recorded and nobody has read.
//!
//! Records are copied out of the ring as soon as the engine comes by, so the writer has its room however long they are kept.

use std::collections::VecDeque;

use super::{
    machine::{At, Known},
    tables::Global,
};
use crate::record::{
    kind::{self, kind_of, stack_of, ticks_of},
    ring::Ring,
    stack::SLOTS,
};

/// Words after which records that are collected go into another buffer.
const CHUNK: usize = 1 << 13;

/// The records of a ring: those that were collected from it, and not given on yet.
pub(super) struct Stream {
    ring: &'static Ring,
    /// Words collected.
    collected: u64,
    /// Whole records, and where the next one begins. At the end only if `later` is empty.
    chunk: Vec<u64>,
    at: usize,
    /// What follows, none of them empty.
    later: VecDeque<Vec<u64>>,
    /// Records given on or passed over.
    pub(super) passed: u64,
    /// The thread that writes it, as the kernel and as the machine know it.
    pub(super) thread: u64,
    pub(super) worker: Option<(u32, usize)>,
    pub(super) machine_thread: Option<At>,
    /// What the slots of the thread's caches stand for.
    pub(super) stacks: Box<[Global; SLOTS]>,
    pub(super) origins: Box<[Global; SLOTS]>,
    /// Whether its next event waits for others.
    pub(super) held: bool,
    /// Where an event had to wait last, and at which look that was noticed.
    pub(super) waits_at: u64,
    pub(super) waits_since: u64,
}

impl Stream {
    pub(super) fn new(ring: &'static Ring) -> Self {
        Self {
            ring,
            collected: ring.start(),
            chunk: Vec::new(),
            at: 0,
            later: VecDeque::new(),
            passed: 0,
            thread: 0,
            worker: None,
            machine_thread: None,
            stacks: Box::new([0; SLOTS]),
            origins: Box::new([0; SLOTS]),
            held: false,
            waits_at: u64::MAX,
            waits_since: 0,
        }
    }

    /// Takes what the writer has written since, and gives it the room.
    pub(super) fn collect(&mut self) {
        let end = self.ring.end();
        if end == self.collected {
            return;
        }
        let chunk = match self.later.back_mut() {
            Some(last) => last,
            None => &mut self.chunk,
        };
        if chunk.len() < CHUNK {
            self.ring.copy(self.collected..end, chunk);
        } else {
            let mut chunk = Vec::new();
            self.ring.copy(self.collected..end, &mut chunk);
            self.later.push_back(chunk);
        }
        self.collected = end;
        self.ring.set_read(end);
    }

    /// Words in memory.
    pub(super) fn words(&self) -> usize {
        self.chunk.capacity() + self.later.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Its next event waits.
    pub(super) fn wait(&mut self, look: u64) {
        self.held = true;
        if self.waits_at != self.passed {
            (self.waits_at, self.waits_since) = (self.passed, look);
        }
    }

    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> u64 {
        self.chunk[self.at + at]
    }

    /// Is done with a record of so many words.
    #[inline(always)]
    pub(super) fn advance(&mut self, words: usize) {
        self.passed += 1;
        self.at += words;
        if self.at == self.chunk.len() {
            self.next_chunk();
        }
    }

    #[cold]
    fn next_chunk(&mut self) {
        self.at = 0;
        match self.later.pop_front() {
            Some(next) => self.chunk = next,
            None => self.chunk.clear(),
        }
    }

    /// The time of its next record.
    #[inline(always)]
    pub(super) fn next(&self) -> Option<u64> {
        self.chunk.get(self.at).map(|head| ticks_of(*head))
    }

    /// Whether its next record is the start of a task.
    pub(super) fn is_at_start(&self) -> bool {
        kind_of(self.word(0)) == kind::START
    }

    /// All records, the next one first.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u64]> {
        let chunks = [&self.chunk[self.at..]].into_iter().chain(self.later.iter().map(Vec::as_slice));
        chunks.flat_map(|mut words| {
            std::iter::from_fn(move || {
                if words.is_empty() {
                    return None;
                }
                let (record, rest) = words.split_at(kind::length(words));
                words = rest;
                Some(record)
            })
        })
    }

    /// The stack of an event, by its second word.
    #[inline(always)]
    pub(super) fn stack(&self, subject: u64) -> Global {
        match stack_of(subject) {
            0 => 0,
            slot => self.stacks[(slot as usize - 1) % SLOTS],
        }
    }

    /// The origin and the labels of a creation.
    pub(super) fn created(&self) -> Known {
        let third = self.word(2);
        Known { origin: self.origins.get(third as u32 as usize).copied().unwrap_or(0), labels: (third >> 32) as u32 }
    }

    /// Is done with a record of any kind.
    pub(super) fn pass(&mut self) {
        self.advance(kind::length(&self.chunk[self.at..]));
    }

    /// Gives memory back if there is nothing in it.
    pub(super) fn free(&mut self) {
        if self.chunk.is_empty() {
            self.chunk = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::record::kind::head;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Records leave in the order in which they were written, whole, whatever was collected and given on in between.
        #[test]
        fn records_are_collected_and_leave_in_order(
            steps in proptest::collection::vec((0..3_u8, 0..20_000_u64), 1..60),
        ) {
            let ring = Ring::leak().expect("memory");
            let mut stream = Stream::new(ring);
            let (mut end, mut next) = (0, 0_u64);
            let mut written = VecDeque::new();
            let mut waiting = VecDeque::new();
            for (step, count) in steps {
                match step {
                    0 => for _ in 0..count {
                        let words: &[u64] = if next % 5 == 0 { &[head(kind::CREATE, next), 1, 2] } else { &[head(kind::START, next), 1] };
                        if end + words.len() as u64 > ring.limit() {
                            break;
                        }
                        (end..).zip(words).for_each(|(at, word)| ring.put(at, *word));
                        end += words.len() as u64;
                        written.push_back(next);
                        next += 1;
                        ring.publish(end);
                    },
                    1 => {
                        stream.collect();
                        waiting.append(&mut written);
                        prop_assert_eq!(ring.limit(), end + crate::record::ring::CAPACITY as u64, "the writer has its room");
                    }
                    _ => for _ in 0..count {
                        prop_assert_eq!(stream.next(), waiting.pop_front());
                        if stream.next().is_none() {
                            break;
                        }
                        stream.pass();
                    },
                }
                let records: Vec<_> = stream.records().map(|record| ticks_of(record[0])).collect();
                prop_assert_eq!(&records, &waiting.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
