//! From the tables to figures, and to a profile.

use std::{ops::RangeInclusive, sync::atomic::Ordering};

use greenprof_runtime::{heap, labels::Labels};

use super::{
    instruments::{BLOCK, MUTEX, Samples},
    rates::{block_profile_rate, mutex_profile_fraction},
    sums::Sums,
    waiting,
};
use crate::{
    interval::interval,
    profile::{LabelValue, Leaf, Profile, ValueType},
    records,
};

/// A figure that was estimated from samples.
///
/// ```
/// use greenprof_profiler::contention::Estimate;
///
/// let nothing = Estimate::default() + Estimate::default();
/// assert_eq!(nothing.interval(), 0.0..=0.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its estimated variance; 0 if all was recorded.
    pub variance: f64,
}

impl Estimate {
    /// The nominal 95 % interval of `value`.
    pub fn interval(&self) -> RangeInclusive<f64> {
        interval(self.value, self.variance)
    }
}

impl std::ops::Add for Estimate {
    type Output = Self;

    /// The estimate for both together: samples are independent.
    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, variance: self.variance + other.variance }
    }
}

/// What is known of one stack and one set of labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// Return addresses, innermost first. They begin in the runtime.
    pub stack: Vec<usize>,
    /// Labels of who has waited, or unlocked.
    pub labels: Labels,
    /// Whether these waits are still in progress.
    pub waiting: bool,
    /// Samples that the figures rest on.
    pub samples: u64,
    /// How many contentions.
    pub contentions: Estimate,
    /// Their delay in nanoseconds.
    pub delay: Estimate,
}

/// Everything that was recorded of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Largest delay first.
    pub records: Vec<Record>,
    /// The present block rate or mutex fraction; 0 if nothing is recorded now.
    pub rate: u64,
    /// Samples that were not kept, and so are missing from the figures.
    pub lost: u64,
    /// Samples of which only the innermost 128 frames were kept.
    pub cut: u64,
}

impl Snapshot {
    fn of(samples: &Samples, rate: u64) -> Self {
        if records::forked() {
            return Self::default();
        }
        let record = |copied: records::Copied<Sums>| {
            let sums = copied.sums;
            Record {
                stack: copied.stack,
                labels: copied.labels.labels(),
                waiting: false,
                samples: sums.samples,
                contentions: Estimate { value: sums.contentions, variance: sums.contentions_variance },
                delay: Estimate { value: sums.delay, variance: sums.delay_variance },
            }
        };
        let mut snapshot = Self {
            records: samples.table.copy().into_iter().map(record).collect(),
            rate,
            // Relaxed: as of about now.
            lost: samples.lost.load(Ordering::Relaxed),
            cut: samples.cut.load(Ordering::Relaxed),
        };
        snapshot.sort();
        snapshot
    }

    fn sort(&mut self) {
        self.records.sort_by(|a, b| b.delay.value.total_cmp(&a.delay.value).then_with(|| a.stack.cmp(&b.stack)));
    }

    /// The figures of the records that `counts` together.
    pub fn total(&self, counts: impl Fn(&Record) -> bool) -> (Estimate, Estimate) {
        self.records
            .iter()
            .filter(|record| counts(record))
            .fold(Default::default(), |sum, record| (sum.0 + record.contentions, sum.1 + record.delay))
    }
}

/// The block profile: what was waited for so far, and, unless the rate is 0, the waits in progress. Some hundred
/// nanoseconds for each record and each task.
///
/// The result lies in the untracked arena, so that a profile does not show itself.
///
/// ```
/// use greenprof_profiler::{contention, set_block_profile_rate};
/// use greenprof_runtime::{Runtime, spawn, sync::Chan};
///
/// set_block_profile_rate(1)?; // every wait
/// Runtime::builder().workers(1).build()?.run(|| {
///     let answers = Chan::new();
///     let asked = answers.clone();
///     let task = spawn(move || asked.send(42));
///     assert_eq!(answers.recv(), Some(42)); // one of the two waits for the other
///     task.join().unwrap().unwrap();
/// });
/// let (contentions, delay) = contention::block().total(|record| !record.waiting);
/// assert!(contentions.value >= 1.0 && delay.value > 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn block() -> Snapshot {
    heap::untracked(|| {
        let mut snapshot = Snapshot::of(&BLOCK.waiters, block_profile_rate());
        if snapshot.rate > 0 {
            snapshot.records.extend(waiting::all().into_iter().map(|waiting| Record {
                stack: waiting.stack,
                labels: waiting.labels,
                waiting: true,
                samples: 1,
                contentions: Estimate { value: 1.0, variance: 0.0 },
                delay: Estimate { value: waiting.since.as_nanos() as f64, variance: 0.0 },
            }));
            snapshot.merge();
            snapshot.sort();
        }
        snapshot
    })
}

/// Contentions and nanoseconds of all waits that the block profile has recorded, and that have ended.
pub(crate) fn block_totals() -> (f64, f64) {
    totals(&BLOCK.waiters)
}

/// Contentions and nanoseconds of all unlocks that the mutex profile has recorded.
pub(crate) fn mutex_totals() -> (f64, f64) {
    totals(&MUTEX.unlockers)
}

fn totals(samples: &Samples) -> (f64, f64) {
    let (contentions, delay) = heap::untracked(|| Snapshot::of(samples, 0).total(|_| true));
    (contentions.value, delay.value)
}

impl Snapshot {
    /// Makes one record of waits in progress at the same place.
    fn merge(&mut self) {
        self.records.sort_by(|a, b| (a.waiting, &a.stack).cmp(&(b.waiting, &b.stack)));
        self.records.dedup_by(|record, kept| {
            let same = record.waiting && kept.waiting && record.stack == kept.stack && record.labels == kept.labels;
            if same {
                kept.samples += record.samples;
                kept.contentions = kept.contentions + record.contentions;
                kept.delay = kept.delay + record.delay;
            }
            same
        });
    }
}

/// The mutex profile: unlocks, by who has unlocked.
///
/// ```
/// use greenprof_profiler::{contention, set_mutex_profile_fraction};
/// use greenprof_runtime::{Runtime, spawn, sync::Mutex, yield_now};
///
/// static LOCK: Mutex<u32> = Mutex::new(0);
///
/// set_mutex_profile_fraction(1)?; // every unlock that ends a wait
/// Runtime::builder().workers(1).build()?.run(|| {
///     let held = LOCK.lock();
///     let waits = spawn(|| *LOCK.lock() += 1);
///     while greenprof_runtime::world::states().waiting == 0 {
///         yield_now();
///     }
///     drop(held); // charged to this line
///     waits.join().unwrap();
/// });
/// let (contentions, _) = contention::mutex().total(|_| true);
/// assert_eq!(contentions.value, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn mutex() -> Snapshot {
    heap::untracked(|| Snapshot::of(&MUTEX.unlockers, mutex_profile_fraction()))
}

/// The same contention by who has waited for the lock.
///
/// ```
/// use greenprof_profiler::{contention, set_mutex_profile_fraction};
/// use greenprof_runtime::{Runtime, spawn, sync::Mutex, world, yield_now};
///
/// static LOCK: Mutex<u32> = Mutex::new(0);
///
/// set_mutex_profile_fraction(1)?;
/// Runtime::builder().workers(1).build()?.run(|| {
///     let held = LOCK.lock();
///     let waits = spawn(|| *LOCK.lock() += 1); // charged to this line
///     while world::states().waiting == 0 {
///         yield_now();
///     }
///     drop(held);
///     waits.join().unwrap();
/// });
/// assert_eq!(contention::mutex_waiters().records.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn mutex_waiters() -> Snapshot {
    heap::untracked(|| Snapshot::of(&MUTEX.waiters, mutex_profile_fraction()))
}

/// A snapshot as a profile: `contentions` in `count` and `delay` in `nanoseconds`, as Go has them.
///
/// ```
/// use greenprof_profiler::{contention, profile::encode, symbolize};
///
/// let profile = contention::profile(&contention::mutex());
/// let file = encode::encode(&profile, &mut symbolize::shared().lock())?;
/// assert!(file.starts_with(&[0x1f, 0x8b]), "gzip, as `go tool pprof` reads it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn profile(snapshot: &Snapshot) -> Profile {
    let types = vec![ValueType::new("contentions", "count"), ValueType::new("delay", "nanoseconds")];
    let mut profile = Profile::new(types, ValueType::new("contentions", "count"), 1);
    profile.leaf = Leaf::WithoutHooks;
    for record in &snapshot.records {
        let values = [record.contentions.value, record.delay.value].map(|value| value.round() as i64);
        let labels = labels(record).into_iter().map(|(key, value)| (key, LabelValue::Str(value))).collect();
        profile.push(record.stack.clone(), values.to_vec(), labels);
    }
    profile.comments = remarks(snapshot).into_iter().map(|remark| format!("greenprof {remark}")).collect();
    profile
}

/// A record's labels, and what tells waits in progress from others. A task's own label of that name goes before.
pub(crate) fn labels(record: &Record) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> =
        record.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if record.waiting && record.labels.get("state").is_none() {
        labels.push(("state".to_owned(), "waiting".to_owned()));
        labels.sort();
    }
    labels
}

/// What a profile says about itself: how much it rests on, how sure it is, and what is missing.
fn remarks(snapshot: &Snapshot) -> Vec<String> {
    let ended = snapshot.total(|record| !record.waiting);
    let samples: u64 = snapshot.records.iter().filter(|record| !record.waiting).map(|record| record.samples).sum();
    let waiting: u64 = snapshot.records.iter().filter(|record| record.waiting).map(|record| record.samples).sum();
    let figure = |what: &str, estimate: Estimate, unit: &str| {
        let interval = estimate.interval();
        format!("{what}: {:.0}{unit}, {:.0} to {:.0} (95 %)", estimate.value, interval.start(), interval.end())
    };
    let mut remarks = vec![
        format!("samples: {samples}, at a rate of {}", snapshot.rate),
        figure("contentions", ended.0, ""),
        figure("delay", ended.1, " ns"),
    ];
    if waiting > 0 {
        remarks.push(format!("waits in progress: {waiting}"));
    }
    if snapshot.lost > 0 {
        remarks.push(format!("lost: {} samples without a record", snapshot.lost));
    }
    if snapshot.cut > 0 {
        remarks.push(format!("truncated: {} of {samples} stacks", snapshot.cut));
    }
    let overflows = greenprof_runtime::labels::overflows();
    if overflows > 0 {
        remarks.push(format!("labels: {overflows} sets were too many, and are shown as overflow=label sets"));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stack: usize, delay: f64, waiting: bool) -> Record {
        Record {
            stack: vec![stack],
            labels: Labels::default(),
            waiting,
            samples: 1,
            contentions: Estimate { value: 1.0, variance: 4.0 },
            delay: Estimate { value: delay, variance: 100.0 },
        }
    }

    #[test]
    fn waits_in_progress_are_one_record_and_apart() {
        let records = vec![record(1, 10.0, false), record(1, 7.0, true), record(2, 90.0, false), record(1, 5.0, true)];
        let mut snapshot = Snapshot { records, rate: 1, lost: 2, cut: 1 };
        snapshot.merge();
        snapshot.sort();
        let found: Vec<_> = snapshot.records.iter().map(|r| (r.stack[0], r.delay.value, r.waiting)).collect();
        assert_eq!(found, [(2, 90.0, false), (1, 12.0, true), (1, 10.0, false)]);
        assert_eq!(snapshot.total(|record| !record.waiting).1.value, 100.0);

        let profile = profile(&snapshot);
        assert_eq!(profile.samples[1].values, [2, 12]);
        assert_eq!(profile.samples[1].labels, [("state".into(), LabelValue::Str("waiting".into()))]);
        assert!(profile.samples[2].labels.is_empty());
        assert_eq!(
            profile.comments,
            [
                "greenprof samples: 2, at a rate of 1",
                "greenprof contentions: 2, 0 to 19 (95 %)",
                "greenprof delay: 100 ns, 76 to 132 (95 %)",
                "greenprof waits in progress: 2",
                "greenprof lost: 2 samples without a record",
                "greenprof truncated: 1 of 2 stacks",
            ]
        );
    }
}
