//! The ring between a thread's signal handler, which writes samples, and the collector, which reads them.
//!
//! One producer (the handler of one thread, which does not nest) and one consumer. A sample is a header of two words and
//! its addresses. When there is no room for the longest possible sample, the handler drops the sample and counts it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use greenprof_runtime::labels::LabelSet;

use super::MAX_FRAMES;

/// 64 KiB: some two hundred samples of 30 frames, two seconds at 100 Hz; the collector comes every few milliseconds.
const WORDS: usize = 8192;
const HEADER: usize = 2;

pub(super) struct Ring {
    /// Read position; grows for ever. Written by the collector.
    head: AtomicUsize,
    /// Write position; grows for ever. Written by the handler.
    tail: AtomicUsize,
    words: Box<[AtomicU64]>,
}

/// What is said of a sample besides its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Expiries that the sample stands for.
    pub(super) weight: u32,
    pub(super) labels: LabelSet,
    /// Whether the stack is a task's.
    pub(super) on_task: bool,
    /// Whether the chain of frame pointers broke.
    pub(super) broken: bool,
    /// Whether there were more frames than room.
    pub(super) cut: bool,
}

/// A sample being written.
pub(super) struct Writing<'a> {
    ring: &'a Ring,
    start: usize,
    frames: usize,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            // Written, not only zeroed: the handler must not be the first to touch these pages.
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn word(&self, position: usize) -> Option<&AtomicU64> {
        self.words.get(position % WORDS)
    }

    /// Begins a sample; nothing if there is no room. Producer only.
    pub(super) fn begin(&self) -> Option<Writing<'_>> {
        let tail = self.tail.load(Ordering::Relaxed);
        // Acquire: pairs with the Release in `read`: the collector has read what is about to be overwritten.
        let used = tail.wrapping_sub(self.head.load(Ordering::Acquire));
        (used + HEADER + MAX_FRAMES <= WORDS).then_some(Writing { ring: self, start: tail, frames: 0 })
    }

    /// Takes the oldest sample: its stack is put into `stack`. Consumer only.
    pub(super) fn read(&self, stack: &mut Vec<usize>) -> Option<Header> {
        let head = self.head.load(Ordering::Relaxed);
        // Acquire: pairs with the Release in `finish`: the sample's words are written.
        if head == self.tail.load(Ordering::Acquire) {
            return None;
        }
        let load = |position| self.word(position).map_or(0, |word| word.load(Ordering::Relaxed));
        let (first, second) = (load(head), load(head + 1));
        let frames = (first as u16) as usize;
        stack.clear();
        stack.extend((0..frames).map(|i| load(head + HEADER + i) as usize));
        // Release: pairs with the Acquire in `begin`.
        self.head.store(head + HEADER + frames, Ordering::Release);
        Some(Header {
            weight: (first >> 32) as u32,
            labels: LabelSet::from_index(second as u32),
            on_task: first >> 16 & 1 == 1,
            broken: first >> 17 & 1 == 1,
            cut: first >> 18 & 1 == 1,
        })
    }
}

impl Writing<'_> {
    /// Adds an address; `false` if the stack has no more room.
    pub(super) fn push(&mut self, address: usize) -> bool {
        if self.frames == MAX_FRAMES {
            return false;
        }
        if let Some(word) = self.ring.word(self.start + HEADER + self.frames) {
            word.store(address as u64, Ordering::Relaxed);
            self.frames += 1;
        }
        true
    }

    /// Hands the sample to the collector.
    pub(super) fn finish(self, header: Header) {
        let flags = u64::from(header.on_task) | u64::from(header.broken) << 1 | u64::from(header.cut) << 2;
        let first = u64::from(header.weight) << 32 | flags << 16 | self.frames as u64;
        if let (Some(one), Some(two)) = (self.ring.word(self.start), self.ring.word(self.start + 1)) {
            one.store(first, Ordering::Relaxed);
            two.store(header.labels.index().into(), Ordering::Relaxed);
        }
        // Release: pairs with the Acquire in `read`.
        self.ring.tail.store(self.start + HEADER + self.frames, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(weight: u32) -> Header {
        Header {
            weight,
            labels: LabelSet::from_index(weight % 7),
            on_task: weight.is_multiple_of(2),
            broken: weight.is_multiple_of(3),
            cut: weight.is_multiple_of(5),
        }
    }

    fn write(ring: &Ring, weight: u32, frames: usize) -> bool {
        let Some(mut sample) = ring.begin() else { return false };
        for i in 0..frames {
            assert!(sample.push(weight as usize * 1000 + i) || i >= MAX_FRAMES);
        }
        sample.finish(header(weight));
        true
    }

    #[test]
    fn samples_come_out_as_they_went_in_across_the_wrap() {
        let ring = Ring::new();
        let mut stack = Vec::new();
        for weight in 1..5000 {
            let frames = weight as usize % (MAX_FRAMES + 3);
            assert!(write(&ring, weight, frames));
            assert_eq!(ring.read(&mut stack), Some(header(weight)));
            assert_eq!(stack, (0..frames.min(MAX_FRAMES)).map(|i| weight as usize * 1000 + i).collect::<Vec<_>>());
        }
        assert_eq!(ring.read(&mut stack), None);
    }

    #[test]
    fn a_full_ring_refuses_and_recovers() {
        let ring = Ring::new();
        let mut written = 0;
        while write(&ring, written + 1, 50) {
            written += 1;
        }
        assert!(written as usize * (50 + HEADER) + HEADER + MAX_FRAMES > WORDS);
        let mut stack = Vec::new();
        for weight in 1..=written {
            assert_eq!(ring.read(&mut stack).unwrap().weight, weight);
        }
        assert!(write(&ring, 1, 50));
    }

    #[test]
    fn a_producer_and_a_consumer_at_once() {
        const SAMPLES: u32 = 100_000;
        let ring = Ring::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for weight in 1..=SAMPLES {
                    while !write(&ring, weight, weight as usize % 40) {
                        std::hint::spin_loop();
                    }
                }
            });
            let mut stack = Vec::new();
            let mut next = 1;
            while next <= SAMPLES {
                if let Some(got) = ring.read(&mut stack) {
                    assert_eq!(got, header(next));
                    assert!(stack.iter().enumerate().all(|(i, a)| *a == next as usize * 1000 + i));
                    assert_eq!(stack.len(), next as usize % 40);
                    next += 1;
                }
            }
        });
    }
}
