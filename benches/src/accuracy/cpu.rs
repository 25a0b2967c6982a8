//! CPU profiles of programs that know, by the CPU clock of the thread, how much each of their parts has used.
//!
//! A part is told from the others by a label or by its function. The shares of the parts are compared, so it does not matter what
//! else the machine does.

use std::{
    collections::HashSet,
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use anyhow::ensure;
use greenprof_profiler::{
    cpu::{self, Capture},
    profile::encode,
    symbolize,
};
use greenprof_runtime::{JoinHandle, Runtime, labels, sleep, spawn, sync::Chan};
use nix::time::{ClockId, clock_gettime};

use super::{
    Estimates, chi_square, chi_square_limit,
    pprof::{self, Sample},
};
use crate::{case::Effort, values::Values};

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock that every Linux has").into()
}

/// Uses so much CPU time of the thread it runs on, and gives exactly how much it was.
pub fn use_cpu(amount: Duration) -> Duration {
    let start = thread_cpu();
    let mut x = 1_u64;
    loop {
        for i in 0..2_000 {
            x = black_box(x.wrapping_mul(31).wrapping_add(i));
        }
        let used = thread_cpu() - start;
        if used >= amount {
            return used;
        }
    }
}

/// Functions that are told apart by their names; each with a constant of its own, for the compiler merges equal ones.
macro_rules! burning_functions {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(#[doc = "Uses CPU time, as [`use_cpu`]."]
        #[inline(never)]
        pub fn $name(amount: Duration) -> Duration {
            black_box($number);
            black_box(use_cpu(amount))
        })*
    };
}

burning_functions!(burn_much = 100, burn_little = 200);
burning_functions!(work_0 = 0, work_1 = 1, work_2 = 2, work_3 = 3, work_4 = 4, work_5 = 5);
burning_functions! {
    small_00 = 300, small_01 = 301, small_02 = 302, small_03 = 303, small_04 = 304, small_05 = 305,
    small_06 = 306, small_07 = 307, small_08 = 308, small_09 = 309, small_10 = 310, small_11 = 311,
    small_12 = 312, small_13 = 313, small_14 = 314, small_15 = 315, small_16 = 316, small_17 = 317,
    small_18 = 318, small_19 = 319, small_20 = 320, small_21 = 321, small_22 = 322, small_23 = 323,
}

/// A function that uses CPU time.
pub type Burn = fn(Duration) -> Duration;

/// Those of tasks that move between threads, with the labels of the tasks that call them.
pub const WORKS: [(&str, Burn); 6] =
    [("0", work_0), ("1", work_1), ("2", work_2), ("3", work_3), ("4", work_4), ("5", work_5)];

/// Many functions of which each call is short.
const SMALL: [(&str, Burn); 24] = [
    ("small_00", small_00),
    ("small_01", small_01),
    ("small_02", small_02),
    ("small_03", small_03),
    ("small_04", small_04),
    ("small_05", small_05),
    ("small_06", small_06),
    ("small_07", small_07),
    ("small_08", small_08),
    ("small_09", small_09),
    ("small_10", small_10),
    ("small_11", small_11),
    ("small_12", small_12),
    ("small_13", small_13),
    ("small_14", small_14),
    ("small_15", small_15),
    ("small_16", small_16),
    ("small_17", small_17),
    ("small_18", small_18),
    ("small_19", small_19),
    ("small_20", small_20),
    ("small_21", small_21),
    ("small_22", small_22),
    ("small_23", small_23),
];

/// A call of each takes some 10 to 60 us.
fn small_amount(index: usize) -> Duration {
    Duration::from_micros(10 + 2 * index as u64)
}

/// The samples of a capture, with their functions and labels by name.
///
/// # Panics
/// If it cannot be encoded.
pub fn resolved(capture: &Capture) -> Vec<Sample> {
    pprof::samples(&encode::encode(&capture.profile, &mut symbolize::shared().lock()).expect("encodes"))
}

/// How many periods the samples stand for that are meant.
pub fn weight(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> i64 {
    samples.iter().filter(|sample| wanted(sample)).map(|sample| sample.values[0]).sum()
}

/// What parts of a program have used, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Used(Arc<[AtomicU64]>);

impl Used {
    /// For so many parts.
    pub fn new(parts: usize) -> Self {
        Self((0..parts).map(|_| AtomicU64::new(0)).collect())
    }

    /// A part has used more.
    pub fn add(&self, part: usize, time: Duration) {
        // Relaxed: numbers, read when those who add have been joined, or to no more than a moment's exactness.
        self.0[part].fetch_add(time.as_nanos() as u64, Relaxed);
    }

    /// As it is now.
    pub fn now(&self) -> Vec<u64> {
        self.0.iter().map(|part| part.load(Relaxed)).collect()
    }
}

/// A task that burns `amount` in each turn until the turns end, and gives which threads it ran on.
pub fn burner(
    label: &'static str,
    burn: Burn,
    turns: Chan<()>,
    amount: Duration,
    used: &Used,
    part: usize,
) -> JoinHandle<HashSet<ThreadId>> {
    let used = used.clone();
    labels::with(&[("burner", label)], || {
        spawn(move || {
            let mut threads = HashSet::new();
            while turns.recv().is_some() {
                threads.insert(thread::current().id());
                used.add(part, burn(amount));
            }
            threads
        })
    })
}

/// Two tasks, one of which uses four times as much as the other, while `look` is called. Gives what it gives, and what
/// the two used meanwhile. Called on a task.
///
/// # Panics
/// If a task does.
pub fn while_two_burn<R>(much: Duration, look: impl FnOnce() -> R) -> (R, [u64; 2]) {
    let used = Used::new(2);
    let turns = [Chan::with_capacity(1), Chan::with_capacity(1)];
    let tasks = [
        burner("much", burn_much, turns[0].clone(), much, &used, 0),
        burner("little", burn_little, turns[1].clone(), much / 4, &used, 1),
    ];
    let running = Arc::new(AtomicBool::new(true));
    let driver = {
        let running = running.clone();
        spawn(move || {
            while running.load(Relaxed) {
                turns.iter().for_each(|turn| turn.send(()).expect("closed below only"));
            }
            turns.iter().for_each(|turn| {
                turn.close();
            });
        })
    };
    let before = used.now();
    let result = look();
    let after = used.now();
    running.store(false, Relaxed);
    driver.join().expect("it does not panic");
    tasks.into_iter().for_each(|task| drop(task.join().expect("it does not panic")));
    (result, [after[0] - before[0], after[1] - before[1]])
}

/// Six tasks that each burn `each` in pieces between which they come back through the queue that all workers share, on
/// the thread that takes them. Gives how often one has changed its thread. Called on a task.
///
/// # Panics
/// If a task does.
pub fn migrate(each: Duration, used: &Used) -> usize {
    let tasks = std::array::from_fn::<_, 6, _>(|i| {
        let (label, work) = WORKS[i];
        let all = used.clone();
        labels::with(&[("task", label)], || {
            spawn(move || {
                let (mut threads, mut moves, mut used) = (None, 0, Duration::ZERO);
                while used < each {
                    let now = work(Duration::from_micros(300));
                    all.add(i, now);
                    used += now;
                    let thread = thread::current().id();
                    moves += usize::from(threads.replace(thread).is_some_and(|before| before != thread));
                    sleep(Duration::from_micros(10));
                }
                moves
            })
        })
    });
    tasks.into_iter().map(|task| task.join().expect("it does not panic")).sum()
}

/// What a task uses in a turn: not a part of the sampler's period, or the two would stay in step.
const MUCH: Duration = Duration::from_millis(7);

/// The rates and lengths that [`shares`] is taken with, to see how the error depends on them.
const SETTINGS: [(&str, u32, u64); 4] =
    [("100 Hz, 1/4", 100, 1), ("100 Hz, whole", 100, 4), ("1000 Hz, 1/4", 1000, 1), ("1000 Hz, whole", 1000, 4)];

/// Two tasks of 80 and 20 %: the share of the first, at several rates and for several lengths.
///
/// `effort.operations` are the milliseconds of a capture, `effort.batches` how many are taken.
pub(super) fn shares(workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let runtime = Runtime::builder().workers(workers).build()?;
    let mut values = Values::new();
    for (name, hz, quarters) in SETTINGS {
        let length = Duration::from_millis(effort.operations * quarters / 4);
        let (mut share, mut total, mut fit) = (Estimates::default(), Estimates::default(), Fit::default());
        for _ in 0..effort.batches {
            let (capture, used) = runtime.run(|| {
                while_two_burn(MUCH, || {
                    let session = cpu::start(hz)?;
                    sleep(length);
                    Ok::<_, cpu::StartError>(session.stop())
                })
            });
            let capture = capture?;
            let samples = resolved(&capture);
            let of = |label| weight(&samples, |sample| sample.label("burner") == Some(label)) as f64;
            let found = [of("much"), of("little")];
            ensure!(found[0] + found[1] > 0.0, "{name}: no sample in {length:?}: the machine gave the program no CPU");
            let truth = used[0] as f64 / (used[0] + used[1]) as f64;
            share.add(found[0] / (found[0] + found[1]), truth);
            total.add(capture.summary.sampled_cpu.as_secs_f64(), capture.summary.process_cpu.as_secs_f64());
            fit.add(&capture, &found, &used.map(|used| used as f64));
        }
        share.put(&format!("share at {name}"), &mut values);
        total.put(&format!("seconds at {name}"), &mut values);
        fit.put(&format!("chi-square at {name}"), &mut values);
    }
    Ok(values)
}

/// How well counts of samples fit the shares that are true, over several captures.
#[derive(Default)]
struct Fit {
    chi_square: f64,
    degrees: f64,
}

impl Fit {
    /// One more capture: what was found of each part, in periods, and what was used.
    fn add(&mut self, capture: &Capture, found: &[f64], used: &[f64]) {
        let total: f64 = used.iter().sum();
        let shares: Vec<f64> = used.iter().map(|used| used / total).collect();
        // A stack that stands for several periods is one observation.
        let each = capture.summary.weight.max(1) as f64 / capture.summary.samples.max(1) as f64;
        let counts: Vec<f64> = found.iter().map(|found| found / each).collect();
        self.chi_square += chi_square(&counts, &shares);
        self.degrees += shares.len() as f64 - 1.0;
    }

    /// Per degree of freedom: 1 is what independent samples give, and less what evenly spaced ones do.
    fn put(&self, name: &str, values: &mut Values) {
        values.insert(name.to_owned(), self.chi_square / self.degrees);
        values.insert(limit_of(name), chi_square_limit(self.degrees) / self.degrees);
    }
}

/// The name of the value that a chi-square statistic exceeds in one case of 20.
pub fn limit_of(chi_square: &str) -> String {
    format!("{chi_square}, limit")
}

/// Adds, of captures of a program with many parts, the error of a part's share, what independent samples would have, and the fit.
struct Parts {
    fit: Fit,
    squares: f64,
    expected: f64,
    count: f64,
}

impl Parts {
    const fn new() -> Self {
        Self { fit: Fit { chi_square: 0.0, degrees: 0.0 }, squares: 0.0, expected: 0.0, count: 0.0 }
    }

    fn add(&mut self, capture: &Capture, found: &[f64], used: &[f64]) {
        self.fit.add(capture, found, used);
        let (in_all, used_in_all): (f64, f64) = (found.iter().sum(), used.iter().sum());
        let samples = capture.summary.samples.max(1) as f64 * in_all / capture.summary.weight.max(1) as f64;
        for (found, used) in found.iter().zip(used) {
            let share = used / used_in_all;
            self.squares += (found / in_all / share - 1.0).powi(2);
            self.expected += (1.0 - share) / (samples * share);
            self.count += 1.0;
        }
    }

    fn values(&self) -> Values {
        let mut values = Values::from([
            ("part".to_owned(), (self.squares / self.count).sqrt()),
            ("part, independent".to_owned(), (self.expected / self.count).sqrt()),
        ]);
        self.fit.put("chi-square", &mut values);
        values
    }
}

/// Many functions that each run for some microseconds.
pub(super) fn functions(workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let runtime = Runtime::builder().workers(workers).build()?;
    let mut parts = Parts::new();
    for _ in 0..effort.batches {
        let used = Used::new(SMALL.len());
        let session = cpu::start(cpu::MAX_HZ)?;
        let (each, all) = (Duration::from_millis(effort.operations), used.clone());
        runtime.run(move || {
            let task = |all: Used| {
                move || {
                    let start = Instant::now();
                    while start.elapsed() < each {
                        for (part, (_, burn)) in SMALL.iter().enumerate() {
                            all.add(part, burn(small_amount(part)));
                        }
                    }
                }
            };
            let tasks: Vec<_> = (0..workers).map(|_| spawn(task(all.clone()))).collect();
            tasks.into_iter().for_each(|task| task.join().expect("it does not panic"));
        });
        let capture = session.stop();
        let samples = resolved(&capture);
        let found = SMALL.map(|(name, _)| weight(&samples, |sample| sample.calls(name)) as f64);
        ensure!(found.iter().sum::<f64>() > 0.0, "no sample: the machine gave the program no CPU");
        parts.add(&capture, &found, &used.now().iter().map(|used| *used as f64).collect::<Vec<_>>());
    }
    Ok(parts.values())
}

/// What the tasks of one kind use: three kinds.
const SHORT: [(&str, Duration); 3] =
    [("a", Duration::from_micros(60)), ("b", Duration::from_micros(120)), ("c", Duration::from_micros(240))];

/// Tasks that live for a fraction of a period, some thousand of them a second.
pub(super) fn short_tasks(workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let runtime = Runtime::builder().workers(workers).build()?;
    let (mut parts, mut total) = (Parts::new(), Estimates::default());
    for _ in 0..effort.batches {
        let used = Used::new(SHORT.len());
        let session = cpu::start(cpu::MAX_HZ)?;
        let (length, all) = (Duration::from_millis(effort.operations), used.clone());
        runtime.run(move || {
            let start = Instant::now();
            while start.elapsed() < length {
                let tasks = std::array::from_fn::<_, 12, _>(|i| {
                    let part = i % SHORT.len();
                    let (label, amount) = SHORT[part];
                    let all = all.clone();
                    labels::with(&[("kind", label)], || spawn(move || all.add(part, use_cpu(amount))))
                });
                tasks.into_iter().for_each(|task| task.join().expect("it does not panic"));
            }
        });
        let capture = session.stop();
        let samples = resolved(&capture);
        let found = SHORT.map(|(label, _)| weight(&samples, |sample| sample.label("kind") == Some(label)) as f64);
        ensure!(found.iter().sum::<f64>() > 0.0, "no sample: the machine gave the program no CPU");
        parts.add(&capture, &found, &used.now().iter().map(|used| *used as f64).collect::<Vec<_>>());
        total.add(capture.summary.sampled_cpu.as_secs_f64(), capture.summary.process_cpu.as_secs_f64());
    }
    let mut values = parts.values();
    total.put("seconds", &mut values);
    Ok(values)
}

/// Tasks that change their threads all the time: whether function and label agree, and the shares.
pub(super) fn migrating(workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let runtime = Runtime::builder().workers(workers).build()?;
    let (mut parts, mut agreement, mut moved) = (Parts::new(), Estimates::default(), 0);
    for _ in 0..effort.batches {
        let used = Used::new(WORKS.len());
        let session = cpu::start(cpu::MAX_HZ)?;
        let each = Duration::from_millis(effort.operations / WORKS.len() as u64);
        let all = used.clone();
        moved += runtime.run(move || migrate(each, &all));
        let capture = session.stop();
        let samples = resolved(&capture);
        let in_function = |sample: &Sample| WORKS.iter().position(|(label, _)| sample.calls(&format!("work_{label}")));
        let in_tasks = weight(&samples, |sample| in_function(sample).is_some());
        ensure!(in_tasks > 0, "no sample: the machine gave the program no CPU");
        let agreeing = weight(&samples, |sample| {
            in_function(sample).is_some_and(|part| sample.label("task") == Some(WORKS[part].0))
        });
        agreement.add(agreeing as f64, in_tasks as f64);
        let found = WORKS.map(|(label, _)| weight(&samples, |sample| sample.label("task") == Some(label)) as f64);
        parts.add(&capture, &found, &used.now().iter().map(|used| *used as f64).collect::<Vec<_>>());
    }
    let mut values = parts.values();
    agreement.put("agreeing", &mut values);
    values.insert("moves".to_owned(), moved as f64);
    Ok(values)
}

/// The rates that are asked for.
const RATES: [(&str, u32); 4] = [("100 Hz", 100), ("250 Hz", 250), ("500 Hz", 500), ("1000 Hz", 1000)];

/// Stacks captured in each second of CPU time, by as many busy threads as there are workers, beside what was asked for; and the CPU
/// time that the samples stand for beside that which was used. The threads are there before the profile is, but for those of a value of
/// their own: a new one that is no worker has to be found first.
pub(super) fn rates(workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let mut values = Values::new();
    let amount = Duration::from_millis(effort.operations);
    for (name, hz) in RATES {
        let (mut captures, mut seconds) = (Estimates::default(), Estimates::default());
        for _ in 0..effort.batches {
            let start = Arc::new(Barrier::new(workers + 1));
            let threads = busy_threads(workers, amount, Some(&start));
            let session = cpu::start(hz)?;
            start.wait();
            let used = joined(threads);
            let capture = session.stop();
            captures.add(capture.summary.samples as f64 / used, f64::from(hz));
            seconds.add(sampled_seconds(&capture), used);
        }
        captures.put(&format!("captures at {name}"), &mut values);
        seconds.put(&format!("seconds at {name}"), &mut values);
    }
    let mut seconds = Estimates::default();
    for _ in 0..effort.batches {
        let session = cpu::start(cpu::MAX_HZ)?;
        let used = joined(busy_threads(workers, amount, None));
        seconds.add(sampled_seconds(&session.stop()), used);
    }
    seconds.put("seconds of new threads", &mut values);
    Ok(values)
}

/// Threads that use CPU time, from when all have come to the barrier, if there is one.
fn busy_threads(count: usize, amount: Duration, start: Option<&Arc<Barrier>>) -> Vec<thread::JoinHandle<Duration>> {
    let work = |start: Option<Arc<Barrier>>| {
        move || {
            if let Some(start) = start {
                start.wait();
            }
            use_cpu(amount)
        }
    };
    (0..count).map(|_| thread::spawn(work(start.cloned()))).collect()
}

/// Seconds that they have used.
fn joined(threads: Vec<thread::JoinHandle<Duration>>) -> f64 {
    threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum::<Duration>().as_secs_f64()
}

/// Seconds of CPU time that a capture has of them.
fn sampled_seconds(capture: &Capture) -> f64 {
    let samples = resolved(capture);
    let nanoseconds: i64 = samples.iter().filter(|sample| sample.calls("use_cpu")).map(|sample| sample.values[1]).sum();
    nanoseconds as f64 / 1e9
}
