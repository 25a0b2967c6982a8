//! Intervals of figures that were estimated from samples.
//!
//! A figure's variance is estimated from the same samples, so who has met too few of them estimates too low and believes to
//! be too sure: the interval of plus and minus so many standard deviations then misses the truth mostly to one side. Here a
//! value is in the interval if the estimate is at most so many standard deviations of *that value* away from it, where the
//! variance grows with the value as it does for a count (Wilson, 1927). For many samples both are the same. One of a few dozen
//! with unequal weights is where they differ.

use std::ops::RangeInclusive;

/// Two sides of a normal distribution.
const NINETY_FIVE: f64 = 1.96;

/// The nominal 95 % interval of what was estimated to be `value`, with the estimated variance.
pub(crate) fn interval(value: f64, variance: f64) -> RangeInclusive<f64> {
    if value <= 0.0 {
        return 0.0..=0.0;
    }
    let squared = NINETY_FIVE * NINETY_FIVE * variance;
    let shift = squared / (2.0 * value);
    let half = (squared + shift * shift).sqrt();
    // Not below zero but for rounding.
    (value + shift - half).max(0.0)..=value + shift + half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_ends_are_where_the_estimate_is_so_many_of_their_deviations_away() {
        for (value, variance) in [(10.0, 10.0), (10_000.0, 10_000.0), (300.0, 51_000.0), (1.0, 1e6)] {
            let interval = interval(value, variance);
            for end in [*interval.start(), *interval.end()] {
                let deviation = (variance * end / value).sqrt();
                assert!(((value - end).abs() / deviation - NINETY_FIVE).abs() < 1e-3, "{value} {variance}: {end}");
            }
            assert!(interval.contains(&value) && *interval.start() >= 0.0);
        }
    }

    #[test]
    fn what_is_known_has_no_width() {
        assert_eq!(interval(7.0, 0.0), 7.0..=7.0);
        assert_eq!(interval(0.0, 0.0), 0.0..=0.0);
    }

    #[test]
    fn many_samples_make_it_symmetric() {
        let interval = interval(1e6, 1e6);
        assert!((1e6 - interval.start() - 1960.0).abs() < 2.0 && (interval.end() - 1e6 - 1960.0).abs() < 2.0);
    }
}
