//! Says what the hooks cost: built in but off, and on, against a build that has none.
//!
//! 1. [`builds`] builds the binary `workload` twice, with and without the feature `hooks`, in two target directories.
//! 2. [`sampling`] runs them in turn, each sample a process of its own: in every round all three variants of a workload
//!    come after each other, in an order that rotates, so that a disturbance meets all of them alike.
//! 3. [`report`] divides the samples of one round by each other, and prints the medians of these ratios with their
//!    intervals. An effect whose interval includes 1 is not resolved.

mod report;
mod sampling;

use std::process::ExitCode;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use greenprof_benches::{builds, statistics::FEWEST, workload::Workload};

use report::Report;
use sampling::Plan;

/// Measures what the runtime's hooks cost: built in but off, and on, against a build without them.
#[derive(Parser)]
#[command(name = "hooks-cost")]
struct Options {
    /// Which workloads: yield, spawn-join, ping-pong; all of them if none is named
    workloads: Vec<Workload>,
    /// Samples of each variant
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Numbers of workers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    workers: Vec<usize>,
    /// Operations of one sample, in millions
    #[arg(long, default_value_t = 1.0)]
    millions: f64,
    /// Compare wall time, or the processor time of the whole process
    #[arg(long, value_enum, default_value_t = Clock::Wall)]
    clock: Clock,
    /// Print JSON, with every sample
    #[arg(long)]
    json: bool,
}

/// By which time variants are compared.
#[derive(Clone, Copy, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Clock {
    Wall,
    Cpu,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(output) => {
            println!("{output}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hooks-cost: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> anyhow::Result<String> {
    let Options { workloads, rounds, workers, millions, clock, json } = options;
    ensure!(rounds >= FEWEST, "{rounds} rounds are too few for an interval: take {FEWEST} at least");
    ensure!((0.001..=1e6).contains(&millions), "{millions} million operations are not between 0.001 and 1000000");
    let plan = Plan {
        workloads: if workloads.is_empty() { Workload::ALL.to_vec() } else { workloads },
        workers,
        rounds,
        operations: (millions * 1e6) as u64,
    };
    let programs = builds::build()?;
    let rows = sampling::sample(&plan, &programs)?;
    let report = Report::new(clock, rows);
    if json { Ok(serde_json::to_string_pretty(&report)?) } else { Ok(report.to_string()) }
}
