//! How right the contention profiles are: their estimates against exact totals that an instrument of the test keeps.
//!
//! The instrument adds up every wait and every unlock that the runtime tells of, by labels, with no sampling. At each
//! rate the profile's estimate must lie within three standard errors of that, in the middle one of three runs. The errors are not the profile's own
//! estimates of them, but computed from all waits: a wait of `d` at a rate of `r > d` adds `r / d - 1` to the variance of
//! the count, and `(r / d - 1) d^2` to that of the delay. Where 4 000 samples or more are expected, the estimate must also
//! be within 5 %.

use greenprof_benches::accuracy::contention::{Truth, What, add_up, contended_lock, estimated, exactly, rendezvous};
use greenprof_profiler::{
    contention::{self, Snapshot},
    set_block_profile_rate, set_mutex_profile_fraction,
};
use greenprof_runtime::{Runtime, labels};

/// How far an estimate is from the truth, in standard errors and as a share, for contentions and for their delay.
fn errors(snapshot: &Snapshot, run: &str, truth: Truth) -> [(f64, f64); 2] {
    assert!(truth.count > 0.0, "{run}: nothing has happened");
    let (count, delay) = estimated(snapshot, run);
    println!("{run}: {count:?} {delay:?}, exactly {truth:?}");
    let error = |estimate: f64, truth: f64, variance: f64| {
        let share = (estimate - truth).abs() / truth;
        // Sums of floating-point numbers in different orders.
        let rounding = 1e-9;
        let standard_errors = if share <= rounding { 0.0 } else { share * truth / variance.sqrt() };
        (standard_errors, share)
    };
    [error(count.value, truth.count, truth.count_variance), error(delay.value, truth.delay, truth.delay_variance)]
}

/// Takes three runs, of which the middle one counts: one in 370 is beyond three standard errors by chance.
fn assert_close(what: &str, mut run: impl FnMut() -> ([(f64, f64); 2], Truth)) {
    let runs = [(); 3].map(|()| run());
    for (at, figure) in ["contentions", "delay"].into_iter().enumerate() {
        let middle = |of: fn((f64, f64)) -> f64| {
            let mut errors = runs.map(|(errors, _)| of(errors[at]));
            errors.sort_by(f64::total_cmp);
            errors[1]
        };
        let (standard_errors, share) = (middle(|error| error.0), middle(|error| error.1));
        assert!(standard_errors <= 3.0, "{what}, {figure}: {standard_errors} standard errors: {runs:?}");
        if runs.iter().all(|(_, truth)| truth.expected_samples >= 4000.0) {
            assert!(share <= 0.05, "{what}, {figure}: {share} of the truth: {runs:?}");
        }
    }
}

#[test]
fn totals_are_within_three_standard_errors_of_the_truth() {
    let _exact = add_up().unwrap();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    for rate in [1_u64, 10_000, 1_000_000] {
        let mut repetition = 0;
        assert_close(&format!("block rate {rate}"), || {
            repetition += 1;
            let run = format!("block {rate} {repetition}");
            set_block_profile_rate(rate).unwrap();
            labels::with(&[("run", &run)], || rendezvous(&runtime, 20_000));
            set_block_profile_rate(0).unwrap();
            let truth = exactly(&run, What::Waits);
            let now = errors(&contention::block(), &run, truth);
            // What was recorded keeps its weight, whatever the rate is then.
            set_block_profile_rate(77).unwrap();
            assert_eq!(errors(&contention::block(), &run, truth), now);
            set_block_profile_rate(0).unwrap();
            (now, truth)
        });
    }
    for fraction in [1_u64, 7] {
        let mut repetition = 0;
        let mut waiters = Vec::new();
        assert_close(&format!("mutex fraction {fraction}"), || {
            repetition += 1;
            let run = format!("mutex {fraction} {repetition}");
            set_mutex_profile_fraction(fraction).unwrap();
            labels::with(&[("run", &run)], || contended_lock(&runtime, 300));
            set_mutex_profile_fraction(0).unwrap();
            let truth = exactly(&run, What::LockWaits);
            waiters.push((errors(&contention::mutex_waiters(), &run, truth), truth));
            let truth = exactly(&run, What::Unlocks);
            (errors(&contention::mutex(), &run, truth), truth)
        });
        assert_close(&format!("waiters at fraction {fraction}"), || waiters.pop().expect("three runs"));
    }
}
