//! A captured `profile.proto`, read back: samples with named frames and labels, as any pprof reader sees them.

use std::{collections::HashMap, io::Read};

use flate2::read::GzDecoder;
use greenprof_profiler::profile::proto;
use prost::Message;
use thiserror::Error;

/// Why bytes are no profile.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Not gzip.
    #[error("the profile cannot be decompressed: {0}")]
    Gzip(#[from] std::io::Error),
    /// Not the message.
    #[error("the profile cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A reference to something that is not there.
    #[error("the profile refers to a {0} that it does not contain")]
    Dangling(&'static str),
}

/// A profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Name and unit of each value of a sample.
    pub types: Vec<(String, String)>,
    /// The name of the value that tools show first; empty if the profile leaves it to them.
    pub shown_first: String,
    /// How much of the profiled resource lies between two samples.
    pub period: i64,
    /// How long it took, in nanoseconds.
    pub duration: i64,
    /// What the profiler has to say about it.
    pub comments: Vec<String>,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// A stack with its values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// One for each type.
    pub values: Vec<i64>,
    /// Innermost first, inlined calls included.
    pub frames: Vec<Frame>,
    /// Text labels.
    pub labels: Vec<(String, String)>,
}

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function.
    pub function: String,
    /// Its file.
    pub file: String,
    /// The line in it.
    pub line: i64,
    /// Whether it was inlined into the next frame.
    pub inlined: bool,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The function whose code was running: the innermost that was not inlined.
    pub fn containing(&self) -> Option<&Frame> {
        self.frames.iter().find(|frame| !frame.inlined)
    }

    /// Whether a function is on the stack.
    pub fn calls(&self, function: &str) -> bool {
        self.frames.iter().any(|frame| frame.function == function)
    }
}

impl Profile {
    /// Reads a gzipped profile.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut message = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut message)?;
        Self::from_proto(&proto::Profile::decode(message.as_slice())?)
    }

    /// Which value of a sample has that name.
    pub fn value_index(&self, name: &str) -> Option<usize> {
        self.types.iter().position(|(known, _)| known == name)
    }

    /// The sum of a value over the samples that `wanted` chooses.
    pub fn sum(&self, value: usize, wanted: impl Fn(&Sample) -> bool) -> i64 {
        self.samples.iter().filter(|sample| wanted(sample)).map(|sample| sample.values[value]).sum()
    }

    /// The text of the comment that starts with `name: `, after the profiler's own name.
    pub fn comment(&self, name: &str) -> Option<&str> {
        self.comments
            .iter()
            .find_map(|comment| comment.strip_prefix("greenprof ")?.strip_prefix(name)?.strip_prefix(": "))
    }

    fn from_proto(message: &proto::Profile) -> Result<Self, ReadError> {
        let text = |index: i64| {
            let text = usize::try_from(index).ok().and_then(|index| message.string_table.get(index));
            text.cloned().ok_or(ReadError::Dangling("string"))
        };
        let functions: HashMap<u64, &proto::Function> = message.function.iter().map(|f| (f.id, f)).collect();
        let mappings: HashMap<u64, &proto::Mapping> = message.mapping.iter().map(|m| (m.id, m)).collect();
        let mut locations: HashMap<u64, Vec<Frame>> = HashMap::new();
        for location in &message.location {
            let outer = location.line.len().saturating_sub(1);
            let frames = location.line.iter().enumerate().map(|(at, line)| {
                let function = functions.get(&line.function_id).ok_or(ReadError::Dangling("function"))?;
                let (function, file) = (text(function.name)?, text(function.filename)?);
                Ok(Frame { function, file, line: line.line, inlined: at < outer })
            });
            let mut frames: Vec<Frame> = frames.collect::<Result<_, ReadError>>()?;
            if frames.is_empty() {
                let function = match mappings.get(&location.mapping_id) {
                    Some(mapping) => module(&text(mapping.filename)?),
                    None => format!("{:#x}", location.address),
                };
                frames.push(Frame { function, ..Frame::default() });
            }
            locations.insert(location.id, frames);
        }
        let samples = message.sample.iter().map(|sample| {
            if sample.value.len() != message.sample_type.len() {
                return Err(ReadError::Dangling("value"));
            }
            let mut frames = Vec::new();
            for id in &sample.location_id {
                frames.extend_from_slice(locations.get(id).ok_or(ReadError::Dangling("location"))?);
            }
            let labels = sample.label.iter().filter(|label| label.str != 0);
            let labels = labels.map(|label| Ok((text(label.key)?, text(label.str)?)));
            let labels = labels.collect::<Result<_, ReadError>>()?;
            Ok(Sample { values: sample.value.clone(), frames, labels })
        });
        let types = message.sample_type.iter().map(|kind| Ok((text(kind.r#type)?, text(kind.unit)?)));
        Ok(Self {
            samples: samples.collect::<Result<_, ReadError>>()?,
            types: types.collect::<Result<_, ReadError>>()?,
            shown_first: text(message.default_sample_type)?,
            period: message.period,
            duration: message.duration_nanos,
            comments: message.comment.iter().map(|&comment| text(comment)).collect::<Result<_, _>>()?,
        })
    }
}

/// What stands for all code of a file that has no names, as in `go tool pprof`.
fn module(path: &str) -> String {
    format!("[{}]", path.rsplit('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn message() -> proto::Profile {
        let strings =
            ["", "cpu", "nanoseconds", "outer", "inner", "a.rs", "tenant", "acme", "greenprof lost: 0", "/lib/libc.so"];
        proto::Profile {
            sample_type: vec![proto::ValueType { r#type: 1, unit: 2 }],
            string_table: strings.map(str::to_owned).to_vec(),
            function: vec![
                proto::Function { id: 1, name: 3, filename: 5, ..Default::default() },
                proto::Function { id: 2, name: 4, filename: 5, ..Default::default() },
            ],
            location: vec![
                proto::Location {
                    id: 1,
                    line: vec![
                        proto::Line { function_id: 2, line: 7, column: 0 },
                        proto::Line { function_id: 1, line: 3, column: 0 },
                    ],
                    ..Default::default()
                },
                proto::Location { id: 2, address: 0xabc, ..Default::default() },
                proto::Location { id: 3, address: 0xdef, mapping_id: 1, ..Default::default() },
            ],
            mapping: vec![proto::Mapping { id: 1, filename: 9, ..Default::default() }],
            sample: vec![proto::Sample {
                location_id: vec![1, 2, 3],
                value: vec![40],
                label: vec![proto::Label { key: 6, str: 7, num: 0, num_unit: 0 }],
            }],
            comment: vec![8],
            period: 10,
            duration_nanos: 99,
            ..Default::default()
        }
    }

    fn packed(message: &proto::Profile) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&message.encode_to_vec()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn frames_labels_and_comments_are_resolved() {
        let profile = Profile::read(&packed(&message())).unwrap();
        let sample = &profile.samples[0];
        let names: Vec<_> = sample.frames.iter().map(|frame| (frame.function.as_str(), frame.inlined)).collect();
        assert_eq!(names, [("inner", true), ("outer", false), ("0xabc", false), ("[libc.so]", false)]);
        assert_eq!(sample.containing().unwrap().function, "outer");
        assert_eq!((sample.label("tenant"), sample.label("route")), (Some("acme"), None));
        assert!(sample.calls("inner") && !sample.calls("a.rs"));
        assert_eq!((profile.period, profile.duration), (10, 99));
        assert_eq!((profile.comment("lost"), profile.comment("cpu")), (Some("0"), None));
        let cpu = profile.value_index("cpu").unwrap();
        assert_eq!(profile.sum(cpu, |_| true), 40);
        assert_eq!(profile.value_index("samples"), None);
    }

    #[test]
    fn broken_profiles_are_refused() {
        assert!(matches!(Profile::read(b"no gzip"), Err(ReadError::Gzip(_))));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&[0x0f; 9]).unwrap();
        assert!(matches!(Profile::read(&encoder.finish().unwrap()), Err(ReadError::Decode(_))));
        let broken = |change: fn(&mut proto::Profile)| {
            let mut message = message();
            change(&mut message);
            Profile::read(&packed(&message)).unwrap_err().to_string()
        };
        assert!(broken(|m| m.sample[0].location_id.push(9)).contains("a location"));
        assert!(broken(|m| m.sample[0].value.clear()).contains("a value"));
        assert!(broken(|m| m.location[0].line[0].function_id = 9).contains("a function"));
        assert!(broken(|m| m.function[0].name = -1).contains("a string"));
    }
}
