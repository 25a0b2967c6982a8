//! Packets as they go into the file, on one sequence: times do not go back, and a bound is kept.

use std::{
    io::{self, Write},
    sync::Arc,
};

use greenprof_runtime::heap;

use super::{
    interner::Interner,
    messages::{Clock, ClockSnapshot, Defaults, Event, Note, Packet, Track, clock, event, flags, put_packet},
};
use crate::reader::Frame;

/// There is one writer, so one sequence.
const SEQUENCE: u32 = 1;

/// So many bytes are gathered before they are written.
const BUFFER: usize = 64 << 10;

/// More than all packets of one event can have: a stack of 128 frames whose functions and files have names of a kilobyte each,
/// and some texts.
const EVENT_ROOM: u64 = 384 << 10;

/// More than the packet that ends a slice has.
const END_ROOM: u64 = 48;

/// What an event may have besides its place and its name.
#[derive(Clone, Copy, Default)]
pub(super) struct Details<'a> {
    pub(super) stack: Option<&'a Arc<[Frame]>>,
    pub(super) number: Option<(&'static str, u64)>,
    pub(super) text: Option<(&'static str, &'a str)>,
    /// The arrow that begins here.
    pub(super) flow: Option<u64>,
    /// The arrow that ends here.
    pub(super) ended_flow: Option<u64>,
}

pub(super) struct Packets {
    bytes: Vec<u8>,
    written: u64,
    max_bytes: u64,
    /// Slices that have begun and not ended.
    open: u64,
    interner: Interner,
    /// Whether the next packet begins the tables anew.
    cleared: bool,
}

impl Packets {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { bytes: Vec::new(), written: 0, max_bytes, open: 0, interner: Interner::default(), cleared: false }
    }

    /// Whether another event surely fits, and the ends of all slices after it.
    pub(super) fn has_room(&self) -> bool {
        let size = self.written + self.bytes.len() as u64;
        size.saturating_add(EVENT_ROOM + (self.open + 8) * END_ROOM) <= self.max_bytes
    }

    /// A generation begins: with empty tables, and with what other clocks say.
    pub(super) fn begin_generation(&mut self, moment: Option<(u64, u64)>) {
        self.interner = Interner::default();
        self.cleared = true;
        if let Some((time, wall)) = moment {
            let clocks = [(clock::MONOTONIC, time), (clock::REALTIME, wall)];
            let clocks = clocks.map(|(id, time)| Clock { id: Some(id), time: Some(time) }).to_vec();
            let snapshot = ClockSnapshot { clocks, primary: Some(clock::MONOTONIC) };
            self.put(Packet { clock_snapshot: Some(snapshot), ..Default::default() });
        }
    }

    /// Describes a track, before its first event or because its name has become known.
    pub(super) fn describe(&mut self, track: Track) {
        self.put(Packet { track: Some(track), ..Default::default() });
    }

    pub(super) fn begin(&mut self, time: u64, track: u64, category: &str, name: &str, details: Details<'_>) {
        self.open += 1;
        self.named(event::BEGIN, time, track, category, name, details);
    }

    pub(super) fn end(&mut self, time: u64, track: u64) {
        self.open -= 1;
        self.event(time, Event { kind: Some(event::END), track: Some(track), ..Default::default() });
    }

    pub(super) fn instant(&mut self, time: u64, track: u64, category: &str, name: &str, details: Details<'_>) {
        self.named(event::INSTANT, time, track, category, name, details);
    }

    pub(super) fn count(&mut self, time: u64, track: u64, value: u64) {
        let value = Some(i64::try_from(value).unwrap_or(i64::MAX));
        self.event(time, Event { kind: Some(event::COUNTER), track: Some(track), value, ..Default::default() });
    }

    fn named(&mut self, kind: i32, time: u64, track: u64, category: &str, name: &str, details: Details<'_>) {
        let mut notes = Vec::new();
        if let Some((name, number)) = details.number {
            notes.push(Note { name: Some(self.interner.note_name(name)), number: Some(number), text: None });
        }
        if let Some((name, text)) = details.text {
            notes.push(Note { name: Some(self.interner.note_name(name)), number: None, text: Some(text.to_owned()) });
        }
        let stack = details.stack.filter(|stack| !stack.is_empty()).map(|stack| self.interner.stack(stack));
        let event = Event {
            categories: vec![self.interner.category(category)],
            notes,
            kind: Some(kind),
            name: Some(self.interner.event_name(name)),
            track: Some(track),
            value: None,
            flows: details.flow.into_iter().collect(),
            ended_flows: details.ended_flow.into_iter().collect(),
            stack,
        };
        self.event(time, event);
    }

    fn event(&mut self, time: u64, event: Event) {
        let is_first = std::mem::take(&mut self.cleared);
        let packet = Packet {
            timestamp: Some(time),
            event: Some(event),
            interned: self.interner.take_new(),
            sequence_flags: Some(flags::NEEDS | if is_first { flags::CLEARED } else { 0 }),
            defaults: is_first.then_some(Defaults { clock: Some(clock::MONOTONIC) }),
            ..Default::default()
        };
        self.put(packet);
    }

    fn put(&mut self, packet: Packet) {
        put_packet(&mut self.bytes, &Packet { sequence: Some(SEQUENCE), ..packet });
    }

    /// Writes what was gathered, if it is much or if `all` is to be written.
    pub(super) fn flush(&mut self, writer: &mut impl Write, all: bool) -> io::Result<()> {
        if self.bytes.len() < BUFFER && !all {
            return Ok(());
        }
        self.written += self.bytes.len() as u64;
        // What it allocates is the program's.
        let result = heap::tracked(|| writer.write_all(&self.bytes));
        self.bytes.clear();
        result
    }
}
