//! A [`Profile`] -> gzipped `profile.proto`, the form that `go tool pprof` reads.
//!
//! Each distinct looked-up address becomes one `Location`, with one `Line` per inlined level, innermost first. Strings,
//! functions and locations are written once. Mappings are the executable ones of this process in address order, all
//! of them, so that a location without symbols still shows its file.
//!
//! A mapping claims to have functions as soon as one address in it has. Go claims it only if all have, but there all
//! always do; here a single address in a stripped corner of the program would make `go tool pprof` symbolize the whole
//! file anew with the tools of its machine, and throw away the inlined calls found here. Files and lines are claimed
//! only if all addresses have them; no reader acts on that.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::{LabelValue, Leaf, Profile, ProfileError, Sample, proto};
use crate::symbolize::{Frame, Symbolizer};

/// Encodes and compresses a profile.
///
/// ```
/// use greenprof_profiler::{profile::{Profile, ValueType, encode}, symbolize};
///
/// let kind = ValueType::new("requests", "count");
/// let mut profile = Profile::new(vec![kind.clone()], kind, 1);
/// profile.push(vec![0x1000], vec![1], Vec::new());
/// let file = encode::encode(&profile, &mut symbolize::shared().lock())?;
/// let read = encode::decode(&file)?;
/// assert_eq!(read.sample.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode(profile: &Profile, symbolizer: &mut Symbolizer) -> Result<Vec<u8>, ProfileError> {
    compress(&to_proto(profile, symbolizer).encode_to_vec())
}

/// Compresses with the fast level: a profile is read once, often over loopback.
fn compress(bytes: &[u8]) -> Result<Vec<u8>, ProfileError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// The message form of a profile.
pub fn to_proto(profile: &Profile, symbolizer: &mut Symbolizer) -> proto::Profile {
    symbolizer.refresh();
    let mut builder = Builder::new(symbolizer);
    let mut samples: Vec<proto::Sample> = profile.samples.iter().map(|s| builder.sample(profile, s)).collect();
    if profile.leaf != Leaf::Whole {
        // Stacks that differed only in what is left out, such as how the allocator found a block.
        samples = merged(samples);
    }
    let value_type = |builder: &mut Builder<'_>, value: &super::ValueType| proto::ValueType {
        r#type: builder.strings.index(&value.kind),
        unit: builder.strings.index(&value.unit),
    };
    let sample_type = profile.sample_types.iter().map(|value| value_type(&mut builder, value)).collect();
    let period_type = Some(value_type(&mut builder, &profile.period_type));
    let comment = profile.comments.iter().map(|comment| builder.strings.index(comment)).collect();
    let default_sample_type = profile.default_sample_type.as_deref().map_or(0, |name| builder.strings.index(name));
    let mapping = builder.mappings();
    proto::Profile {
        sample_type,
        sample: samples,
        mapping,
        location: builder.locations,
        function: builder.functions,
        string_table: builder.strings.table,
        drop_frames: 0,
        keep_frames: 0,
        time_nanos: profile.time_nanos,
        duration_nanos: profile.duration_nanos.unwrap_or(0),
        period_type,
        period: profile.period,
        comment,
        default_sample_type,
        doc_url: 0,
    }
}

/// Sums samples whose locations and labels are equal, in the order of the first.
fn merged(samples: Vec<proto::Sample>) -> Vec<proto::Sample> {
    let mut places = HashMap::new();
    let mut sums: Vec<proto::Sample> = Vec::new();
    for sample in samples {
        let labels: Vec<_> = sample.label.iter().map(|label| (label.key, label.str, label.num)).collect();
        let place = *places.entry((sample.location_id.clone(), labels)).or_insert(sums.len());
        match sums.get_mut(place) {
            Some(sum) => sum.value.iter_mut().zip(sample.value).for_each(|(sum, value)| *sum += value),
            None => sums.push(sample),
        }
    }
    sums
}

/// The string table being built; index 0 is the empty string.
struct Strings {
    table: Vec<String>,
    known: HashMap<String, i64>,
}

impl Strings {
    fn new() -> Self {
        Self { table: vec![String::new()], known: HashMap::from([(String::new(), 0)]) }
    }

    fn index(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.known.get(text) {
            return index;
        }
        let index = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }
}

/// What the locations of a mapping had so far: functions for at least one, files and lines for all.
#[derive(Clone, Copy)]
struct Coverage {
    used: bool,
    functions: bool,
    files: bool,
    lines: bool,
}

/// What makes two functions the same one: readable name, linker name and file. The start line is left out, since an
/// inlined copy may not know it.
type FunctionKey = (i64, i64, i64);

struct Builder<'a> {
    symbolizer: &'a mut Symbolizer,
    strings: Strings,
    locations: Vec<proto::Location>,
    /// By address, and how many of its innermost functions are left out.
    location_ids: HashMap<(usize, usize), u64>,
    functions: Vec<proto::Function>,
    function_ids: HashMap<FunctionKey, u64>,
    coverage: Vec<Coverage>,
}

impl<'a> Builder<'a> {
    fn new(symbolizer: &'a mut Symbolizer) -> Self {
        let unused = Coverage { used: false, functions: false, files: true, lines: true };
        let coverage = vec![unused; symbolizer.mappings().len()];
        Self {
            symbolizer,
            strings: Strings::new(),
            locations: Vec::new(),
            location_ids: HashMap::new(),
            functions: Vec::new(),
            function_ids: HashMap::new(),
            coverage,
        }
    }

    fn sample(&mut self, profile: &Profile, sample: &Sample) -> proto::Sample {
        let addresses = sample.stack.iter().enumerate().map(|(depth, &raw)| profile.lookup_address(depth, raw));
        let addresses: Vec<usize> = addresses.collect();
        let (first, skip) = self.first_shown(profile.leaf, &addresses);
        let shown = addresses[first..].iter().enumerate();
        let location_id = shown.map(|(at, &address)| self.location(address, if at == 0 { skip } else { 0 })).collect();
        let label = sample.labels.iter().map(|(key, value)| self.label(key, value)).collect();
        proto::Sample { location_id, value: sample.values.clone(), label }
    }

    fn label(&mut self, key: &str, value: &LabelValue) -> proto::Label {
        let key = self.strings.index(key);
        match value {
            LabelValue::Str(text) => proto::Label { key, str: self.strings.index(text), num: 0, num_unit: 0 },
            LabelValue::Num { value, unit } => {
                let num_unit = unit.as_deref().map_or(0, |unit| self.strings.index(unit));
                proto::Label { key, str: 0, num: *value, num_unit }
            }
        }
    }

    /// The first address of which something is shown, and how many of its innermost functions are not.
    fn first_shown(&mut self, leaf: Leaf, addresses: &[usize]) -> (usize, usize) {
        if leaf == Leaf::Whole {
            return (0, 0);
        }
        let mut places: Vec<(usize, usize)> = Vec::new();
        let mut functions: Vec<Arc<str>> = Vec::new();
        for (at, &address) in addresses.iter().enumerate() {
            let frames = self.symbolizer.resolve(address);
            // An address without a function is nobody's.
            let names = frames.iter().map(|frame| frame.function.clone());
            functions.extend(names.chain(frames.is_empty().then(|| "".into())));
            places.extend((0..frames.len().max(1)).map(|skip| (at, skip)));
        }
        let functions: Vec<&str> = functions.iter().map(|function| &**function).collect();
        places.get(leaf.hidden(&functions)).copied().unwrap_or_default()
    }

    /// The location of an address, without the `skip` innermost functions there.
    fn location(&mut self, address: usize, skip: usize) -> u64 {
        if let Some(&id) = self.location_ids.get(&(address, skip)) {
            return id;
        }
        let id = self.locations.len() as u64 + 1;
        self.location_ids.insert((address, skip), id);
        let frames = self.symbolizer.resolve(address);
        let mapping = self.symbolizer.mapping_index(address);
        if let Some(index) = mapping {
            let coverage = &mut self.coverage[index];
            coverage.used = true;
            coverage.functions |= !frames.is_empty();
            coverage.files &= !frames.is_empty() && frames.iter().all(|frame| frame.file.is_some());
            coverage.lines &= !frames.is_empty() && frames.iter().all(|frame| frame.line != 0);
        }
        let line = frames
            .iter()
            .skip(skip)
            .map(|frame| proto::Line {
                function_id: self.function(frame),
                line: i64::from(frame.line),
                column: i64::from(frame.column),
            })
            .collect();
        self.locations.push(proto::Location {
            id,
            mapping_id: mapping.map_or(0, |index| index as u64 + 1),
            address: address as u64,
            line,
            is_folded: false,
        });
        id
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let name = self.strings.index(&frame.function);
        let system_name = self.strings.index(&frame.raw_name);
        let filename = frame.file.as_deref().map_or(0, |file| self.strings.index(file));
        let start_line = i64::from(frame.function_line);
        let next = self.functions.len() as u64 + 1;
        let id = *self.function_ids.entry((name, system_name, filename)).or_insert(next);
        if id == next {
            self.functions.push(proto::Function { id, name, system_name, filename, start_line });
        } else if self.functions[id as usize - 1].start_line == 0 {
            self.functions[id as usize - 1].start_line = start_line;
        }
        id
    }

    fn mappings(&mut self) -> Vec<proto::Mapping> {
        (0..self.coverage.len())
            .map(|index| {
                let coverage = self.coverage[index];
                // Only files that a sample touches are opened for their build id.
                let build_id = if coverage.used { self.symbolizer.build_id(index) } else { String::new() };
                let mapping = &self.symbolizer.mappings()[index];
                proto::Mapping {
                    id: index as u64 + 1,
                    memory_start: mapping.start as u64,
                    memory_limit: mapping.end as u64,
                    file_offset: mapping.file_offset,
                    filename: self.strings.index(&mapping.path.to_string_lossy()),
                    build_id: self.strings.index(&build_id),
                    has_functions: coverage.functions,
                    has_filenames: coverage.used && coverage.files,
                    has_line_numbers: coverage.used && coverage.lines,
                    has_inline_frames: coverage.used && coverage.lines,
                }
            })
            .collect()
    }
}

/// Unpacks and decodes what [`encode`] made; for tests and for tools that read their own profiles.
pub fn decode(bytes: &[u8]) -> Result<proto::Profile, DecodeError> {
    decode_at_most(bytes, usize::MAX)
}

/// The same, of bytes that nobody vouches for: refuses what is larger than `limit` bytes when it is unpacked.
pub fn decode_at_most(bytes: &[u8], limit: usize) -> Result<proto::Profile, DecodeError> {
    let mut plain = Vec::new();
    let mut unpacked = flate2::read::GzDecoder::new(bytes).take((limit as u64).saturating_add(1));
    unpacked.read_to_end(&mut plain)?;
    if plain.len() > limit {
        return Err(DecodeError::TooLarge(limit));
    }
    Ok(proto::Profile::decode(plain.as_slice())?)
}

/// Why bytes are no profile.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not gzip, or cut short.
    #[error("the profile cannot be unpacked: {0}")]
    Unpack(#[from] std::io::Error),
    /// More than was allowed.
    #[error("the profile is larger than {0} bytes when it is unpacked")]
    TooLarge(usize),
    /// Not a `profile.proto` message.
    #[error("the profile cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ValueType;
    use crate::symbolize::chain::{NAMES, OUTER_LINE, outer};

    fn text(decoded: &proto::Profile, index: i64) -> &str {
        &decoded.string_table[index as usize]
    }

    fn cpu() -> Profile {
        let mut profile = Profile::new(
            vec![ValueType::new("samples", "count"), ValueType::new("cpu", "nanoseconds")],
            ValueType::new("cpu", "nanoseconds"),
            10_000_000,
        );
        profile.time_nanos = 1_700_000_000_000_000_000;
        profile.duration_nanos = Some(30_000_000_000);
        profile
    }

    #[test]
    fn an_encoded_profile_decodes_to_what_went_in() {
        let return_address = outer();
        let mut profile = cpu();
        profile.default_sample_type = Some("cpu".into());
        profile.comments = vec!["lost 3 samples".into(), "a second line".into()];
        let labels = vec![
            ("bytes".to_owned(), LabelValue::Num { value: 48, unit: Some("bytes".into()) }),
            ("svc".to_owned(), LabelValue::Str("a b".into())),
        ];
        profile.push(vec![return_address, return_address], vec![3, -30_000_000], labels);
        profile.push(vec![1, return_address], vec![1, 0], vec![]);
        let decoded = decode(&encode(&profile, &mut Symbolizer::new()).expect("encodes")).expect("decodes");

        assert_eq!(decoded.string_table[0], "");
        let types: Vec<_> =
            decoded.sample_type.iter().map(|t| (text(&decoded, t.r#type), text(&decoded, t.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        let period = decoded.period_type.expect("a period type");
        assert_eq!((text(&decoded, period.r#type), decoded.period), ("cpu", 10_000_000));
        assert_eq!(text(&decoded, decoded.default_sample_type), "cpu");
        assert_eq!((decoded.time_nanos, decoded.duration_nanos), (1_700_000_000_000_000_000, 30_000_000_000));
        let comments: Vec<_> = decoded.comment.iter().map(|&index| text(&decoded, index)).collect();
        assert_eq!(comments, ["lost 3 samples", "a second line"]);

        let first = &decoded.sample[0];
        assert_eq!(first.value, [3, -30_000_000]);
        assert_eq!(first.location_id[0], first.location_id[1], "one address is one location");
        assert_eq!((text(&decoded, first.label[0].key), first.label[0].num), ("bytes", 48));
        assert_eq!(text(&decoded, first.label[0].num_unit), "bytes");
        assert_eq!((text(&decoded, first.label[1].key), text(&decoded, first.label[1].str)), ("svc", "a b"));

        let unknown = &decoded.location[decoded.sample[1].location_id[0] as usize - 1];
        assert_eq!((unknown.address, unknown.mapping_id, unknown.line.len()), (0, 0, 0));
    }

    #[test]
    fn a_location_has_a_line_per_inlined_level_and_a_mapping() {
        let return_address = outer();
        let mut profile = cpu();
        profile.push(vec![return_address], vec![1, 1], vec![]);
        let decoded = to_proto(&profile, &mut Symbolizer::new());
        let location = &decoded.location[0];
        assert_eq!(location.address, return_address as u64 - 1);
        let functions: Vec<&proto::Function> =
            location.line.iter().map(|line| &decoded.function[line.function_id as usize - 1]).collect();
        let names: Vec<&str> = functions.iter().map(|function| text(&decoded, function.name)).collect();
        assert_eq!(names, NAMES);
        assert_eq!(location.line[2].line, i64::from(OUTER_LINE) + 1);
        assert_eq!(functions[2].start_line, i64::from(OUTER_LINE));
        assert!(text(&decoded, functions[2].system_name).contains("outer"));
        assert_ne!(functions[2].system_name, functions[2].name);

        let mapping = &decoded.mapping[location.mapping_id as usize - 1];
        assert!((mapping.memory_start..mapping.memory_limit).contains(&location.address));
        let own = std::env::current_exe().expect("own path");
        assert_eq!(text(&decoded, mapping.filename), own.to_string_lossy());
        assert!(
            mapping.has_functions && mapping.has_filenames && mapping.has_line_numbers && mapping.has_inline_frames
        );
        for (index, mapping) in decoded.mapping.iter().enumerate() {
            assert_eq!(mapping.id, index as u64 + 1);
        }
    }

    #[test]
    fn an_exact_leaf_is_not_moved() {
        let address = outer();
        let mut profile = cpu();
        profile.leaf_is_exact = true;
        profile.push(vec![address, address], vec![1, 1], vec![]);
        let decoded = to_proto(&profile, &mut Symbolizer::new());
        let addresses: Vec<u64> = decoded.location.iter().map(|location| location.address).collect();
        assert_eq!(addresses, [address as u64, address as u64 - 1]);
    }

    #[test]
    fn one_success_keeps_readers_from_symbolizing_anew() {
        let address = outer();
        let mut symbolizer = Symbolizer::new();
        // The end of the last page of code is padding.
        let index = symbolizer.mapping_index(address).expect("own code");
        let range = symbolizer.mappings()[index].start..symbolizer.mappings()[index].end;
        let Some(blank) = range.rev().step_by(64).find(|&address| symbolizer.resolve(address).is_empty()) else {
            return;
        };
        let mut profile = cpu();
        profile.push(vec![address, blank + 1], vec![1, 1], vec![]);
        let decoded = to_proto(&profile, &mut symbolizer);
        let mapping = &decoded.mapping[index];
        assert!(mapping.has_functions && !mapping.has_filenames && !mapping.has_line_numbers);
        assert_eq!(decoded.location[1].mapping_id, index as u64 + 1);
        profile.samples[0].stack.remove(0);
        assert!(!to_proto(&profile, &mut symbolizer).mapping[index].has_functions);
    }

    #[test]
    fn bytes_that_are_no_profile_are_refused() {
        assert!(matches!(decode(b"plain"), Err(DecodeError::Unpack(_))));
        let packed = compress(&[0xff; 9]).expect("compresses");
        assert!(matches!(decode(&packed), Err(DecodeError::Decode(_))));
    }
}
