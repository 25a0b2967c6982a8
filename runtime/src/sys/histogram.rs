//! How durations are distributed, in buckets of plain atomics: for what is counted where nothing may lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Linear steps within each power of two.
const STEPS: usize = 4;
/// The power of two where the first bucket ends: below 1.024 us nothing is told apart.
const FIRST: u32 = 10;
/// Powers of two: up to 2^36 ns, about 69 s.
const POWERS: usize = 26;
const BUCKETS: usize = POWERS * STEPS + 2;

/// Counts of durations, written by anybody.
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    /// The sum of all, in nanoseconds.
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    /// Counts a duration. Neither locks nor allocates.
    pub(crate) fn add(&self, time: Duration) {
        // Relaxed, both: a statistic, whose parts need not agree.
        self.counts[bucket(time)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Distribution {
        Distribution {
            counts: std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum.load(Ordering::Relaxed)),
        }
    }
}

fn bucket(time: Duration) -> usize {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let power = nanoseconds.max(1).ilog2();
    if power < FIRST {
        return 0;
    }
    let step = (nanoseconds >> (power - 2)) as usize % STEPS;
    (1 + (power - FIRST) as usize * STEPS + step).min(BUCKETS - 1)
}

/// The exclusive upper bound of a bucket; the last one has none.
fn bound(bucket: usize) -> Duration {
    if bucket == BUCKETS - 1 {
        return Duration::MAX;
    }
    let (power, step) = (bucket.saturating_sub(1) / STEPS, bucket.saturating_sub(1) % STEPS);
    let base = 1_u64 << (FIRST as usize + power);
    Duration::from_nanos(if bucket == 0 { base } else { base + base / STEPS as u64 * (step as u64 + 1) })
}

/// How durations are distributed: the number of times per bucket. Buckets are a quarter of a power of two wide.
#[derive(Clone, Debug)]
pub struct Distribution {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Distribution {
    /// The buckets in ascending order: the exclusive upper bound ([`Duration::MAX`] for the last), and the count.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.counts.iter().enumerate().map(|(i, count)| (bound(i), *count))
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was counted after `before`, an earlier state of the same.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|i| self.counts[i].saturating_sub(before.counts[i])),
            sum: self.sum.saturating_sub(before.sum),
        }
    }

    /// All durations together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The upper bound of the bucket in which the quantile lies, 0.5 for the median; too high by less than a quarter. Nothing
    /// if there are no durations.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets()
            .find(|(_, count)| {
                seen += count;
                seen >= rank
            })
            .map(|(bound, _)| bound)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_below_its_bound_and_not_below_the_one_before() {
        let mut times: Vec<u64> =
            (0..37).flat_map(|power| [(1_u64 << power) - 1, 1 << power, 3 << power >> 1]).collect();
        times.extend([1_279, 1_280, 1_281, u64::MAX]);
        for time in times.into_iter().map(Duration::from_nanos) {
            let at = bucket(time);
            assert!(time < bound(at), "{time:?}");
            assert!(at == 0 || bound(at - 1) <= time, "{time:?}");
        }
    }

    #[test]
    fn quantiles() {
        let histogram = Histogram::new();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for microseconds in 1..=1000 {
            histogram.add(Duration::from_micros(microseconds));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 1000);
        assert_eq!(snapshot.sum(), Duration::from_micros(500_500));
        histogram.add(Duration::from_secs(1));
        let recent = histogram.snapshot().since(&snapshot);
        assert_eq!((recent.count(), recent.sum()), (1, Duration::from_secs(1)));
        for (quantile, exact) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = snapshot.quantile(quantile).unwrap();
            let exact = Duration::from_micros(exact);
            assert!(found >= exact && found < exact * 5 / 4, "{quantile}: {found:?}");
        }
    }
}
