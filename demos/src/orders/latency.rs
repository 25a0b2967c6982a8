//! How long orders take, from when they are sent in until they are handled.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets for each doubling: a time is known to about one part in a hundred.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.ilog2();
/// Doublings above those of the first bucket's width: up to an hour.
const DOUBLINGS: usize = 36;
const BUCKETS: usize = STEPS * (DOUBLINGS + 1);

/// The times of all orders so far.
pub(super) struct Latencies(Box<[AtomicU64]>);

impl Latencies {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn record(&self, time: Duration) {
        // Relaxed: only the sum matters.
        self.0[bucket(time.as_nanos() as u64)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Times {
        Times(self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }
}

/// How many orders took how long.
///
/// ```
/// use greenprof_demos::orders::Service;
///
/// let service = Service::start(Some(1))?;
/// let before = service.times();
/// while service.counts().total() < 500 {
///     std::thread::sleep(std::time::Duration::from_millis(1));
/// }
/// let times = service.times().since(&before);
/// assert!(times.count() > 0 && times.quantile(0.5) <= times.quantile(0.99));
/// service.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times(Vec<u64>);

impl Default for Times {
    /// None.
    fn default() -> Self {
        Self(vec![0; BUCKETS])
    }
}

impl Times {
    /// Those that came after `before` was taken.
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, before)| now - before).collect())
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(sum, other)| *sum += other);
    }

    /// How many orders.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What this share of the orders did not exceed, to one part in a hundred; nothing took no time.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        Duration::from_nanos(found.map_or(0, middle))
    }
}

/// The bucket of so many nanoseconds: as they are below `STEPS`, and above that by their highest bits.
fn bucket(nanoseconds: u64) -> usize {
    let doublings = nanoseconds.checked_ilog2().unwrap_or(0).saturating_sub(STEP_BITS);
    let at = STEPS * doublings as usize + (nanoseconds >> doublings) as usize;
    at.min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> u64 {
    let doublings = (bucket / STEPS).saturating_sub(1);
    let low = ((bucket - STEPS * doublings) as u64) << doublings;
    low + (1 << doublings) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_known_to_one_part_in_a_hundred() {
        let mut before = 0;
        for nanoseconds in (0..2000).chain((0..2000).map(|n| 2000 + n * n * 750)) {
            let at = bucket(nanoseconds);
            assert!(at >= before, "{nanoseconds}");
            before = at;
            let error = middle(at).abs_diff(nanoseconds);
            assert!(error * 100 <= nanoseconds, "{nanoseconds}: {}", middle(at));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_times_in_between() {
        let latencies = Latencies::new();
        latencies.record(Duration::from_secs(1));
        let before = latencies.read();
        (1..=1000).for_each(|us| latencies.record(Duration::from_micros(us)));
        let times = latencies.read().since(&before);
        assert_eq!(times.count(), 1000);
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = times.quantile(share).as_secs_f64() * 1e6;
            assert!((found / expected - 1.0).abs() < 0.01, "{share}: {found}");
        }
        let mut twice = times.clone();
        twice.add(&times);
        assert_eq!((twice.count(), twice.quantile(0.5)), (2000, times.quantile(0.5)));
        assert_eq!(Times::default().quantile(0.99), Duration::ZERO);
    }
}
