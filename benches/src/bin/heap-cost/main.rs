//! What do an allocation and a free cost, beside the system's allocator, mimalloc and jemalloc?
//!
//! Each sample is a process of its own, so that no allocator runs in another's leftovers; the allocators take turns, and
//! medians over the rounds are printed, in nanoseconds for one allocation and its free. All are called through the same
//! generic code by `GlobalAlloc`. jemalloc is built with its profiling, which is idle.

mod workloads;

use std::{
    alloc::{GlobalAlloc, System},
    collections::BTreeMap,
    process::Command,
};

use anyhow::{Context as _, bail};
use clap::Parser;
use greenprof_profiler::heap as profiler;
use greenprof_runtime::heap::{Heap, sampling};
use mimalloc::MiMalloc;
use tikv_jemallocator::Jemalloc;
use workloads::Case;

/// Compares allocators.
#[derive(Parser)]
struct Options {
    /// Samples for each figure.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only this case.
    #[arg(long)]
    case: Option<Case>,
    /// Only this allocator; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// Takes one sample in this process, and prints it: allocator, case and threads.
    #[arg(long, num_args = 3, value_names = ["ALLOCATOR", "CASE", "THREADS"])]
    sample: Option<Vec<String>>,
}

static HEAP: Heap = Heap::new();

/// Ours without sampling; with samples that nobody is told of; with the profiler; with the profiler told of every allocation.
const OURS: [&str; 4] = ["greenprof", "greenprof sampling", "greenprof profiled", "greenprof all"];
const PEERS: [&str; 3] = ["system", "mimalloc", "jemalloc"];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(sample) = options.sample {
        let [allocator, case, threads] = &sample[..] else { bail!("three values make a sample") };
        let case = clap::ValueEnum::from_str(case, false).map_err(anyhow::Error::msg)?;
        let (nanoseconds, resident) = sample_one(allocator, case, threads.parse()?)?;
        println!("{nanoseconds} {resident}");
        return Ok(());
    }
    let wanted = |name: &&str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let allocators: Vec<&str> = OURS.into_iter().chain(PEERS).filter(wanted).collect();
    println!(
        "{:<26} {:<20} {:>8} {:>8} {:>8} {:>10}",
        "case, threads", "allocator", "median", "least", "most", "RSS KiB"
    );
    for case in Case::ALL.into_iter().filter(|case| options.case.is_none_or(|only| only == *case)) {
        for threads in case.threads() {
            let mut samples: BTreeMap<usize, Vec<(f64, u64)>> = BTreeMap::new();
            for round in 0..options.rounds {
                for turn in 0..allocators.len() {
                    let allocator = (turn + round) % allocators.len();
                    samples.entry(allocator).or_default().push(run(allocators[allocator], case, *threads)?);
                }
            }
            for (allocator, mut figures) in samples {
                figures.sort_by(|a, b| a.0.total_cmp(&b.0));
                let resident = figures.iter().map(|figure| figure.1).max().unwrap_or(0);
                let (least, most) = (figures[0].0, figures[figures.len() - 1].0);
                println!(
                    "{:<26} {:<20} {:>8.2} {least:>8.2} {most:>8.2} {resident:>10}",
                    format!("{case:?}, {threads}"),
                    allocators[allocator],
                    figures[figures.len() / 2].0,
                );
            }
        }
    }
    Ok(())
}

/// Takes a sample in a new process.
fn run(allocator: &str, case: Case, threads: usize) -> anyhow::Result<(f64, u64)> {
    let name = clap::ValueEnum::to_possible_value(&case).context("every case has a name")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--sample", allocator, name.get_name(), &threads.to_string()])
        .output()?;
    if !output.status.success() {
        bail!("the sample of {allocator} has failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let (nanoseconds, resident) = text.trim().split_once(' ').context("a sample is two numbers")?;
    Ok((nanoseconds.parse()?, resident.parse()?))
}

fn sample_one(allocator: &str, case: Case, threads: usize) -> anyhow::Result<(f64, u64)> {
    static HOOKS: sampling::Hooks = sampling::Hooks { allocated: |_| (), freed: |_, _| () };
    let nanoseconds = match allocator {
        "greenprof sampling" => {
            sampling::install(&HOOKS);
            sampling::set_rate(sampling::DEFAULT_RATE);
            measure(&HEAP, case, threads)
        }
        "greenprof profiled" => {
            profiler::start();
            measure(&HEAP, case, threads)
        }
        "greenprof all" => {
            profiler::set_rate(1);
            profiler::start();
            measure(&HEAP, case, threads)
        }
        "greenprof" => measure(&HEAP, case, threads),
        "system" => measure(&System, case, threads),
        "mimalloc" => measure(&MiMalloc, case, threads),
        "jemalloc" => measure(&Jemalloc, case, threads),
        other => bail!("there is no allocator {other:?}"),
    };
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok((nanoseconds, resident.trim().trim_end_matches(" kB").parse()?))
}

fn measure<A: GlobalAlloc + Sync>(allocator: &'static A, case: Case, threads: usize) -> f64 {
    case.run(allocator, threads, 10);
    let mut batches: Vec<f64> = (0..5).map(|_| case.run(allocator, threads, 1)).collect();
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}
