//! The in-memory form of a profile: what every profiler of this crate fills in, and what the encoders read.
//!
//! A [`Profile`] is a bag of [`Sample`]s: a stack of raw addresses, one value per [`ValueType`], and labels. Nothing in
//! it is symbolized; that happens when it is written out ([`encode`]), outside every signal handler and hot path.
//!
//! Invariants:
//! * `sample.values.len() == profile.sample_types.len()` for every sample ([`Profile::push`] asserts it in debug builds).
//! * A stack lists raw addresses, leaf first. Element 0 is the interrupted program counter if
//!   [`Profile::leaf_is_exact`] is set, and a return address otherwise; all further elements are return addresses.
//! * A return address belongs to the instruction *after* the call, which may already be another line or even another
//!   function. The address that is looked up and shown is therefore one less ([`lookup_address`]).

pub mod encode;
pub mod proto;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::symbolize::names::{shown_allocation, shown_contention};

/// Why a profile could not be produced.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Compressing the encoded profile failed.
    #[error("the profile could not be compressed: {0}")]
    Compress(#[from] std::io::Error),
    /// The profiler cannot answer now or in this program; the text is one sentence for the person who asked.
    #[error("{0}")]
    Unavailable(String),
}

/// What one column of sample values counts, and in which unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValueType {
    /// What is counted: `samples`, `cpu`, `goroutine`.
    pub kind: Cow<'static, str>,
    /// The unit: `count`, `nanoseconds`, `bytes`.
    pub unit: Cow<'static, str>,
}

impl ValueType {
    /// A value type from its name and unit.
    pub fn new(kind: impl Into<Cow<'static, str>>, unit: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: kind.into(), unit: unit.into() }
    }
}

/// The value of one label of a sample.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelValue {
    /// A text; what tasks carry.
    Str(String),
    /// A number with an optional unit, such as the size of an allocated object.
    Num {
        /// The number.
        value: i64,
        /// Its unit (`bytes`); `None` leaves the choice to the reader.
        unit: Option<Cow<'static, str>>,
    },
}

/// Where the stacks of a profile begin when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// At the leaf.
    Whole,
    /// After the allocator's own frames: [`shown_allocation`].
    WithoutAllocator,
    /// With the function of the runtime that was called: [`shown_contention`].
    WithoutHooks,
}

/// One stack with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Raw addresses, leaf first; see the module documentation for what they mean.
    pub stack: Vec<usize>,
    /// One value per sample type of the profile.
    pub values: Vec<i64>,
    /// Labels; sorted by whoever made them, because two samples merge only when their lists are equal.
    pub labels: Vec<(String, LabelValue)>,
}

/// A profile: samples and what their numbers mean.
///
/// ```
/// use greenprof_profiler::profile::{Profile, ValueType};
///
/// let kind = ValueType::new("requests", "count");
/// let mut profile = Profile::new(vec![kind.clone()], kind, 1);
/// profile.push(vec![0x1000], vec![2], Vec::new());
/// profile.push(vec![0x1000], vec![3], Vec::new());
/// profile.merge_equal();
/// assert_eq!((profile.samples.len(), profile.samples[0].values[0]), (1, 5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What each column of [`Sample::values`] is.
    pub sample_types: Vec<ValueType>,
    /// The column that tools show first; without it they take the last.
    pub default_sample_type: Option<Cow<'static, str>>,
    /// What was counted to decide when to sample.
    pub period_type: ValueType,
    /// How much of `period_type` lies between two samples.
    pub period: i64,
    /// Wall clock, nanoseconds since 1970: when a CPU profile began, when any other was taken.
    pub time_nanos: i64,
    /// How long the profile covers, for those that cover a time.
    pub duration_nanos: Option<i64>,
    /// Whether element 0 of each stack is an interrupted program counter (CPU) or a return address (all others).
    pub leaf_is_exact: bool,
    /// Which frames at the leaf are left out when the profile is written.
    pub leaf: Leaf,
    /// The samples.
    pub samples: Vec<Sample>,
    /// Free text that tools print under the header; losses and estimates are stated here.
    pub comments: Vec<String>,
}

impl Profile {
    /// An empty profile taken now, whose stacks start with a return address.
    pub fn new(sample_types: Vec<ValueType>, period_type: ValueType, period: i64) -> Self {
        Self {
            sample_types,
            default_sample_type: None,
            period_type,
            period,
            time_nanos: wall_clock_nanos(),
            duration_nanos: None,
            leaf_is_exact: false,
            leaf: Leaf::Whole,
            samples: Vec::new(),
            comments: Vec::new(),
        }
    }

    /// Adds one sample. It is not merged with equal ones; see [`Profile::merge_equal`].
    pub fn push(&mut self, stack: Vec<usize>, values: Vec<i64>, labels: Vec<(String, LabelValue)>) {
        debug_assert_eq!(values.len(), self.sample_types.len(), "one value per sample type");
        self.samples.push(Sample { stack, values, labels });
    }

    /// The address to look up for element `depth` of a stack of this profile.
    pub fn lookup_address(&self, depth: usize, raw: usize) -> usize {
        lookup_address(raw, depth == 0 && self.leaf_is_exact)
    }

    /// Sums samples whose stack and labels are equal. The order of first appearance is kept.
    pub fn merge_equal(&mut self) {
        let samples = std::mem::take(&mut self.samples);
        self.samples = Merger::default().add(samples, 1).finish();
    }

    /// What happened between `before` and `self`, which must be two snapshots of the same profile.
    ///
    /// Samples are subtracted by stack and labels, and those that come out as all zeros are dropped; a value that shrank
    /// comes out negative. The result carries the time of `self` and the span between both.
    ///
    /// ```
    /// use greenprof_profiler::profile::{Profile, ValueType};
    ///
    /// let taken = |count: i64| {
    ///     let kind = ValueType::new("requests", "count");
    ///     let mut profile = Profile::new(vec![kind.clone()], kind, 1);
    ///     profile.push(vec![0x1000], vec![count], Vec::new());
    ///     profile
    /// };
    /// assert_eq!(taken(5).since(taken(2)).samples[0].values, [3]);
    /// assert!(taken(5).since(taken(5)).samples.is_empty());
    /// ```
    pub fn since(mut self, before: Profile) -> Profile {
        let elapsed = self.time_nanos.saturating_sub(before.time_nanos);
        let merger = Merger::default().add(before.samples, -1).add(std::mem::take(&mut self.samples), 1);
        self.samples = merger.finish();
        self.samples.retain(|sample| sample.values.iter().any(|&value| value != 0));
        self.duration_nanos = Some(elapsed);
        self
    }
}

/// The address to look up for a raw stack element: itself if it is an exact program counter, else the byte before.
pub fn lookup_address(raw: usize, exact: bool) -> usize {
    if exact { raw } else { raw.saturating_sub(1) }
}

impl Leaf {
    /// How many of the innermost functions are left out.
    pub(crate) fn hidden(self, functions: &[&str]) -> usize {
        match self {
            Self::Whole => 0,
            Self::WithoutAllocator => shown_allocation(functions).start,
            Self::WithoutHooks => shown_contention(functions).start,
        }
    }
}

/// Nanoseconds since 1970 on the wall clock; 0 if the clock is set before that.
pub fn wall_clock_nanos() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| i64::try_from(elapsed.as_nanos()).ok())
        .unwrap_or(0)
}

/// What makes two samples the same one.
type SampleKey = (Vec<usize>, Vec<(String, LabelValue)>);

/// Sums samples by stack and labels, keeping the order in which they first came.
#[derive(Default)]
struct Merger {
    positions: HashMap<SampleKey, usize>,
    values: Vec<Vec<i64>>,
}

impl Merger {
    fn add(mut self, samples: Vec<Sample>, factor: i64) -> Self {
        for Sample { stack, values, labels } in samples {
            let next = self.values.len();
            let position = *self.positions.entry((stack, labels)).or_insert(next);
            if position == next {
                self.values.push(vec![0; values.len()]);
            }
            for (sum, value) in self.values[position].iter_mut().zip(values) {
                // Saturation rather than wrapping: a wrapped sum would turn a huge value into a negative one.
                *sum = sum.saturating_add(value.saturating_mul(factor));
            }
        }
        self
    }

    fn finish(mut self) -> Vec<Sample> {
        let mut keys: Vec<(SampleKey, usize)> = self.positions.into_iter().collect();
        keys.sort_unstable_by_key(|&(_, position)| position);
        keys.into_iter()
            .map(|((stack, labels), position)| Sample {
                stack,
                values: std::mem::take(&mut self.values[position]),
                labels,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str, value: &str) -> (String, LabelValue) {
        (key.to_owned(), LabelValue::Str(value.to_owned()))
    }

    fn profile() -> Profile {
        Profile::new(vec![ValueType::new("goroutine", "count")], ValueType::new("goroutine", "count"), 1)
    }

    #[test]
    fn equal_stacks_with_equal_labels_merge_and_keep_their_order() {
        let mut profile = profile();
        profile.push(vec![3, 2], vec![1], vec![]);
        profile.push(vec![3, 2], vec![10], vec![label("a", "b")]);
        profile.push(vec![3, 2], vec![4], vec![]);
        profile.push(vec![3], vec![7], vec![]);
        profile.merge_equal();
        let values: Vec<i64> = profile.samples.iter().map(|sample| sample.values[0]).collect();
        assert_eq!(values, [5, 10, 7]);
        assert_eq!(profile.samples[1].labels, [label("a", "b")]);
    }

    #[test]
    fn a_delta_drops_what_did_not_change_and_may_be_negative() {
        let mut before = profile();
        before.time_nanos = 1_000;
        before.push(vec![1], vec![3], vec![]);
        before.push(vec![2], vec![3], vec![]);
        before.push(vec![4], vec![1], vec![]);
        let mut after = profile();
        after.default_sample_type = Some("goroutine".into());
        after.time_nanos = 5_000;
        after.push(vec![1], vec![3], vec![]);
        after.push(vec![2], vec![5], vec![]);
        after.push(vec![3], vec![9], vec![]);
        let delta = after.since(before);
        let mut found: Vec<(usize, i64)> = delta.samples.iter().map(|s| (s.stack[0], s.values[0])).collect();
        found.sort_unstable();
        assert_eq!(found, [(2, 2), (3, 9), (4, -1)]);
        assert_eq!(delta.duration_nanos, Some(4_000));
        assert_eq!(delta.time_nanos, 5_000);
        assert_eq!(delta.default_sample_type.as_deref(), Some("goroutine"));
    }

    #[test]
    fn only_an_exact_leaf_is_looked_up_as_it_is() {
        let mut profile = profile();
        assert_eq!(profile.lookup_address(0, 100), 99);
        profile.leaf_is_exact = true;
        assert_eq!(profile.lookup_address(0, 100), 100);
        assert_eq!(profile.lookup_address(1, 100), 99);
        assert_eq!(lookup_address(0, false), 0);
    }
}
