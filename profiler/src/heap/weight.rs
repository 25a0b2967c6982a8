//! What a sample stands for. It is added up in fixed point, so that a free takes away exactly what its allocation has added.

/// Bits behind the point.
const FRACTION: u32 = 20;
const ONE: u64 = 1 << FRACTION;
/// Weights end here: with the highest rate, 2^40 bytes, an allocation of one byte stands for that many.
const LARGEST: f32 = (1u64 << 40) as f32;

/// How many allocations a sampled one stands for: the inverse of how probable the sample was, rounded by at most half a
/// millionth. At least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight(f32);

impl Weight {
    /// Of an allocation of so many bytes, sampled at a mean distance of `rate` bytes: `1 / (1 - exp(-requested /
    /// rate))`.
    #[inline]
    pub(super) fn of(requested: usize, rate: u64) -> Self {
        if rate <= 1 {
            return Self(1.0);
        }
        let probability = -(-(requested.max(1) as f64) / rate as f64).exp_m1();
        Self((probability.recip() as f32).min(LARGEST))
    }

    /// The weight as a word that is not 0.
    pub(super) fn bits(self) -> u32 {
        self.0.to_bits()
    }

    /// The weight that gives these bits; nothing for 0.
    pub(super) fn from_bits(bits: u32) -> Option<Self> {
        (bits != 0).then(|| Self(f32::from_bits(bits)))
    }

    fn fixed(self) -> u64 {
        (f64::from(self.0) * ONE as f64).round() as u64
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
    pub(super) fn add(&mut self, weight: Weight) {
        let weight = weight.fixed();
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
        assert_eq!(Weight::of(16, 1), Weight(1.0));
        assert_eq!(Weight::of(0, 0), Weight(1.0));
        let weight = |requested, rate| Weight::of(requested, rate).fixed() as f64 / ONE as f64;
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
        rare.add(Weight(8.0));
        assert_eq!((rare.samples, rare.objects(), rare.variance()), (1, 8.0, 56.0));
    }
}
