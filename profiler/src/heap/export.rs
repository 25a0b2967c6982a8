//! From the tables to figures, and to a profile.

use std::ops::RangeInclusive;

use greenprof_runtime::{
    heap::{self, sampling},
    labels::Labels,
};

use super::{hook, weight::Sum};
use crate::{
    interval::interval,
    profile::{LabelValue, Leaf, Profile, ValueType},
    records,
};

/// How much was allocated or is in use, as estimated from samples.
///
/// ```
/// use greenprof_profiler::heap::Estimate;
///
/// let nothing: Estimate = [].into_iter().sum();
/// assert_eq!((nothing.bytes, nothing.samples), (0.0, 0));
/// assert!(nothing.bytes_interval().contains(&0.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// Samples that it rests on.
    pub samples: u64,
    /// Objects.
    pub objects: f64,
    /// Bytes of their blocks.
    pub bytes: f64,
    /// The estimated variance of `objects`: the sum of `w * (w - 1)` over the samples' weights `w` (Horvitz and
    /// Thompson).
    pub objects_variance: f64,
    /// The estimated variance of `bytes`: the sum of `w * (w - 1) * size^2`.
    pub bytes_variance: f64,
}

impl Estimate {
    fn new(sum: Sum, size: usize) -> Self {
        let size = size as f64;
        Self {
            samples: sum.samples,
            objects: sum.objects(),
            bytes: sum.objects() * size,
            objects_variance: sum.variance(),
            bytes_variance: sum.variance() * size * size,
        }
    }

    /// The nominal 95 % interval of `objects`. Nothing is known of what has no samples: its interval is 0.
    pub fn objects_interval(&self) -> RangeInclusive<f64> {
        interval(self.objects, self.objects_variance)
    }

    /// The nominal 95 % interval of `bytes`.
    pub fn bytes_interval(&self) -> RangeInclusive<f64> {
        interval(self.bytes, self.bytes_variance)
    }
}

impl std::ops::Add for Estimate {
    type Output = Self;

    /// The estimate for both together: samples are independent.
    fn add(self, other: Self) -> Self {
        Self {
            samples: self.samples + other.samples,
            objects: self.objects + other.objects,
            bytes: self.bytes + other.bytes,
            objects_variance: self.objects_variance + other.objects_variance,
            bytes_variance: self.bytes_variance + other.bytes_variance,
        }
    }
}

impl std::iter::Sum for Estimate {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| sum + one)
    }
}

/// What is known of one call site, one size of block, and one set of labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// Return addresses, innermost first. They begin in the allocator.
    pub stack: Vec<usize>,
    /// Labels of the tasks that allocated.
    pub labels: Labels,
    /// Bytes of a block.
    pub size: usize,
    /// Since the start.
    pub allocated: Estimate,
    /// Now.
    pub in_use: Estimate,
}

/// Everything that was recorded.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// In no particular order. Also those of which nothing is in use.
    pub records: Vec<Record>,
    /// The present mean number of bytes between two samples.
    pub rate: u64,
    /// Samples that were not kept, and so are missing from the figures.
    pub lost: u64,
    /// Samples of which only the innermost 128 frames were kept.
    pub cut: u64,
}

impl Snapshot {
    /// The figures of all records together.
    pub fn total(&self) -> (Estimate, Estimate) {
        let of = |which: fn(&Record) -> Estimate| self.records.iter().map(which).sum();
        (of(|record| record.allocated), of(|record| record.in_use))
    }

    /// What a profile says about itself: how much it rests on, how sure it is, and what is missing.
    pub(super) fn remarks(&self) -> Vec<String> {
        let (allocated, in_use) = self.total();
        let bytes = |what: &str, estimate: Estimate| {
            let interval = estimate.bytes_interval();
            format!("{what}: {:.0} bytes, {:.0} to {:.0} (95 %)", estimate.bytes, interval.start(), interval.end())
        };
        let mut remarks = vec![
            format!(
                "samples: {} allocations, {} of them in use, at a mean of {} bytes",
                allocated.samples, in_use.samples, self.rate
            ),
            bytes("in use", in_use),
            bytes("allocated", allocated),
        ];
        if self.lost > 0 {
            remarks.push(format!("lost: {} samples without a record", self.lost));
        }
        if self.cut > 0 {
            remarks.push(format!("truncated: {} of {} stacks", self.cut, allocated.samples));
        }
        remarks
    }
}

/// Everything that was recorded so far. A few hundred nanoseconds for each record; allocations at the same place may
/// wait some microseconds meanwhile. Each record is consistent; they are not of one moment. Empty in a forked child.
///
/// The result lies in the untracked arena, so that a profile does not show itself.
///
/// ```standalone_crate
/// use greenprof_profiler::heap;
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// heap::start();
/// let kept: Vec<Vec<u8>> = (0..32).map(|_| vec![0; 1 << 20]).collect();
/// let (_, in_use) = heap::snapshot().total();
/// let interval = in_use.bytes_interval();
/// println!("{:.0} bytes in use, {:.0} to {:.0}", in_use.bytes, interval.start(), interval.end());
/// assert!(in_use.samples > 0);
/// drop(kept);
/// ```
pub fn snapshot() -> Snapshot {
    if records::forked() {
        return Snapshot::default();
    }
    heap::untracked(|| {
        let records = hook::TABLE.copy().into_iter().map(|copied| Record {
            labels: copied.labels.labels(),
            allocated: Estimate::new(copied.sums.allocated, copied.kind),
            in_use: Estimate::new(copied.sums.allocated.minus(copied.sums.freed), copied.kind),
            stack: copied.stack,
            size: copied.kind,
        });
        let (records, rate) = (records.collect(), sampling::rate());
        Snapshot { records, rate, lost: super::lost(), cut: hook::cut() }
    })
}

/// The heap profile: `alloc_objects`, `alloc_space`, `inuse_objects` and `inuse_space`, as Go has them; shown first is
/// the last one. The numeric label `bytes` is a block's size.
///
/// ```standalone_crate
/// use greenprof_profiler::heap;
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// heap::start();
/// let kept: Vec<Vec<u8>> = (0..32).map(|_| vec![0; 1 << 20]).collect();
/// // Each of 1 MiB is sampled with a probability of 86 %.
/// assert!(!heap::profile().samples.is_empty());
/// drop(kept);
/// ```
pub fn profile() -> Profile {
    heap::untracked(|| build(&snapshot(), "inuse_space"))
}

pub(super) fn build(snapshot: &Snapshot, shown_first: &'static str) -> Profile {
    let types =
        [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];
    let types = types.map(|(kind, unit)| ValueType::new(kind, unit)).to_vec();
    let rate = i64::try_from(snapshot.rate).unwrap_or(i64::MAX);
    let mut profile = Profile::new(types, ValueType::new("space", "bytes"), rate);
    profile.default_sample_type = Some(shown_first.into());
    profile.leaf = Leaf::WithoutAllocator;
    for record in &snapshot.records {
        let Record { allocated, in_use, .. } = record;
        let values = [allocated.objects, allocated.bytes, in_use.objects, in_use.bytes];
        let labels = record.labels.iter().map(|(key, value)| (key.to_owned(), LabelValue::Str(value.to_owned())));
        let bytes = LabelValue::Num { value: record.size as i64, unit: None };
        let labels = labels.chain([("bytes".to_owned(), bytes)]).collect();
        profile.push(record.stack.clone(), values.map(|value| value.round() as i64).to_vec(), labels);
    }
    // The order of a hash table is nobody's business.
    profile.samples.sort_by(|a, b| {
        b.values[3].cmp(&a.values[3]).then_with(|| (b.values[1], &a.stack).cmp(&(a.values[1], &b.stack)))
    });
    profile.comments = snapshot.remarks().into_iter().map(|remark| format!("greenprof {remark}")).collect();
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(samples: u64, objects: f64, size: f64) -> Estimate {
        let variance = objects * 2.0;
        Estimate {
            samples,
            objects,
            bytes: objects * size,
            objects_variance: variance,
            bytes_variance: variance * size * size,
        }
    }

    fn snapshot() -> Snapshot {
        let record = |stack: &[usize], size: usize, allocated: f64, in_use: f64| Record {
            stack: stack.to_vec(),
            labels: Labels::default(),
            size,
            allocated: estimate(allocated as u64, allocated, size as f64),
            in_use: estimate(in_use as u64, in_use, size as f64),
        };
        let records = vec![record(&[1], 16, 100.0, 0.0), record(&[2], 32, 10.4, 10.4), record(&[3], 16, 200.0, 0.0)];
        Snapshot { records, rate: 512 << 10, lost: 0, cut: 0 }
    }

    #[test]
    fn a_profile_has_gos_types_and_the_largest_first() {
        let profile = build(&snapshot(), "alloc_space");
        let types: Vec<_> = profile.sample_types.iter().map(|t| (&*t.kind, &*t.unit)).collect();
        assert_eq!(
            types,
            [
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes")
            ]
        );
        assert_eq!(
            (&*profile.period_type.kind, &*profile.period_type.unit, profile.period),
            ("space", "bytes", 524_288)
        );
        assert_eq!(profile.default_sample_type.as_deref(), Some("alloc_space"));
        let samples: Vec<_> = profile.samples.iter().map(|s| (s.stack[0], s.values.clone())).collect();
        assert_eq!(samples, [(2, vec![10, 333, 10, 333]), (3, vec![200, 3200, 0, 0]), (1, vec![100, 1600, 0, 0])]);
        assert_eq!(profile.samples[0].labels, [("bytes".into(), LabelValue::Num { value: 32, unit: None })]);
        assert_eq!(profile.comments.len(), 3);
    }

    #[test]
    fn a_profile_says_what_is_missing() {
        let missing = Snapshot { lost: 3, cut: 2, ..snapshot() }.remarks();
        assert!(
            missing[3].starts_with("lost: 3 samples") && missing[4].starts_with("truncated: 2 of 310"),
            "{missing:?}"
        );
        let total = snapshot().total();
        assert_eq!((total.0.samples, total.1.samples), (310, 10));
    }
}
