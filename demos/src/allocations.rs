//! What a piece of work allocates and keeps, as the heap profile says, and as the allocator counts it.

use std::collections::BTreeMap;

use greenprof_profiler::{
    heap::{self as profiler, Estimate},
    profile::{ProfileError, encode},
    symbolize,
};
use greenprof_runtime::heap;

use crate::tour::profile::{Frame, Profile, ReadError, Sample};

/// What the demos' own functions begin with.
const OURS: &str = "greenprof_demos::";

/// Two looks at the heap, and what lies between them.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The profile of what lies between them, as a file.
    pub file: Vec<u8>,
    /// The same, read back.
    pub profile: Profile,
    /// Bytes allocated, estimated from samples.
    pub allocated: Estimated,
    /// Bytes more in use, likewise.
    pub in_use: Estimated,
    /// Bytes allocated, as the allocator has counted.
    pub counted: u64,
    /// Allocations, likewise.
    pub count: u64,
}

/// An estimate and how far it may be off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimated {
    /// The estimate.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// Does some work and looks at the heap before and after. Tools show `shown_first` of the profile first.
///
/// # Errors
/// If the profile cannot be written or read back.
pub fn measure<R>(shown_first: &'static str, work: impl FnOnce() -> R) -> Result<(R, Measured), MeasureError> {
    let (before, profile_before) = (profiler::snapshot(), profiler::profile());
    let counted_before = heap::stats().allocated;
    let result = work();
    let counted = heap::stats().allocated;
    let (after, mut profile) = (profiler::snapshot(), profiler::profile());
    profile.default_sample_type = Some(shown_first.into());
    let file = encode::encode(&profile.since(profile_before), &mut symbolize::shared().lock())?;
    let (before, after) = (before.total(), after.total());
    let measured = Measured {
        profile: Profile::read(&file)?,
        file,
        allocated: between(before.0, after.0),
        // Samples that are no longer in use add to the error, too: the difference of both is estimated.
        in_use: Estimated {
            value: after.1.bytes - before.1.bytes,
            error: (after.1.bytes_variance + before.1.bytes_variance).sqrt(),
        },
        counted: counted.bytes - counted_before.bytes,
        count: counted.objects - counted_before.objects,
    };
    Ok((result, measured))
}

/// What was allocated between two looks: its samples are those of the later one without those of the earlier.
fn between(before: Estimate, after: Estimate) -> Estimated {
    Estimated {
        value: after.bytes - before.bytes,
        error: (after.bytes_variance - before.bytes_variance).max(0.0).sqrt(),
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// It could not be written.
    #[error("the profile could not be written: {0}")]
    Write(#[from] ProfileError),
    /// It could not be read back.
    #[error("the profile could not be read back: {0}")]
    Read(#[from] ReadError),
}

/// Sums a value of a profile by the demos' own function that wanted the memory, the largest first.
pub fn by_function(profile: &Profile, value: &str) -> Vec<(String, i64)> {
    sum(profile, value, |sample| {
        let ours = |frame: &&Frame| frame.function.starts_with(OURS);
        let frame = sample.frames.iter().find(ours).or(sample.frames.first());
        let name = frame.map_or("(no stack)", |frame| frame.function.as_str());
        // What a closure of a function wants, the function wants.
        name.split("::{").next().unwrap_or(name).to_owned()
    })
}

/// Sums a value of a profile by a label, the largest first.
pub fn by_label(profile: &Profile, value: &str, key: &str) -> Vec<(String, i64)> {
    sum(profile, value, |sample| sample.label(key).unwrap_or("(none)").to_owned())
}

fn sum(profile: &Profile, value: &str, key: impl Fn(&Sample) -> String) -> Vec<(String, i64)> {
    let Some(value) = profile.value_index(value) else { return Vec::new() };
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for sample in &profile.samples {
        *sums.entry(key(sample)).or_default() += sample.values[value];
    }
    let mut rows: Vec<(String, i64)> = sums.into_iter().filter(|row| row.1 != 0).collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_belongs_to_the_innermost_function_of_the_demos() {
        let frame = |function: &str| Frame { function: function.to_owned(), ..Frame::default() };
        let sample = |functions: &[&str], tenant: &str, value| Sample {
            frames: functions.iter().map(|function| frame(function)).collect(),
            labels: vec![("tenant".to_owned(), tenant.to_owned())],
            values: vec![value],
        };
        let profile = Profile {
            types: vec![("inuse_space".to_owned(), "bytes".to_owned())],
            samples: vec![
                sample(&["std::x", "greenprof_demos::a::b::{closure#0}", "greenprof_demos::c"], "x", 3),
                sample(&["greenprof_demos::a::b"], "y", 4),
                sample(&["std::x"], "y", 1),
                sample(&["std::y"], "y", 0),
            ],
            ..Profile::default()
        };
        let row = |name: &str, value| (name.to_owned(), value);
        assert_eq!(by_function(&profile, "inuse_space"), [row("greenprof_demos::a::b", 7), row("std::x", 1)]);
        assert_eq!(by_label(&profile, "inuse_space", "tenant"), [row("y", 5), row("x", 3)]);
        assert!(by_function(&profile, "nothing").is_empty());
    }
}
