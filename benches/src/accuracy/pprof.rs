//! Profiles as black-box tests look at them: samples with their functions and labels by name.

use std::collections::HashMap;

use greenprof_profiler::profile::{encode, proto};

/// One sample.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Functions, innermost first, inlined ones included.
    pub functions: Vec<String>,
    /// String labels.
    pub labels: HashMap<String, String>,
    /// One value for each sample type.
    pub values: Vec<i64>,
}

impl Sample {
    /// Whether some function's name contains `part`.
    pub fn calls(&self, part: &str) -> bool {
        self.functions.iter().any(|function| function.contains(part))
    }

    /// The value of a label, or nothing.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
}

/// Decodes a profile as it came over the wire.
///
/// # Panics
/// If it is none.
pub fn samples(bytes: &[u8]) -> Vec<Sample> {
    resolve(&encode::decode(bytes).expect("a gzipped profile"))
}

/// The samples of a decoded profile.
pub fn resolve(profile: &proto::Profile) -> Vec<Sample> {
    let text = |index: i64| profile.string_table[index as usize].clone();
    let functions: HashMap<u64, String> = profile.function.iter().map(|f| (f.id, text(f.name))).collect();
    let locations: HashMap<u64, Vec<String>> = profile
        .location
        .iter()
        .map(|location| (location.id, location.line.iter().map(|l| functions[&l.function_id].clone()).collect()))
        .collect();
    profile
        .sample
        .iter()
        .map(|sample| Sample {
            functions: sample.location_id.iter().flat_map(|id| locations[id].clone()).collect(),
            labels: sample.label.iter().filter(|l| l.str != 0).map(|l| (text(l.key), text(l.str))).collect(),
            values: sample.value.clone(),
        })
        .collect()
}
