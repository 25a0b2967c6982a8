//! The end of a generation: the stacks and the strings that its events refer to.
//!
//! Runs on a thread of its own, because finding the names of functions may take seconds when it is done for the first time.

use std::{collections::HashMap, sync::Arc};

use super::{
    generation::Ended,
    wire::{self, MAX_BATCH, MAX_FRAMES, NO_THREAD, UNIT, kind},
};
use crate::{
    engine::tables::{NumberMap, Stack},
    symbols::{self, Frame},
};

/// A sample of the CPU profiler.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Nanoseconds of the monotonic clock.
    pub(crate) time: u64,
    pub(crate) thread: u64,
    /// The processor, if it is known.
    pub(crate) processor: Option<u64>,
    /// 0 for none.
    pub(crate) task: u64,
    pub(crate) stack: Arc<Stack>,
}

/// Addresses whose frames are remembered.
const MAX_KNOWN: usize = 1 << 16;

/// Frames by number, and the frames of stacks.
pub(crate) struct Finisher {
    /// Each distinct frame has a number for ever, which stands for its address: readers take frames with one address for the
    /// same, and inlined calls have one in common.
    frames: Vec<Frame>,
    numbers: HashMap<Frame, u32>,
    known: NumberMap<Box<[u32]>>,
}

/// With these a task begins; what calls them is how it gets to run, not what it does.
const ENTRIES: [&str; 2] = ["greenprof_runtime::task::spawn::run", "greenprof_runtime::task::spawn::first"];

/// Crates whose functions lie between the entry of a task and its closure.
const BETWEEN: [&str; 4] = ["std::", "core::", "alloc::", "__rust"];

/// The runtime's own functions.
const RUNTIME: &str = "greenprof_runtime::";

impl Finisher {
    pub(crate) fn new() -> Self {
        Self { frames: Vec::new(), numbers: HashMap::new(), known: NumberMap::default() }
    }

    /// The whole generation as bytes.
    pub(crate) fn finish(&mut self, ended: Ended, samples: &[Sample]) -> Vec<u8> {
        let Ended { number, mut body, mut stacks, strings, start, .. } = ended;
        let time = start / UNIT;
        self.put_samples(&mut body, number, time, samples, &mut stacks);
        self.resolve(&stacks);
        let mut texts = Texts::new(&strings);
        let mut tables = Table::new(kind::STACKS, number, time);
        for (i, stack) in stacks.iter().enumerate() {
            let frames = self.frames_of(stack);
            let entry = tables.entry(&mut body);
            entry.push(kind::STACK);
            wire::put(entry, i as u64 + 1);
            wire::put(entry, frames.len() as u64);
            for number in frames {
                let frame = &self.frames[number as usize];
                let place = [
                    u64::from(number) + 1,
                    texts.number(&frame.function),
                    texts.number(&frame.file),
                    u64::from(frame.line),
                ];
                place.into_iter().for_each(|value| wire::put(entry, value));
            }
        }
        tables.end(&mut body);
        let mut tables = Table::new(kind::STRINGS, number, time);
        for (i, text) in texts.all.iter().enumerate() {
            let entry = tables.entry(&mut body);
            entry.push(kind::STRING);
            wire::put(entry, i as u64 + 1);
            let text = wire::cut(text);
            wire::put(entry, text.len() as u64);
            entry.extend_from_slice(text.as_bytes());
        }
        tables.end(&mut body);
        body.push(kind::END_OF_GENERATION);
        body
    }

    fn put_samples(
        &self,
        body: &mut Vec<u8>,
        number: u64,
        time: u64,
        samples: &[Sample],
        stacks: &mut Vec<Arc<Stack>>,
    ) {
        let mut places: HashMap<*const Stack, u64> = HashMap::new();
        let mut table = Table::new(kind::CPU_SAMPLES, number, time);
        for sample in samples {
            let stack = *places.entry(Arc::as_ptr(&sample.stack)).or_insert_with(|| {
                stacks.push(sample.stack.clone());
                stacks.len() as u64
            });
            let entry = table.entry(body);
            entry.push(kind::CPU_SAMPLE);
            let processor = sample.processor.unwrap_or(u64::MAX);
            [sample.time / UNIT, sample.thread, processor, sample.task, stack]
                .into_iter()
                .for_each(|value| wire::put(entry, value));
        }
        table.end(body);
    }

    /// Finds the frames of addresses that are not known yet.
    fn resolve(&mut self, stacks: &[Arc<Stack>]) {
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let mut unknown: Vec<usize> = stacks
            .iter()
            .flat_map(|stack| places(stack))
            .filter(|address| !self.known.contains_key(&(*address as u64)))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return;
        }
        for (address, frames) in unknown.iter().zip(symbols::resolve(&unknown)) {
            let numbers = frames.into_iter().map(|frame| self.number(frame)).collect();
            self.known.insert(*address as u64, numbers);
        }
    }

    fn number(&mut self, frame: Frame) -> u32 {
        if let Some(known) = self.numbers.get(&frame) {
            return *known;
        }
        let number = self.frames.len() as u32;
        self.frames.push(frame.clone());
        self.numbers.insert(frame, number);
        number
    }

    /// The numbers of a stack's frames, innermost first: without the runtime's inner functions at the leaf, and without what
    /// calls the task's closure at the root.
    fn frames_of(&mut self, stack: &Stack) -> Vec<u32> {
        let origin = match stack {
            Stack::Origin(origin) => origin,
            Stack::Addresses { .. } => {
                let all: Vec<u32> = places(stack)
                    .flat_map(|address| self.known.get(&(address as u64)).map_or(&[][..], |frames| frames))
                    .copied()
                    .collect();
                return self.trimmed(&all).to_vec();
            }
        };
        let (file, line) = origin.site.map_or(("", 0), |site| (site.file(), site.line()));
        let function = origin.name.as_deref().unwrap_or(&origin.closure);
        vec![self.number(Frame { function: function.into(), file: file.into(), line })]
    }

    fn trimmed<'a>(&self, all: &'a [u32]) -> &'a [u32] {
        let name = |number: &u32| &*self.frames[*number as usize].function;
        let is = |number: &u32, prefixes: &[&str]| prefixes.iter().any(|prefix| name(number).starts_with(prefix));
        // Of the runtime's functions at the leaf, the outermost is the one that the program has called.
        let is_outer = |frame: &u32| !is(frame, &[RUNTIME]) || is(frame, &ENTRIES);
        let leaf = all.iter().position(is_outer).unwrap_or(all.len()).saturating_sub(1);
        let inner = &all[leaf..];
        let entry = inner.iter().position(|frame| is(frame, &ENTRIES));
        // Between the entry and the closure lie functions of the standard library.
        let is_between = |frame: &u32| is(frame, &BETWEEN) || name(frame).ends_with("::call_once");
        let mut root = entry.unwrap_or(inner.len());
        while entry.is_some() && root > 1 && is_between(&inner[root - 1]) {
            root -= 1;
        }
        let kept = &inner[..root];
        &kept[..kept.len().min(MAX_FRAMES)]
    }
}

/// Addresses to be looked up, innermost first.
fn places(stack: &Stack) -> impl Iterator<Item = usize> {
    let (addresses, exact_leaf) = match stack {
        Stack::Addresses { addresses, exact_leaf } => (&**addresses, *exact_leaf),
        Stack::Origin(_) => (&[][..], false),
    };
    addresses.iter().enumerate().map(move |(i, address)| if i == 0 && exact_leaf { *address } else { address - 1 })
}

/// The strings of a generation: those of the events first, whose numbers are given, then those of frames.
struct Texts {
    all: Vec<Arc<str>>,
    index: HashMap<Arc<str>, u64>,
}

impl Texts {
    fn new(strings: &[Arc<str>]) -> Self {
        Self { all: strings.to_vec(), index: HashMap::new() }
    }

    fn number(&mut self, text: &Arc<str>) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if let Some(known) = self.index.get(text) {
            return *known;
        }
        self.all.push(text.clone());
        self.index.insert(text.clone(), self.all.len() as u64);
        self.all.len() as u64
    }
}

/// Entries of a table, in as many batches as they need.
struct Table {
    kind: u8,
    generation: u64,
    time: u64,
    bytes: Vec<u8>,
    /// Where the last entry begins.
    last: usize,
}

impl Table {
    fn new(kind: u8, generation: u64, time: u64) -> Self {
        Self { kind, generation, time, bytes: vec![kind], last: 1 }
    }

    /// Where the next entry is to be written, which must fit a batch.
    fn entry(&mut self, body: &mut Vec<u8>) -> &mut Vec<u8> {
        if self.bytes.len() > MAX_BATCH {
            let entry = self.bytes.split_off(self.last);
            self.flush(body);
            self.bytes.extend_from_slice(&entry);
        }
        self.last = self.bytes.len();
        &mut self.bytes
    }

    fn flush(&mut self, body: &mut Vec<u8>) {
        wire::put_batch_header(body, self.generation, NO_THREAD, self.time, self.bytes.len());
        body.append(&mut self.bytes);
        self.bytes.push(self.kind);
    }

    fn end(mut self, body: &mut Vec<u8>) {
        self.entry(body);
        if self.bytes.len() > 1 {
            self.flush(body);
        }
    }
}
