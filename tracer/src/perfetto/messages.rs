//! The messages of Perfetto's trace format that we write, as far as we fill them, as `prost` structs; no build needs `protoc`.
//!
//! Numbers and types of the fields are the contract with all that read such files, and never change. A file is a row of
//! [`Packet`]s, each in a field of its own ([`put_packet`]).

use prost::Message;

/// The field of a file in which packets are.
const PACKETS: u32 = 1;

/// Appends a packet to a file.
pub(super) fn put_packet(bytes: &mut Vec<u8>, packet: &Packet) {
    prost::encoding::message::encode(PACKETS, packet, bytes);
}

/// What [`Packet::sequence_flags`] says.
pub(super) mod flags {
    /// The interned data of this sequence begin anew.
    pub(in super::super) const CLEARED: u32 = 1;
    /// It refers to interned data.
    pub(in super::super) const NEEDS: u32 = 2;
}

/// One packet. Times are in nanoseconds of the clock that the defaults name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Packet {
    #[prost(message, optional, tag = "6")]
    pub(super) clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    pub(super) sequence: Option<u32>,
    #[prost(message, optional, tag = "11")]
    pub(super) event: Option<Event>,
    #[prost(message, optional, tag = "12")]
    pub(super) interned: Option<Interned>,
    #[prost(uint32, optional, tag = "13")]
    pub(super) sequence_flags: Option<u32>,
    #[prost(uint32, optional, tag = "58")]
    pub(super) clock: Option<u32>,
    #[prost(message, optional, tag = "59")]
    pub(super) defaults: Option<Defaults>,
    #[prost(message, optional, tag = "60")]
    pub(super) track: Option<Track>,
}

/// What holds for all packets of a sequence that do not say otherwise.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Defaults {
    #[prost(uint32, optional, tag = "58")]
    pub(super) clock: Option<u32>,
}

/// Several clocks at one moment.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    pub(super) clocks: Vec<Clock>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) primary: Option<u32>,
}

/// One of them, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Clock {
    #[prost(uint32, optional, tag = "1")]
    pub(super) id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) time: Option<u64>,
}

/// The numbers of clocks.
pub(super) mod clock {
    pub(in super::super) const REALTIME: u32 = 1;
    pub(in super::super) const MONOTONIC: u32 = 3;
}

/// A line in the picture.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Track {
    #[prost(uint64, optional, tag = "1")]
    pub(super) uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(super) process: Option<Process>,
    #[prost(message, optional, tag = "4")]
    pub(super) thread: Option<Thread>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) parent: Option<u64>,
    #[prost(message, optional, tag = "8")]
    pub(super) counter: Option<Counter>,
    /// How its children are ordered.
    #[prost(int32, optional, tag = "11")]
    pub(super) ordering: Option<i32>,
    /// Its place among its siblings, where the parent says that this counts.
    #[prost(int32, optional, tag = "12")]
    pub(super) rank: Option<i32>,
    /// Whether siblings of one name become one line.
    #[prost(int32, optional, tag = "15")]
    pub(super) merging: Option<i32>,
}

/// Values of [`Track::ordering`] and [`Track::merging`].
pub(super) mod lines {
    pub(in super::super) const CHRONOLOGICAL: i32 = 2;
    pub(in super::super) const BY_RANK: i32 = 3;
    pub(in super::super) const NOT_MERGED: i32 = 2;
}

/// The process that tracks belong to.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Process {
    #[prost(int32, optional, tag = "1")]
    pub(super) id: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub(super) name: Option<String>,
}

/// The thread that a track is about.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Thread {
    #[prost(int32, optional, tag = "1")]
    pub(super) process: Option<i32>,
    #[prost(int64, optional, tag = "2")]
    pub(super) id: Option<i64>,
    #[prost(string, optional, tag = "5")]
    pub(super) name: Option<String>,
}

/// What a counter counts.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Counter {
    #[prost(int32, optional, tag = "3")]
    pub(super) unit: Option<i32>,
}

/// Values of [`Counter::unit`].
pub(super) mod unit {
    pub(in super::super) const COUNT: i32 = 2;
    pub(in super::super) const BYTES: i32 = 3;
}

/// Something that happens on a track.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub(super) categories: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    pub(super) notes: Vec<Note>,
    #[prost(int32, optional, tag = "9")]
    pub(super) kind: Option<i32>,
    #[prost(uint64, optional, tag = "10")]
    pub(super) name: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    pub(super) track: Option<u64>,
    #[prost(int64, optional, tag = "30")]
    pub(super) value: Option<i64>,
    /// Arrows that begin here, or pass.
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    pub(super) flows: Vec<u64>,
    /// Arrows that end here.
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    pub(super) ended_flows: Vec<u64>,
    #[prost(uint64, optional, tag = "56")]
    pub(super) stack: Option<u64>,
}

/// Values of [`Event::kind`].
pub(super) mod event {
    pub(in super::super) const BEGIN: i32 = 1;
    pub(in super::super) const END: i32 = 2;
    pub(in super::super) const INSTANT: i32 = 3;
    pub(in super::super) const COUNTER: i32 = 4;
}

/// A detail of an event. One of the values is there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Note {
    #[prost(uint64, optional, tag = "1")]
    pub(super) name: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) number: Option<u64>,
    #[prost(string, optional, tag = "6")]
    pub(super) text: Option<String>,
}

/// Definitions of what later packets of the sequence refer to by number.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Interned {
    #[prost(message, repeated, tag = "1")]
    pub(super) categories: Vec<Text>,
    #[prost(message, repeated, tag = "2")]
    pub(super) event_names: Vec<Text>,
    #[prost(message, repeated, tag = "3")]
    pub(super) note_names: Vec<Text>,
    #[prost(message, repeated, tag = "5")]
    pub(super) functions: Vec<Bytes>,
    #[prost(message, repeated, tag = "6")]
    pub(super) frames: Vec<Frame>,
    #[prost(message, repeated, tag = "7")]
    pub(super) stacks: Vec<Stack>,
    #[prost(message, repeated, tag = "17")]
    pub(super) paths: Vec<Bytes>,
    #[prost(message, repeated, tag = "18")]
    pub(super) sources: Vec<Bytes>,
    #[prost(message, repeated, tag = "19")]
    pub(super) mappings: Vec<Mapping>,
}

/// A text with a number.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Text {
    #[prost(uint64, optional, tag = "1")]
    pub(super) id: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub(super) text: Option<String>,
}

/// The same, where the format has bytes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Bytes {
    #[prost(uint64, optional, tag = "1")]
    pub(super) id: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) bytes: Option<Vec<u8>>,
}

/// A place in the program.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Frame {
    #[prost(uint64, optional, tag = "1")]
    pub(super) id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) function: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) mapping: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(super) address: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) source: Option<u64>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) line: Option<u32>,
}

/// A stack, outermost frame first.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Stack {
    #[prost(uint64, optional, tag = "1")]
    pub(super) id: Option<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub(super) frames: Vec<u64>,
}

/// The file that frames lie in.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mapping {
    #[prost(uint64, optional, tag = "1")]
    pub(super) id: Option<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "7")]
    pub(super) path: Vec<u64>,
}
