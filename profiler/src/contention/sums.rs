//! What samples stand for, added up.

use crate::records;

/// Contentions and their delay, as estimated from samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) samples: u64,
    pub(super) contentions: f64,
    pub(super) contentions_variance: f64,
    /// Nanoseconds.
    pub(super) delay: f64,
    pub(super) delay_variance: f64,
}

impl records::Sums for Sums {
    const ZERO: Self =
        Self { samples: 0, contentions: 0.0, contentions_variance: 0.0, delay: 0.0, delay_variance: 0.0 };

    fn plus(self, other: Self) -> Self {
        Self {
            samples: self.samples + other.samples,
            contentions: self.contentions + other.contentions,
            contentions_variance: self.contentions_variance + other.contentions_variance,
            delay: self.delay + other.delay,
            delay_variance: self.delay_variance + other.delay_variance,
        }
    }
}

impl Sums {
    /// Adds a sample that stands for `weight` contentions, the inverse of how probable it was.
    #[inline]
    pub(super) fn add(&mut self, weight: f64, delay: u64) {
        let delay = delay as f64;
        self.samples += 1;
        self.contentions += weight;
        self.delay += weight * delay;
        if weight > 1.0 {
            let variance = weight * (weight - 1.0);
            self.contentions_variance += variance;
            self.delay_variance += variance * delay * delay;
        }
    }
}

/// The weight of a wait of `delay` nanoseconds at a block rate, or nothing if it is no sample; `random` is a number from
/// all of 64 bits.
#[inline]
pub(super) fn block_weight(delay: u64, rate: u64, random: impl FnOnce() -> u64) -> Option<f64> {
    // A wait shorter than the clock can tell still is one.
    let delay = delay.max(1);
    if delay >= rate {
        return Some(1.0);
    }
    // The product's upper half is below `rate`, and below `delay` in `delay` of `rate` cases.
    let drawn = (u128::from(random()) * u128::from(rate)) >> 64;
    (drawn < u128::from(delay)).then(|| rate as f64 / delay as f64)
}

/// The weight of an unlock, or of a wait for a lock, at a mutex fraction, or nothing if it is no sample.
#[inline]
pub(super) fn mutex_weight(fraction: u64, random: impl FnOnce() -> u64) -> Option<f64> {
    match fraction {
        0 => None,
        1 => Some(1.0),
        _ => ((u128::from(random()) * u128::from(fraction)) >> 64 == 0).then_some(fraction as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Sums as _;

    #[test]
    fn a_wait_is_drawn_as_often_as_it_is_long() {
        assert_eq!(block_weight(0, 1, || unreachable!()), Some(1.0));
        assert_eq!(block_weight(100, 100, || unreachable!()), Some(1.0));
        let sampled = |delay, rate, random| block_weight(delay, rate, || random);
        // A quarter of all numbers.
        assert_eq!(sampled(25, 100, (1 << 62) - 1), Some(4.0));
        assert_eq!(sampled(25, 100, (1 << 62) + (1 << 57)), None);
        assert_eq!(sampled(0, 2, 0), Some(2.0));
        assert_eq!(sampled(1, u64::MAX, u64::MAX), None);
        assert_eq!(mutex_weight(0, || unreachable!()), None);
        assert_eq!(mutex_weight(1, || unreachable!()), Some(1.0));
        assert_eq!(mutex_weight(4, || (1 << 62) - 1), Some(4.0));
        assert_eq!(mutex_weight(4, || 1 << 62), None);
    }

    #[test]
    fn weights_make_estimates_and_variances() {
        let mut sums = Sums::ZERO;
        sums.add(1.0, 500);
        assert_eq!((sums.contentions, sums.delay, sums.delay_variance), (1.0, 500.0, 0.0));
        sums.add(4.0, 25);
        let both = sums.plus(Sums::ZERO);
        assert_eq!((both.samples, both.contentions, both.delay), (2, 5.0, 600.0));
        assert_eq!((both.contentions_variance, both.delay_variance), (12.0, 12.0 * 625.0));
    }
}
