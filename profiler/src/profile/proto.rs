//! The messages of pprof's `profile.proto`, written by hand as `prost` structs, so that no build needs `protoc`.
//!
//! Field numbers and types are the wire contract with every pprof reader and never change. Strings are indices into
//! [`Profile::string_table`], whose entry 0 is the empty string. Ids of mappings, locations and functions start at 1;
//! 0 means "none".

/// The root message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What each value of a sample is.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Executable ranges of the process; the first is the main binary.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Program locations that samples refer to.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions that locations refer to.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings; entry 0 is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Pattern of frames to drop (string index).
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    /// Pattern of frames to keep although they match `drop_frames` (string index).
    #[prost(int64, tag = "8")]
    pub keep_frames: i64,
    /// When the profile was taken, nanoseconds since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it covers.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What was counted between two samples.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// How much of it.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text (string indices).
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// Name of the sample type to show first (string index).
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
    /// Where the profile is documented (string index).
    #[prost(int64, tag = "15")]
    pub doc_url: i64,
}

/// Name and unit of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ValueType {
    /// Name (string index).
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Unit (string index).
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// One stack with its values.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// Location ids, leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One value per sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// Labels.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// One label; either `str` or `num` is set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Label {
    /// Key (string index).
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// Text (string index).
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// Number.
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// Unit of the number (string index).
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// One executable range of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Mapping {
    /// Id, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// First address after it.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Offset in the file of the first byte.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// File (string index).
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// GNU build id in hex (string index).
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Every location of the mapping has a function.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Every location of the mapping has a file.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Every location of the mapping has a line.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Inlined frames of the mapping have been expanded.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// One place in the program.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Id, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Mapping that contains it, or 0.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The address that was looked up.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// One per inlined level, innermost first; the last is the function that was really called.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
    /// Several functions share this address because the linker folded them.
    #[prost(bool, tag = "5")]
    pub is_folded: bool,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Line {
    /// Function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// Line in its file, or 0.
    #[prost(int64, tag = "2")]
    pub line: i64,
    /// Column, or 0.
    #[prost(int64, tag = "3")]
    pub column: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Function {
    /// Id, from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Readable name (string index).
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Name as the linker knows it (string index).
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// File (string index).
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// Line on which it begins, or 0.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}
