//! The outer shape of a trace: generations of batches, and the tables of each generation.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::Arc,
};

use super::ReadError;
use crate::go::wire::{HEADER, MAX_BATCH, MAX_FRAMES, MAX_STRING, kind};

/// A function in a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Its name.
    pub function: Arc<str>,
    /// Its source file.
    pub file: Arc<str>,
    /// The line in it.
    pub line: u64,
}

/// Reads numbers from bytes.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Events of a thread in a row.
pub(super) struct Batch {
    pub(super) time: u64,
    pub(super) events: Vec<u8>,
}

pub(super) struct CpuSample {
    pub(super) time: u64,
    pub(super) thread: u64,
    pub(super) processor: u64,
    pub(super) task: u64,
    pub(super) stack: u64,
}

/// One generation, with its tables.
pub(super) struct Generation {
    pub(super) number: u64,
    /// Units a second.
    pub(super) frequency: u64,
    /// By thread, in the order of the file.
    pub(super) batches: BTreeMap<u64, Vec<Batch>>,
    strings: HashMap<u64, Arc<str>>,
    stacks: HashMap<u64, Arc<[Frame]>>,
    pub(super) samples: Vec<CpuSample>,
    /// One moment, in units and in nanoseconds since 1970.
    pub(super) wall: Option<(u64, u64)>,
}

impl Generation {
    pub(super) fn string(&self, id: u64) -> Option<Arc<str>> {
        if id == 0 { Some("".into()) } else { self.strings.get(&id).cloned() }
    }

    /// A moment in nanoseconds of the trace's clock, and since 1970.
    pub(super) fn wall_time(&self) -> Option<(u64, u64)> {
        self.wall.map(|(units, wall)| (super::order::nanoseconds(units, self.frequency), wall))
    }

    pub(super) fn stack(&self, id: u64) -> Option<Arc<[Frame]>> {
        if id == 0 { Some([].into()) } else { self.stacks.get(&id).cloned() }
    }
}

pub(super) struct Container<R> {
    source: R,
    at: u64,
    generation: u64,
}

impl<R: Read> Container<R> {
    pub(super) fn open(mut source: R) -> Result<Self, ReadError> {
        let mut header = Vec::new();
        source.by_ref().take(HEADER.len() as u64).read_to_end(&mut header)?;
        if header != HEADER {
            return Err(ReadError::Version(String::from_utf8_lossy(&header).into_owned()));
        }
        Ok(Self { source, at: HEADER.len() as u64, generation: 0 })
    }

    /// Generations without what a file begins with.
    pub(super) fn of_generations(source: R) -> Self {
        Self { source, at: 0, generation: 0 }
    }

    fn damaged(&self, what: impl Into<String>) -> ReadError {
        ReadError::Format { at: self.at, generation: self.generation, what: what.into() }
    }

    /// The next byte; nothing at the end.
    fn byte(&mut self) -> Result<Option<u8>, ReadError> {
        let mut byte = [0];
        loop {
            match self.source.read(&mut byte) {
                Ok(read) => {
                    self.at += read as u64;
                    return Ok((read == 1).then_some(byte[0]));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn number(&mut self) -> Result<u64, ReadError> {
        let mut bytes = [0; 10];
        for i in 0..bytes.len() {
            bytes[i] = self.byte()?.ok_or_else(|| self.damaged("it ends within a batch"))?;
            if bytes[i] < 0x80 {
                let value = Cursor(&bytes[..=i]).number();
                return value.ok_or_else(|| self.damaged("a number is too large"));
            }
        }
        Err(self.damaged("a number is too long"))
    }

    /// Reads a generation, or nothing at the end of the trace.
    pub(super) fn next_generation(&mut self) -> Result<Option<Generation>, ReadError> {
        let mut parts: Option<Parts> = None;
        loop {
            let Some(first) = self.byte()? else {
                return match parts {
                    None => Ok(None),
                    Some(_) => Err(self.damaged("it ends within a generation")),
                };
            };
            match first {
                kind::END_OF_GENERATION => {
                    let parts = parts.ok_or_else(|| self.damaged("a generation without a batch"))?;
                    return parts.finish().map(Some).map_err(|what| self.damaged(what));
                }
                kind::EVENT_BATCH | kind::EXPERIMENTAL_BATCH => {
                    let is_experiment = first == kind::EXPERIMENTAL_BATCH;
                    if is_experiment && self.byte()?.is_none() {
                        return Err(self.damaged("it ends within a batch"));
                    }
                    let (number, thread) = (self.number()?, self.number()?);
                    let (time, size) = (self.number()?, self.number()?);
                    if size > MAX_BATCH as u64 {
                        return Err(self.damaged(format!("a batch of {size} bytes, more than {MAX_BATCH}")));
                    }
                    let mut payload = Vec::with_capacity(size as usize);
                    let read = self.source.by_ref().take(size).read_to_end(&mut payload)? as u64;
                    self.at += read;
                    if read < size {
                        return Err(self.damaged("it ends within a batch"));
                    }
                    let parts = parts.get_or_insert_with(|| Parts::new(number));
                    self.generation = parts.number;
                    if number == 0 || number != parts.number {
                        let what = format!("a batch of generation {number} in generation {}", parts.number);
                        return Err(self.damaged(what));
                    }
                    if !is_experiment {
                        parts.add(thread, time, payload).map_err(|what| self.damaged(what))?;
                    }
                }
                other => return Err(self.damaged(format!("a batch of the unknown kind {other}"))),
            }
        }
    }
}

/// A generation whose tables are not complete.
struct Parts {
    number: u64,
    frequency: Option<u64>,
    batches: BTreeMap<u64, Vec<Batch>>,
    strings: HashMap<u64, Arc<str>>,
    /// Each frame is function, file and line.
    stacks: HashMap<u64, Vec<[u64; 3]>>,
    samples: Vec<CpuSample>,
    wall: Option<(u64, u64)>,
}

/// What is wrong with a batch.
type What = String;

impl Parts {
    fn new(number: u64) -> Self {
        Self {
            number,
            frequency: None,
            batches: BTreeMap::new(),
            strings: HashMap::new(),
            stacks: HashMap::new(),
            samples: Vec::new(),
            wall: None,
        }
    }

    fn add(&mut self, thread: u64, time: u64, payload: Vec<u8>) -> Result<(), What> {
        let mut cursor = Cursor(&payload);
        match payload.first() {
            None => Ok(()),
            Some(&kind::SYNC) => self.add_sync(time, &mut cursor),
            Some(&kind::STRINGS) => self.add_strings(&mut cursor).ok_or("a table of strings is malformed".into()),
            Some(&kind::STACKS) => self.add_stacks(&mut cursor).ok_or("a table of stacks is malformed".into()),
            Some(&kind::CPU_SAMPLES) => self.add_samples(&mut cursor).ok_or("a CPU sample is malformed".into()),
            Some(_) => {
                self.batches.entry(thread).or_default().push(Batch { time, events: payload });
                Ok(())
            }
        }
    }

    fn add_sync(&mut self, time: u64, cursor: &mut Cursor<'_>) -> Result<(), What> {
        let malformed = || What::from("a sync batch is malformed");
        cursor.byte();
        while let Some(kind) = cursor.byte() {
            match kind {
                kind::FREQUENCY => {
                    let frequency = cursor.number().ok_or_else(malformed)?;
                    if frequency == 0 || self.frequency.replace(frequency).is_some() {
                        return Err("the clock's frequency is zero or there twice".into());
                    }
                }
                kind::CLOCK_SNAPSHOT => {
                    let mut number = || cursor.number().ok_or_else(malformed);
                    let (delta, _monotonic) = (number()?, number()?);
                    let (seconds, nanoseconds) = (number()?, number()?);
                    let wall = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
                    self.wall = Some((time.saturating_add(delta), wall));
                }
                _ => return Err(malformed()),
            }
        }
        Ok(())
    }

    fn add_strings(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.byte();
        while let Some(kind) = cursor.byte() {
            let (id, length) = (cursor.number()?, cursor.number()?);
            let length = usize::try_from(length).ok().filter(|length| *length <= MAX_STRING)?;
            let text = String::from_utf8_lossy(cursor.take(length)?).into();
            if kind != kind::STRING || id == 0 || self.strings.insert(id, text).is_some() {
                return None;
            }
        }
        Some(())
    }

    fn add_stacks(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.byte();
        while let Some(kind) = cursor.byte() {
            let (id, length) = (cursor.number()?, cursor.number()?);
            if kind != kind::STACK || id == 0 || length > MAX_FRAMES as u64 {
                return None;
            }
            let mut frames = Vec::with_capacity(length as usize);
            for _ in 0..length {
                let _address = cursor.number()?;
                frames.push([cursor.number()?, cursor.number()?, cursor.number()?]);
            }
            if self.stacks.insert(id, frames).is_some() {
                return None;
            }
        }
        Some(())
    }

    fn add_samples(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.byte();
        while let Some(kind) = cursor.byte() {
            if kind != kind::CPU_SAMPLE {
                return None;
            }
            self.samples.push(CpuSample {
                time: cursor.number()?,
                thread: cursor.number()?,
                processor: cursor.number()?,
                task: cursor.number()?,
                stack: cursor.number()?,
            });
        }
        Some(())
    }

    fn finish(self) -> Result<Generation, What> {
        let frequency = self.frequency.ok_or("a generation without its clock's frequency")?;
        let text = |id: u64| match id {
            0 => Ok("".into()),
            id => self.strings.get(&id).cloned().ok_or_else(|| format!("a frame refers to the unknown string {id}")),
        };
        let mut stacks = HashMap::with_capacity(self.stacks.len());
        for (id, frames) in &self.stacks {
            let frames: Result<Arc<[Frame]>, What> = frames
                .iter()
                .map(|[function, file, line]| Ok(Frame { function: text(*function)?, file: text(*file)?, line: *line }))
                .collect();
            stacks.insert(*id, frames?);
        }
        let mut samples = self.samples;
        samples.sort_by_key(|sample| sample.time);
        if let Some(sample) = samples.iter().find(|sample| sample.stack != 0 && !stacks.contains_key(&sample.stack)) {
            return Err(format!("a CPU sample refers to the unknown stack {}", sample.stack));
        }
        Ok(Generation {
            number: self.number,
            frequency,
            batches: self.batches,
            strings: self.strings,
            stacks,
            samples,
            wall: self.wall,
        })
    }
}
