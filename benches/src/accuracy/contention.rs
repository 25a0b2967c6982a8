//! Contention profiles of programs whose waits and unlocks an instrument adds up without sampling.
//!
//! A wait of `d` at a rate of `r > d` adds `r / d - 1` to the variance of the count, and `(r / d - 1) d^2` to that of the
//! delay. So the errors that an estimate may have are known, and need not be taken from the profile.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex as StdMutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use greenprof_profiler::{
    contention::{self, Snapshot},
    set_block_profile_rate, set_mutex_profile_fraction,
};
use greenprof_runtime::{
    Runtime,
    hooks::{self, Installed, Instrument, Interest},
    labels, spawn,
    sync::{Chan, Mutex},
    task::WaitReason,
};

use super::Estimates;
use crate::{case::Effort, values::Values};

/// Exact totals, and the variances that a sample at a rate would have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Truth {
    pub count: f64,
    pub delay: f64,
    pub expected_samples: f64,
    pub count_variance: f64,
    pub delay_variance: f64,
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

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// All waits but sleeps.
    Waits,
    /// Waits for locks.
    LockWaits,
    /// Unlocks that somebody waited for.
    Unlocks,
}

/// The truth about waits and about unlocks, by the label `run`, which says how likely each is a sample.
struct Exact(LazyLock<StdMutex<HashMap<(String, What), Truth>>>);

static EXACT: Exact = Exact(LazyLock::new(StdMutex::default));

/// Adds up from now on, until what it gives is dropped.
///
/// # Errors
/// If there is no place for an instrument.
pub fn add_up() -> Result<Installed, hooks::InstallError> {
    hooks::install(&EXACT, Interest::WAIT.and(Interest::CONTENTION))
}

/// What was added up of a run.
pub fn exactly(run: &str, what: What) -> Truth {
    EXACT.totals().get(&(run.to_owned(), what)).copied().unwrap_or_default()
}

impl Exact {
    fn totals(&self) -> std::sync::MutexGuard<'_, HashMap<(String, What), Truth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, what: What, delay: u64, probability: impl Fn(&str, f64) -> f64) {
        let labels = labels::current();
        let Some(run) = labels.get("run") else { return };
        let probability = probability(run, delay.max(1) as f64);
        self.totals().entry((run.to_owned(), what)).or_default().add(delay, probability);
    }
}

/// What a run's label says: `block 1000 1` is the first at that rate, `mutex 7 3` the third at that fraction.
fn rate(run: &str, kind: &str) -> Option<f64> {
    run.strip_prefix(kind)?.split_whitespace().next()?.parse().ok()
}

impl Instrument for Exact {
    fn waited(&self, reason: WaitReason, delay: u64) {
        if reason != WaitReason::Sleep {
            self.add(What::Waits, delay, |run, delay| rate(run, "block").map_or(1.0, |rate| (delay / rate).min(1.0)));
        }
        if reason == WaitReason::MutexLock {
            self.add(What::LockWaits, delay, |run, _| rate(run, "mutex").map_or(1.0, |fraction| 1.0 / fraction));
        }
    }

    fn unlocked(&self, delay: u64) {
        self.add(What::Unlocks, delay, |run, _| rate(run, "mutex").map_or(1.0, |fraction| 1.0 / fraction));
    }
}

/// What a profile says of a run: how many contentions, and their delay.
pub fn estimated(snapshot: &Snapshot, run: &str) -> (contention::Estimate, contention::Estimate) {
    snapshot.total(|record| !record.waiting && record.labels.get("run") == Some(run))
}

/// Waits of some hundred nanoseconds to some hundred microseconds, of tasks and of plain threads.
///
/// # Panics
/// If it is called without the label `run`.
pub fn rendezvous(runtime: &Runtime, rounds: u32) {
    runtime.run(|| {
        let (there, back) = (Chan::new(), Chan::new());
        let (request, answer) = (there.clone(), back.clone());
        spawn(move || {
            for number in &request {
                answer.send(number).expect("nobody closes it");
            }
        });
        for round in 0..rounds {
            if round % 64 == 0 {
                spin(Duration::from_micros(u64::from(round % 1024)));
            }
            there.send(round).expect("closed below");
            back.recv();
        }
        there.close();
    });
    let chan = Chan::new();
    thread::scope(|scope| {
        let (chan, labels) = (&chan, labels::current());
        scope.spawn(move || {
            let run = labels.get("run").expect("a run has a label");
            labels::with(&[("run", run)], || chan.iter().for_each(drop::<u32>));
        });
        (0..rounds / 16).for_each(|round| chan.send(round).expect("closed below"));
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
///
/// # Panics
/// If a task does.
pub fn contended_lock(runtime: &Runtime, rounds: u32) {
    runtime.run(|| {
        let lock = Arc::new(Mutex::new(0));
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
        tasks.into_iter().for_each(|task| task.join().expect("it does not panic"));
    });
}

/// The rates that are in the report.
const BLOCK_RATES: [(&str, u64); 3] = [("1 ns", 1), ("10 us", 10_000), ("1 ms", 1_000_000)];
const MUTEX_FRACTIONS: [(&str, u64); 3] = [("1", 1), ("1 in 10", 10), ("1 in 100", 100)];

/// Contentions and their delay in milliseconds, with the errors that theory lets them have.
#[derive(Default)]
struct Both {
    count: Estimates,
    delay: Estimates,
    count_variance: f64,
    delay_variance: f64,
}

impl Both {
    fn add(&mut self, snapshot: &Snapshot, run: &str, truth: Truth) -> anyhow::Result<()> {
        anyhow::ensure!(truth.count > 0.0, "{run}: nothing has waited");
        let (count, delay) = estimated(snapshot, run);
        self.count.add(count.value, truth.count);
        self.delay.add(delay.value / 1e6, truth.delay / 1e6);
        self.count_variance += truth.count_variance / truth.count.powi(2);
        self.delay_variance += truth.delay_variance / truth.delay.powi(2);
        Ok(())
    }

    fn put(&self, name: &str, runs: u64, values: &mut Values) {
        for (figure, estimates, variance) in
            [("contentions", &self.count, self.count_variance), ("delay", &self.delay, self.delay_variance)]
        {
            let name = format!("{figure} at {name}");
            estimates.put(&name, values);
            values.insert(format!("{name}, theory"), (variance / runs as f64).sqrt());
        }
    }
}

/// The block profile at each rate. `effort.operations` are the round trips of a run, `effort.batches` the runs.
pub(super) fn block_estimates(workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let rounds = u32::try_from(effort.operations).context("that many rounds take too long")?;
    let _exact = add_up()?;
    let runtime = Runtime::builder().workers(workers).build()?;
    let mut values = Values::new();
    for (name, rate) in BLOCK_RATES {
        let mut both = Both::default();
        for repetition in 0..effort.batches {
            let run = format!("block {rate} {repetition}");
            set_block_profile_rate(rate)?;
            labels::with(&[("run", &run)], || rendezvous(&runtime, rounds));
            set_block_profile_rate(0)?;
            both.add(&contention::block(), &run, exactly(&run, What::Waits))?;
        }
        both.put(name, effort.batches, &mut values);
    }
    Ok(values)
}

/// The mutex profile at each fraction. `effort.operations` are the times that each task takes the lock, `effort.batches` the runs.
pub(super) fn mutex_estimates(workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let rounds = u32::try_from(effort.operations).context("that many rounds take too long")?;
    let _exact = add_up()?;
    let runtime = Runtime::builder().workers(workers).build()?;
    let mut values = Values::new();
    for (name, fraction) in MUTEX_FRACTIONS {
        let mut both = Both::default();
        for repetition in 0..effort.batches {
            let run = format!("mutex {fraction} {repetition}");
            set_mutex_profile_fraction(fraction)?;
            labels::with(&[("run", &run)], || contended_lock(&runtime, rounds));
            set_mutex_profile_fraction(0)?;
            both.add(&contention::mutex(), &run, exactly(&run, What::Unlocks))?;
        }
        both.put(name, effort.batches, &mut values);
    }
    Ok(values)
}
