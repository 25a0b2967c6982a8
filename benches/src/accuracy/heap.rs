//! Heap profiles of allocations that are counted: call sites allocate blocks of known sizes on two threads; a third of them stay in
//! use, the others are freed, some by the other thread.
//!
//! Each run carries labels of its own, so runs do not touch each other.

use std::{collections::BTreeMap, hint::black_box, ops::RangeInclusive, sync::mpsc, thread};

use greenprof_profiler::heap::{self as profiler, Estimate};
use greenprof_runtime::{heap::stats, labels};

use super::Estimates;
use crate::{case::Effort, values::Values};

/// What tells the call sites apart.
pub const SITES: [&str; 5] = ["small", "middle", "large", "heavy tail", "freed elsewhere"];

/// The four numbers of a heap profile.
pub const NUMBERS: [&str; 4] = ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"];

/// Objects and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Truth {
    pub allocated: (u64, u64),
    pub in_use: (u64, u64),
}

/// What was true of a site, and what the profile says of it: allocated, and in use.
pub type Found = (Truth, Estimate, Estimate);

/// A generator that costs nothing (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Sizes whose number falls with the power 1.2 of the size, from 24 bytes up to 128 KiB.
    fn heavy_tail(&mut self) -> usize {
        let uniform = ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        (24.0 * uniform.powf(-1.0 / 1.2)).min(131_072.0) as usize
    }
}

/// What a thread allocates at a site: one to four megabytes, times `amount`.
fn sizes(site: &str, amount: usize, random: &mut Random) -> Vec<usize> {
    match site {
        "small" => vec![48; 16_000 * amount],
        "middle" => vec![1000; 2000 * amount],
        "large" => vec![3000; 1200 * amount],
        "heavy tail" => (0..8000 * amount).map(|_| random.heavy_tail()).collect(),
        _ => vec![200; 6000 * amount],
    }
}

/// Bytes of the block that an allocation of so many bytes gets.
fn block_size(classes: &[usize], size: usize) -> usize {
    classes.iter().copied().find(|class| *class >= size).unwrap_or(size.next_multiple_of(8192))
}

/// The call site.
#[inline(never)]
fn allocate_here(sizes: &[usize], blocks: &mut Vec<Vec<u8>>) {
    for size in sizes {
        blocks.push(black_box(Vec::with_capacity(*size)));
    }
}

/// What one thread does at one site. Gives what stays in use.
fn work(run: &str, site: &str, sizes: &[usize], elsewhere: &mpsc::Sender<Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
    let mut blocks = Vec::with_capacity(sizes.len());
    labels::with(&[("run", run), ("site", site)], || allocate_here(sizes, &mut blocks));
    let (mut kept, mut others) = (Vec::with_capacity(sizes.len()), Vec::with_capacity(sizes.len()));
    for (at, block) in blocks.into_iter().enumerate() {
        if at % 3 == 0 { kept.push(block) } else { others.push(block) }
    }
    if site == "freed elsewhere" {
        elsewhere.send(others).expect("somebody frees them");
    }
    kept
}

/// One run, which needs a number of its own: the truth of each site, and what the profile says. With an amount of 1, some 18 MB
/// of blocks are allocated, and a third of it is in use at the end.
///
/// # Panics
/// If the profile has something in use when all was freed.
pub fn one_run(number: u64, amount: usize) -> Vec<Found> {
    let classes: Vec<usize> = stats().by_size.iter().map(|class| class.size).collect();
    let run = number.to_string();
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let plan: Vec<[Vec<usize>; 2]> =
        SITES.iter().map(|site| [(); 2].map(|()| sizes(site, amount, &mut random))).collect();
    let (send, receive) = mpsc::channel();
    let kept: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let (send, run, plan) = (send.clone(), &run, &plan);
                scope.spawn(move || {
                    let sites = SITES.iter().zip(plan);
                    sites.map(|(site, sizes)| work(run, site, &sizes[thread], &send)).collect::<Vec<_>>()
                })
            })
            .collect();
        drop(send);
        // Here they are freed, while the others still allocate.
        receive.iter().for_each(drop);
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let found = of_sites(&run);
    drop(kept);
    assert!(of_sites(&run).values().all(|(_, in_use)| *in_use == Estimate::default()), "all that was freed is gone");
    let site = |(site, sizes): (&&str, &[Vec<usize>; 2])| {
        let mut truth = Truth::default();
        for (at, size) in sizes.iter().flat_map(|sizes| sizes.iter().enumerate()) {
            let block = block_size(&classes, *size) as u64;
            truth.allocated = (truth.allocated.0 + 1, truth.allocated.1 + block);
            if at % 3 == 0 {
                truth.in_use = (truth.in_use.0 + 1, truth.in_use.1 + block);
            }
        }
        let (allocated, in_use) = found.get(*site).copied().unwrap_or_default();
        (truth, allocated, in_use)
    };
    SITES.iter().zip(&plan).map(site).collect()
}

/// Allocated and in use, by site, of one run.
fn of_sites(run: &str) -> BTreeMap<String, (Estimate, Estimate)> {
    let mut sums: BTreeMap<String, (Estimate, Estimate)> = BTreeMap::new();
    for record in profiler::snapshot().records.iter().filter(|record| record.labels.get("run") == Some(run)) {
        let sum = sums.entry(record.labels.get("site").unwrap_or_default().to_owned()).or_default();
        *sum = (sum.0 + record.allocated, sum.1 + record.in_use);
    }
    sums
}

/// How one number of one site was met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub runs: u64,
    pub covered: u64,
    /// Intervals that end below the truth, and that begin above it.
    pub below: u64,
    pub above: u64,
    /// Sums of the errors, of their squares, and of the variances that the estimates claim.
    error: f64,
    squares: f64,
    variance: f64,
}

impl Score {
    /// Adds a run's four numbers to the scores of a site, which are in the order of [`NUMBERS`].
    pub fn add_all(scores: &mut [Self; 4], (truth, allocated, in_use): &Found) {
        for (at, truth, estimate) in [(0, truth.allocated, allocated), (2, truth.in_use, in_use)] {
            scores[at].add(truth.0, estimate.objects, estimate.objects_variance, estimate.objects_interval());
            scores[at + 1].add(truth.1, estimate.bytes, estimate.bytes_variance, estimate.bytes_interval());
        }
    }

    fn add(&mut self, truth: u64, estimate: f64, variance: f64, interval: RangeInclusive<f64>) {
        let truth = truth as f64;
        self.runs += 1;
        self.covered += u64::from(interval.contains(&truth));
        self.below += u64::from(*interval.end() < truth);
        self.above += u64::from(*interval.start() > truth);
        self.error += estimate - truth;
        self.squares += (estimate - truth).powi(2);
        self.variance += variance;
    }

    /// The mean error, in its own standard errors.
    pub fn bias(self) -> f64 {
        self.error / self.variance.sqrt()
    }

    /// The share of the runs whose interval has the truth in it.
    pub fn coverage(self) -> f64 {
        self.covered as f64 / self.runs as f64
    }
}

/// The rates, and how much is allocated: four times as much is to halve the error, and so is a quarter of the rate.
const SETTINGS: [(&str, u64, usize); 4] = [
    ("512 KiB, 70 MB", 512 << 10, 4),
    ("512 KiB, 280 MB", 512 << 10, 16),
    ("64 KiB, 70 MB", 64 << 10, 4),
    ("64 KiB, 280 MB", 64 << 10, 16),
];

/// The sums over all call sites beside the truth; how often the sites' intervals cover it; and the errors beside those that the profile
/// states. `effort.operations` are the runs with each setting.
pub(super) fn estimates(effort: Effort) -> Values {
    profiler::start();
    let mut values = Values::new();
    let mut number = 0;
    for (name, rate, amount) in SETTINGS {
        profiler::set_rate(rate);
        let mut sums: [Estimates; 4] = Default::default();
        let mut scores = [[Score::default(); 4]; SITES.len()];
        for _ in 0..effort.operations * effort.batches {
            number += 1;
            let found = one_run(number, amount);
            found.iter().zip(&mut scores).for_each(|(found, scores)| Score::add_all(scores, found));
            let sum = |of: fn(&Found) -> (f64, u64)| {
                found.iter().map(of).fold((0.0, 0.0), |sum, (ours, truth)| (sum.0 + ours, sum.1 + truth as f64))
            };
            let all: [(f64, f64); 4] = [
                sum(|(truth, allocated, _)| (allocated.objects, truth.allocated.0)),
                sum(|(truth, allocated, _)| (allocated.bytes, truth.allocated.1)),
                sum(|(truth, _, in_use)| (in_use.objects, truth.in_use.0)),
                sum(|(truth, _, in_use)| (in_use.bytes, truth.in_use.1)),
            ];
            all.into_iter().zip(&mut sums).for_each(|((ours, truth), sum)| sum.add(ours, truth));
        }
        for (at, number) in NUMBERS.into_iter().enumerate() {
            sums[at].put(&format!("{number} at {name}"), &mut values);
            let of_number = || scores.iter().map(|site| site[at]);
            let runs: u64 = of_number().map(|score| score.runs).sum();
            let covered: u64 = of_number().map(|score| score.covered).sum();
            values.insert(format!("{number} covered at {name}"), covered as f64 / runs as f64);
            let (squares, variance) =
                of_number().fold((0.0, 0.0), |sum, score| (sum.0 + score.squares, sum.1 + score.variance));
            values.insert(format!("{number} off at {name}"), (squares / runs as f64).sqrt());
            values.insert(format!("{number} stated at {name}"), (variance / runs as f64).sqrt());
        }
    }
    profiler::set_rate(0);
    values.insert("nominal".to_owned(), 0.95);
    values
}
