//! How right the contention profiles are: their estimates against exact totals that an instrument of the test keeps.
//!
//! The instrument adds up every wait and every unlock that the runtime tells of, by labels, with no sampling. At each
//! rate the profile's estimate must lie within three standard errors of that, in the middle one of three runs. The errors are not the profile's own
//! estimates of them, but computed from all waits: a wait of `d` at a rate of `r > d` adds `r / d - 1` to the variance of
//! the count, and `(r / d - 1) d^2` to that of the delay. Where 4 000 samples or more are expected, the estimate must also
//! be within 5 %.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex as StdMutex},
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::{
    contention::{self, Snapshot},
    set_block_profile_rate, set_mutex_profile_fraction,
};
use greenprof_runtime::{
    Runtime,
    hooks::{self, Instrument, Interest},
    labels, spawn,
    sync::{Chan, Mutex},
    task::WaitReason,
};

/// Exact totals, and the variances that a sample at a rate would have.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    count: f64,
    delay: f64,
    expected_samples: f64,
    count_variance: f64,
    delay_variance: f64,
}

impl Truth {
    fn add(&mut self, delay: u64, probability: f64) {
        let delay = delay.max(1) as f64;
        let excess = 1.0 / probability - 1.0;
        self.count += 1.0;
        self.delay += delay;
        self.expected_samples += probability;
        self.count_variance += excess;
        self.delay_variance += excess * delay * delay;
    }
}

/// The truth about waits and about unlocks, by the label `run`, which says how likely each is a sample.
struct Exact(LazyLock<StdMutex<HashMap<(String, &'static str), Truth>>>);

static EXACT: Exact = Exact(LazyLock::new(StdMutex::default));

impl Exact {
    fn add(&self, what: &'static str, delay: u64, probability: impl Fn(&str, f64) -> f64) {
        let labels = labels::current();
        let Some(run) = labels.get("run") else { return };
        let delay_in_full = delay.max(1) as f64;
        let probability = probability(run, delay_in_full);
        self.0.lock().unwrap().entry((run.to_owned(), what)).or_default().add(delay, probability);
    }

    fn get(&self, run: &str, what: &'static str) -> Truth {
        self.0.lock().unwrap().get(&(run.to_owned(), what)).copied().unwrap_or_default()
    }
}

/// What a run's label says: `block 1000 1` is the first at that rate, `mutex 7 3` the third at that fraction.
fn rate(run: &str, kind: &str) -> Option<f64> {
    run.strip_prefix(kind)?.split_whitespace().next()?.parse().ok()
}

impl Instrument for Exact {
    fn waited(&self, reason: WaitReason, delay: u64) {
        if reason != WaitReason::Sleep {
            self.add("waits", delay, |run, delay| rate(run, "block").map_or(1.0, |rate| (delay / rate).min(1.0)));
        }
        if reason == WaitReason::MutexLock {
            self.add("lock waits", delay, |run, _| rate(run, "mutex").map_or(1.0, |fraction| 1.0 / fraction));
        }
    }

    fn unlocked(&self, delay: u64) {
        self.add("unlocks", delay, |run, _| rate(run, "mutex").map_or(1.0, |fraction| 1.0 / fraction));
    }
}

/// How far an estimate is from the truth, in standard errors and as a share, for contentions and for their delay.
fn errors(snapshot: &Snapshot, run: &str, truth: Truth) -> [(f64, f64); 2] {
    assert!(truth.count > 0.0, "{run}: nothing has happened");
    let (count, delay) = snapshot.total(|record| !record.waiting && record.labels.get("run") == Some(run));
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

/// Waits of some hundred nanoseconds to some hundred microseconds, of tasks and of plain threads.
fn rendezvous(runtime: &Runtime, rounds: u32) {
    runtime.run(|| {
        let (there, back) = (Chan::new(), Chan::new());
        let (request, answer) = (there.clone(), back.clone());
        spawn(move || {
            for number in &request {
                answer.send(number).unwrap();
            }
        });
        for round in 0..rounds {
            if round % 64 == 0 {
                spin(Duration::from_micros(u64::from(round % 1024)));
            }
            there.send(round).unwrap();
            back.recv();
        }
        there.close();
    });
    let chan = Chan::new();
    thread::scope(|scope| {
        let (chan, labels) = (&chan, labels::current());
        scope.spawn(move || {
            let run = labels.get("run").unwrap();
            labels::with(&[("run", run)], || chan.iter().for_each(drop::<u32>));
        });
        (0..rounds / 16).for_each(|round| chan.send(round).unwrap());
        chan.close();
    });
}

fn spin(duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Tasks that share a lock and hold it for some microseconds.
fn contention(runtime: &Runtime, rounds: u32) {
    runtime.run(|| {
        let lock = std::sync::Arc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let lock = lock.clone();
                spawn(move || {
                    for _ in 0..rounds {
                        let mut guard = lock.lock();
                        spin(Duration::from_micros(2));
                        *guard += 1;
                        // Whoever waits is told while the lock is held, and is charged to this task.
                        greenprof_runtime::yield_now();
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn totals_are_within_three_standard_errors_of_the_truth() {
    let _exact = hooks::install(&EXACT, Interest::WAIT.and(Interest::CONTENTION)).unwrap();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    for rate in [1_u64, 10_000, 1_000_000] {
        let mut repetition = 0;
        assert_close(&format!("block rate {rate}"), || {
            repetition += 1;
            let run = format!("block {rate} {repetition}");
            set_block_profile_rate(rate).unwrap();
            labels::with(&[("run", &run)], || rendezvous(&runtime, 20_000));
            set_block_profile_rate(0).unwrap();
            let truth = EXACT.get(&run, "waits");
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
            labels::with(&[("run", &run)], || contention(&runtime, 300));
            set_mutex_profile_fraction(0).unwrap();
            let truth = EXACT.get(&run, "lock waits");
            waiters.push((errors(&contention::mutex_waiters(), &run, truth), truth));
            let truth = EXACT.get(&run, "unlocks");
            (errors(&contention::mutex(), &run, truth), truth)
        });
        assert_close(&format!("waiters at fraction {fraction}"), || waiters.pop().expect("three runs"));
    }
}
