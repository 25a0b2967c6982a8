//! What a sample stands for, in fixed point, so that a free takes away exactly what its allocation has added.

/// Bits behind the point: a weight is rounded by at most half a millionth.
const FRACTION: u32 = 20;
const ONE: u64 = 1 << FRACTION;
/// Weights end here: with the highest rate, 2^40 bytes, an allocation of one byte stands for that many.
const LARGEST: f64 = (1u64 << 60) as f64;

/// How many allocations a sampled one stands for: the inverse of how probable the sample was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight(pub(super) u64);

impl Weight {
    /// Of an allocation of so many bytes, sampled at a mean distance of `rate` bytes: `1 / (1 - exp(-requested /
    /// rate))`.
    #[inline]
    pub(super) fn of(requested: usize, rate: u64) -> Self {
        if rate <= 1 {
            return Self(ONE);
        }
        let probability = -(-(requested.max(1) as f64) / rate as f64).exp_m1();
        Self((ONE as f64 / probability).min(LARGEST).round() as u64)
    }
}

/// Samples added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// How many.
    pub(super) samples: u64,
    /// Their weights.
    weights: u128,
    /// `w * (w - 1)` of each: the variance that it adds to the estimated number of objects (Horvitz and Thompson, 1952;
    /// the samples are independent).
    variance: u128,
}

impl Sum {
    pub(super) const ZERO: Self = Self { samples: 0, weights: 0, variance: 0 };

    #[inline]
    pub(super) fn add(&mut self, Weight(weight): Weight) {
        self.samples += 1;
        self.weights += u128::from(weight);
        self.variance = self.variance.wrapping_add(excess(weight));
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            samples: self.samples + other.samples,
            weights: self.weights + other.weights,
            variance: self.variance.wrapping_add(other.variance),
        }
    }

    /// What is left without the samples of `other`, all of which are among these.
    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            samples: self.samples - other.samples,
            weights: self.weights - other.weights,
            variance: self.variance.wrapping_sub(other.variance),
        }
    }

    /// The estimated number of objects.
    pub(super) fn objects(self) -> f64 {
        self.weights as f64 / ONE as f64
    }

    /// The estimated variance of that number.
    pub(super) fn variance(self) -> f64 {
        self.variance as f64 / ONE as f64
    }
}

fn excess(weight: u64) -> u128 {
    (u128::from(weight) * u128::from(weight.saturating_sub(ONE))) >> FRACTION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_inverse_of_the_probability() {
        assert_eq!(Weight::of(16, 1), Weight(ONE));
        assert_eq!(Weight::of(0, 0), Weight(ONE));
        let weight = |requested, rate| Weight::of(requested, rate).0 as f64 / ONE as f64;
        assert!((weight(512 << 10, 512 << 10) - 1.0 / (1.0 - (-1.0_f64).exp())).abs() < 1e-5);
        assert!((weight(1, 1 << 20) / (1 << 20) as f64 - 1.0).abs() < 1e-5);
        assert!((weight(1 << 30, 512 << 10) - 1.0).abs() < 1e-5);
        assert!(weight(1, 1 << 40) > 1e12);
    }

    #[test]
    fn what_is_freed_leaves_nothing() {
        let mut allocated = Sum::ZERO;
        let mut freed = Sum::ZERO;
        let weights: Vec<Weight> = (1..500).map(|n| Weight::of(n * 37, 4096)).collect();
        weights.iter().for_each(|weight| allocated.add(*weight));
        weights.iter().rev().for_each(|weight| freed.add(*weight));
        assert_eq!(allocated.minus(freed), Sum::ZERO);
        let mut one = Sum::ZERO;
        one.add(Weight::of(100, 1));
        assert_eq!((one.objects(), one.variance()), (1.0, 0.0));
        let mut rare = Sum::ZERO;
        rare.add(Weight(8 << FRACTION));
        assert_eq!((rare.samples, rare.objects(), rare.variance()), (1, 8.0, 56.0));
    }
}
