//! How right the instruments are: what they say of programs of which the truth is known.
//!
//! The truth comes from the program itself, by another way than the instrument's: the CPU clock of the thread that works, a
//! count of what was allocated, an instrument that adds up every wait without sampling, a clock that is read before and after. Each module
//! has the programs and the arithmetic; the black-box tests assert on the same, and [`measure`] makes rows of it.
//!
//! A sample of a case repeats its program several times. `x` is then the mean estimate, `x, true` the mean truth, and `x, error`
//! how far a single estimate is from its truth: the root of the mean square, as a share of the truth.

pub mod contention;
pub mod cpu;
pub mod heap;
pub mod pprof;
pub mod trace;

use crate::{
    case::{Case, Effort},
    values::Values,
};

/// The name of the value that says what an estimate should be.
pub fn truth_of(estimate: &str) -> String {
    format!("{estimate}, true")
}

/// The name of the value that says how far a single estimate is off.
pub fn error_of(estimate: &str) -> String {
    format!("{estimate}, error")
}

/// Runs a case in this process; nothing if it is not one of this module's.
///
/// # Errors
/// If an instrument cannot be started, or the program cannot.
pub fn measure(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    Ok(Some(match case {
        Case::AccuracyShares => cpu::shares(workers, effort)?,
        Case::AccuracyFunctions => cpu::functions(workers, effort)?,
        Case::AccuracyShortTasks => cpu::short_tasks(workers, effort)?,
        Case::AccuracyMigrating => cpu::migrating(workers, effort)?,
        Case::AccuracyRates => cpu::rates(workers, effort)?,
        Case::AccuracyHeap => heap::estimates(effort),
        Case::AccuracyBlock => contention::block_estimates(workers, effort)?,
        Case::AccuracyMutex => contention::mutex_estimates(workers, effort)?,
        Case::AccuracyTrace => trace::times(effort)?,
        _ => return Ok(None),
    }))
}

/// Estimates of one thing beside the truth, as the program is repeated.
#[derive(Clone, Debug, Default)]
pub struct Estimates(Vec<(f64, f64)>);

impl Estimates {
    /// One more estimate, and what it should have been.
    pub fn add(&mut self, estimate: f64, truth: f64) {
        self.0.push((estimate, truth));
    }

    /// The mean estimate.
    pub fn mean(&self) -> f64 {
        self.0.iter().map(|pair| pair.0).sum::<f64>() / self.0.len() as f64
    }

    /// The mean truth.
    pub fn truth(&self) -> f64 {
        self.0.iter().map(|pair| pair.1).sum::<f64>() / self.0.len() as f64
    }

    /// The root of the mean square of what each is off, as a share of its truth.
    pub fn error(&self) -> f64 {
        let squares = self.0.iter().map(|(estimate, truth)| (estimate / truth - 1.0).powi(2));
        (squares.sum::<f64>() / self.0.len() as f64).sqrt()
    }

    /// Adds the three values.
    pub fn put(&self, name: &str, values: &mut Values) {
        values.insert(name.to_owned(), self.mean());
        values.insert(truth_of(name), self.truth());
        values.insert(error_of(name), self.error());
    }
}

/// The chi-square statistic of counts against the shares that they should have.
pub fn chi_square(counts: &[f64], shares: &[f64]) -> f64 {
    let total: f64 = counts.iter().sum();
    counts.iter().zip(shares).map(|(count, share)| (count - total * share).powi(2) / (total * share)).sum()
}

/// What a chi-square statistic exceeds in one case of 20 if nothing is wrong, by the approximation of Wilson and Hilferty, which is
/// within three in a hundred of tables.
pub fn chi_square_limit(degrees: f64) -> f64 {
    const Z: f64 = 1.6449;
    let part = 2.0 / (9.0 * degrees);
    degrees * (1.0 - part + Z * part.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_summed_up() {
        let mut estimates = Estimates::default();
        estimates.add(11.0, 10.0);
        estimates.add(18.0, 20.0);
        assert_eq!((estimates.mean(), estimates.truth()), (14.5, 15.0));
        assert!((estimates.error() - 0.1).abs() < 1e-12);
        let mut values = Values::new();
        estimates.put("x", &mut values);
        assert_eq!((values["x"], values["x, true"]), (14.5, 15.0));
    }

    #[test]
    fn chi_squares_are_those_of_tables() {
        assert_eq!(chi_square(&[80.0, 20.0], &[0.8, 0.2]), 0.0);
        assert!((chi_square(&[90.0, 10.0], &[0.8, 0.2]) - 6.25).abs() < 1e-12);
        for (degrees, limit) in [(1.0, 3.841), (5.0, 11.070), (23.0, 35.172), (69.0, 89.391)] {
            let ours = chi_square_limit(degrees);
            assert!((ours / limit - 1.0).abs() < 0.03, "{degrees}: {ours} for {limit}");
        }
    }
}
