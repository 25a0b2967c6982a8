//! A generation being built.
//!
//! Strings and stacks are known by their numbers in tables that live as long as the engine; here each gets a smaller one at
//! its first use. The tables themselves are written when the generation ends, by another thread ([`super::tables`]).

use std::sync::Arc;

use super::wire::{self, FREQUENCY, MAX_BATCH, MAX_NUMBER, NO_THREAD, UNIT, kind};
use crate::engine::tables::{Global, Stack};

/// The numbers that a generation gives to what is used in it, and what that is; 0 stands for nothing in both tables.
struct Numbers<T> {
    /// By global number: the generation in which it was used last, and its number there.
    local: Vec<(u64, u32)>,
    /// In the order of the local numbers, of which the first is 1.
    used: Vec<T>,
}

impl<T> Numbers<T> {
    fn new() -> Self {
        Self { local: Vec::new(), used: Vec::new() }
    }

    #[inline]
    fn number(&mut self, generation: u64, global: Global, value: impl FnOnce() -> T) -> u64 {
        if global == 0 {
            return 0;
        }
        match self.local.get(global as usize) {
            Some((used_in, local)) if *used_in == generation => u64::from(*local),
            _ => self.add(generation, global, value()),
        }
    }

    #[cold]
    fn add(&mut self, generation: u64, global: Global, value: T) -> u64 {
        let at = global as usize;
        if at >= self.local.len() {
            self.local.resize(at + 1, (0, 0));
        }
        self.used.push(value);
        self.local[at] = (generation, self.used.len() as u32);
        self.used.len() as u64
    }
}

/// Room for any event: a kind, a time, and up to five arguments.
const EVENT_ROOM: usize = 1 + 6 * MAX_NUMBER;

/// The events of one thread that are not in the generation's body yet.
pub(crate) struct Batch {
    /// The kernel's id of the thread, or [`NO_THREAD`].
    pub(crate) thread: u64,
    /// Written below `end`. There from the first event on; its length is known, so no check is needed for each byte.
    bytes: Option<Box<[u8; MAX_BATCH]>>,
    end: usize,
    /// Time of the batch, and of its last event, in units.
    start: u64,
    last: u64,
}

impl Batch {
    pub(crate) fn new(thread: u64) -> Self {
        Self { thread, bytes: None, end: 0, start: 0, last: 0 }
    }
}

pub(crate) struct Generation {
    /// From 1 on.
    pub(crate) number: u64,
    /// Complete batches.
    pub(crate) body: Vec<u8>,
    stacks: Numbers<Arc<Stack>>,
    strings: Numbers<Arc<str>>,
    /// The time at which it begins, in nanoseconds.
    pub(crate) start: u64,
    /// Events in it.
    pub(crate) events: u64,
}

/// What is left of a generation when its events are complete.
pub(crate) struct Ended {
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
    /// In the order of the numbers that the events use, from 1 on.
    pub(crate) stacks: Vec<Arc<Stack>>,
    /// As for stacks.
    pub(crate) strings: Vec<Arc<str>>,
    pub(crate) start: u64,
    pub(crate) events: u64,
}

impl Generation {
    pub(crate) fn new(number: u64, start: u64) -> Self {
        let mut generation = Self {
            number,
            body: Vec::new(),
            stacks: Numbers::new(),
            strings: Numbers::new(),
            start: start.max(UNIT),
            events: 0,
        };
        generation.put_sync();
        generation
    }

    /// Ends it, and begins the next one at `start`. All batches must have been flushed.
    pub(crate) fn next(&mut self, start: u64) -> Ended {
        let ended = Ended {
            number: self.number,
            body: std::mem::take(&mut self.body),
            stacks: std::mem::take(&mut self.stacks.used),
            strings: std::mem::take(&mut self.strings.used),
            start: self.start,
            events: std::mem::take(&mut self.events),
        };
        self.number += 1;
        self.start = start.max(UNIT);
        self.put_sync();
        ended
    }

    /// The clock's rate, and what other clocks say at the beginning.
    fn put_sync(&mut self) {
        let time = self.start / UNIT;
        let wall = crate::record::clock::wall();
        let mut payload = vec![kind::SYNC, kind::FREQUENCY];
        wire::put(&mut payload, FREQUENCY);
        payload.push(kind::CLOCK_SNAPSHOT);
        [0, time * UNIT, wall / 1_000_000_000, wall % 1_000_000_000]
            .into_iter()
            .for_each(|v| wire::put(&mut payload, v));
        wire::put_batch_header(&mut self.body, self.number, NO_THREAD, time, payload.len());
        self.body.extend_from_slice(&payload);
    }

    /// The number of a stack in this generation.
    #[inline]
    pub(crate) fn stack(&mut self, global: Global, stack: impl FnOnce() -> Arc<Stack>) -> u64 {
        self.stacks.number(self.number, global, stack)
    }

    /// The number of a string in this generation.
    #[inline]
    pub(crate) fn string(&mut self, global: Global, text: impl FnOnce() -> Arc<str>) -> u64 {
        self.strings.number(self.number, global, text)
    }

    /// The number of a text that is in no table, because it hardly comes twice.
    pub(crate) fn text(&mut self, text: &str) -> u64 {
        self.strings.used.push(wire::cut(text).into());
        self.strings.used.len() as u64
    }

    /// Adds an event to the batch of its thread. `time` is in nanoseconds; an event is not earlier than the one before it.
    #[inline(always)]
    pub(crate) fn event<const N: usize>(&mut self, batch: &mut Batch, time: u64, kind: u8, arguments: [u64; N]) {
        const { assert!(N <= 5) };
        self.events += 1;
        let time = time / UNIT;
        if batch.end == 0 || batch.end + EVENT_ROOM > MAX_BATCH {
            self.begin(batch, time);
        }
        let delta = time.saturating_sub(batch.last);
        batch.last += delta;
        let bytes = batch.bytes.as_mut().expect("it has begun");
        bytes[batch.end & (MAX_BATCH - 1)] = kind;
        let mut end = wire::put_at(bytes, batch.end + 1, delta);
        for value in arguments {
            end = wire::put_at(bytes, end, value);
        }
        batch.end = end;
    }

    #[cold]
    fn begin(&mut self, batch: &mut Batch, time: u64) {
        self.flush(batch);
        batch.bytes.get_or_insert_with(|| vec![0; MAX_BATCH].try_into().expect("as long as that"));
        batch.start = time.max(batch.last).max(self.start / UNIT);
        batch.last = batch.start;
    }

    /// Moves the events of a batch into the body.
    pub(crate) fn flush(&mut self, batch: &mut Batch) {
        if let Some(bytes) = &batch.bytes
            && batch.end > 0
        {
            wire::put_batch_header(&mut self.body, self.number, batch.thread, batch.start, batch.end);
            self.body.extend_from_slice(&bytes[..batch.end]);
            batch.end = 0;
        }
    }
}
