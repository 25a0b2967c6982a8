//! Medians and their intervals, without assumptions on how the samples are distributed.
//!
//! Timings on a shared machine have a long tail on one side, so means and standard deviations say little. A median's
//! confidence interval needs nothing but independent samples: how many of them lie below the true median is a fair
//! coin's number of heads, so the interval goes from one order statistic to another, and the binomial distribution says
//! from which.

use serde::Serialize;

/// The least number of samples for which [`Summary::of`] can give an interval.
pub const FEWEST: usize = 6;

/// How sure an interval is to hold the true median, at least.
pub const CONFIDENCE: f64 = 0.95;

/// A median and what can be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    /// The confidence interval of the median: all of the samples' range if there are fewer than [`FEWEST`].
    pub low: f64,
    pub high: f64,
    /// Where the middle half of the samples lies.
    pub first_quartile: f64,
    pub third_quartile: f64,
}

impl Summary {
    /// Summarizes samples, of which there must be one at least.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let skipped = skipped(sorted.len());
        Self {
            median: quantile(&sorted, 0.5),
            low: sorted[skipped],
            high: sorted[sorted.len() - 1 - skipped],
            first_quartile: quantile(&sorted, 0.25),
            third_quartile: quantile(&sorted, 0.75),
        }
    }

    /// Whether the interval leaves a value out, so that the median differs from it by more than noise.
    pub fn excludes(&self, value: f64) -> bool {
        value < self.low || value > self.high
    }
}

/// A mean and its interval by Student's distribution: for estimates, of which it is asked whether they are right on average. Their errors are
/// often lopsided, so that a median would not be where the truth is even if the mean is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    pub mean: f64,
    /// The confidence interval of the mean: the mean alone if there is one sample.
    pub low: f64,
    pub high: f64,
}

impl Mean {
    /// Of samples, of which there must be one at least.
    pub fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        if samples.len() == 1 {
            return Self { mean, low: mean, high: mean };
        }
        let variance = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let far = students_quantile(samples.len() - 1) * (variance / count).sqrt();
        Self { mean, low: mean - far, high: mean + far }
    }
}

/// What 95 % of Student's distribution with so many degrees of freedom (one at least) do not exceed in size.
fn students_quantile(degrees: usize) -> f64 {
    const FEW: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    const NORMAL: f64 = 1.960;
    // From there on the first terms of the expansion in 1 / degrees are within a thousandth.
    let expanded = |degrees: f64| {
        let z = NORMAL;
        z + (z.powi(3) + z) / (4.0 * degrees)
            + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * degrees.powi(2))
    };
    FEW.get(degrees - 1).copied().unwrap_or_else(|| expanded(degrees as f64))
}

/// The quantile `q` of samples, of which there must be one at least.
pub fn quantile_of(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, q)
}

/// The quantile `q` of sorted samples, interpolated between neighbours.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

/// How many samples can be left out at each end such that the rest covers the median with [`CONFIDENCE`].
///
/// The interval misses when at most `skipped` of `n` fair coins show heads, or at most `skipped` show tails.
fn skipped(n: usize) -> usize {
    let mut probability = 0.5_f64.powi(n as i32); // of exactly 0 heads
    let mut below = probability;
    let mut skipped = 0;
    while skipped + 1 < n.div_ceil(2) {
        probability *= (n - skipped) as f64 / (skipped + 1) as f64;
        below += probability;
        if 2.0 * below > 1.0 - CONFIDENCE {
            break;
        }
        skipped += 1;
    }
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        let summary = Summary::of(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((summary.median, summary.first_quartile, summary.third_quartile), (3.0, 2.0, 4.0));
        assert_eq!(Summary::of(&[1.0, 2.0]).median, 1.5);
        assert_eq!(
            Summary::of(&[7.0]),
            Summary { median: 7.0, low: 7.0, high: 7.0, first_quartile: 7.0, third_quartile: 7.0 }
        );
    }

    /// The ranks that tables of the sign test give for 95 %.
    #[test]
    fn intervals_have_the_ranks_of_the_sign_test() {
        for (n, rank) in [(6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18)] {
            let samples: Vec<f64> = (1..=n).map(f64::from).collect();
            let summary = Summary::of(&samples);
            assert_eq!((summary.low, summary.high), (f64::from(rank), f64::from(n + 1 - rank)), "of {n}");
        }
    }

    #[test]
    fn means_have_the_intervals_of_tables() {
        for (degrees, quantile) in [(1, 12.706), (8, 2.306), (11, 2.201), (15, 2.131), (24, 2.064), (120, 1.980)] {
            let ours = students_quantile(degrees);
            assert!((ours / quantile - 1.0).abs() < 0.001, "{degrees}: {ours} for {quantile}");
        }
        let mean = Mean::of(&[1.0, 2.0, 3.0]);
        assert!((mean.mean - 2.0).abs() < 1e-12 && (mean.high - 2.0 - 4.303 / 3.0_f64.sqrt()).abs() < 1e-9, "{mean:?}");
        assert_eq!(Mean::of(&[5.0]), Mean { mean: 5.0, low: 5.0, high: 5.0 });
    }

    #[test]
    fn few_samples_give_their_whole_range() {
        let summary = Summary::of(&[1.0, 3.0, 2.0]);
        assert_eq!((summary.low, summary.high), (1.0, 3.0));
        assert!(!summary.excludes(1.5));
        assert!(summary.excludes(0.9));
    }

    /// Of many simulated experiments, the interval misses the true median in a twentieth at most.
    #[test]
    fn intervals_cover_the_median() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let experiments = 4000;
        let missed = (0..experiments)
            .filter(|_| {
                // Skewed as timings are; the median of u² for uniform u is a quarter.
                let samples: Vec<f64> = (0..15).map(|_| random().powi(2)).collect();
                Summary::of(&samples).excludes(0.25)
            })
            .count();
        assert!(missed < experiments / 20, "{missed} of {experiments} intervals miss");
        assert!(missed > experiments / 50, "{missed} of {experiments} intervals miss: they are too wide");
    }
}
