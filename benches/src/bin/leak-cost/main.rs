//! Measures leak detections, and prints the figures as one line of JSON.
//!
//! One process is one sample, with the span heap as its allocator. The Go peer's cases `leak-own` and `leak-shared` are the same.

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use greenprof_benches::{
    statistics::Summary,
    workload::leaks::{LeakyCrowd, MEGABYTES, STACK, Shape, detect, milliseconds},
};
use greenprof_profiler::{
    http::NamedProfile,
    leak::{LeakProfile, Mode},
};
use greenprof_runtime::{Runtime, heap::Heap};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Measures leak detections among many tasks, and prints the figures as one line of JSON.
#[derive(Parser)]
#[command(name = "leak-cost")]
struct Arguments {
    /// What the leaked tasks wait on
    #[arg(long)]
    shape: Shape,
    /// Blocked tasks
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// How many of them are leaked
    #[arg(long, default_value_t = 10_000)]
    leaked: usize,
    /// Megabytes of blocks that are full of pointers to each other
    #[arg(long, default_value_t = MEGABYTES)]
    megabytes: usize,
    /// Bytes of a task's stack
    #[arg(long, default_value_t = STACK)]
    stack: usize,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Detections of each kind; the medians count
    #[arg(long, default_value_t = 5)]
    batches: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("leak-cost: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<String> {
    ensure!(arguments.leaked <= arguments.tasks, "no more tasks can be leaked than there are");
    ensure!(arguments.batches > 0 && arguments.workers > 0, "at least one detection and one worker are needed");
    let builder = Runtime::builder().workers(arguments.workers).stack_size(arguments.stack);
    let runtime = builder.build().context("no runtime")?;
    let crowd = LeakyCrowd::new(&runtime, arguments.shape, arguments.tasks, arguments.leaked, arguments.megabytes);
    let values = measure(arguments, &crowd)?;
    crowd.check();
    serde_json::to_string(&values).context("the values are no JSON")
}

/// Milliseconds, but for `found` and `faults`. The kinds of detection take turns.
#[inline(never)]
fn measure(arguments: &Arguments, crowd: &LeakyCrowd) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let mut values: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    detect(Mode::Stop)?;
    for _ in 0..arguments.batches {
        let mut add = |name, value| values.entry(name).or_default().push(value);
        // What writing to all pages costs when none is shared.
        add("writing", milliseconds(crowd.write_to_each_page()));
        let report = detect(Mode::Stop)?;
        add("found", report.leaked().len() as f64);
        add("scan", milliseconds(report.cost.total));
        add("stop", milliseconds(report.cost.stopped));
        add("marking", milliseconds(report.cost.marking));
        let began = Instant::now();
        LeakProfile.write(0).context("no profile")?;
        add("profile", milliseconds(began.elapsed()));

        let report = detect(Mode::Fork)?;
        if let Some(reason) = report.not_copied {
            bail!("no copy of the process: {reason}");
        }
        add("writing-after-fork", milliseconds(crowd.write_to_each_page()));
        add("found-fork", report.leaked().len() as f64);
        add("scan-fork", milliseconds(report.cost.total));
        add("stop-fork", milliseconds(report.cost.stopped));
        add("clone-fork", milliseconds(report.cost.cloning));
        add("marking-fork", milliseconds(report.cost.marking));
        add("faults-fork", report.cost.faults as f64);
    }
    Ok(values.into_iter().map(|(name, values)| (name, Summary::of(&values).median)).collect())
}
