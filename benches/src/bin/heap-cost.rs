//! Measures an allocator, and prints the figures as one line of JSON.
//!
//! One process is one sample: no allocator runs in another's leftovers. The report runs it many times, and has two builds of
//! it, for jemalloc's profiling is chosen when it is built.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use greenprof_benches::{
    allocators::Allocator,
    case::{Case, Effort},
};

/// Measures an allocator, and prints the figures as one line of JSON.
#[derive(Parser)]
#[command(name = "heap-cost")]
struct Options {
    /// Who allocates
    #[arg(long)]
    allocator: Allocator,
    /// What is run
    #[arg(long, value_name = "CASE")]
    workload: Case,
    /// Threads that allocate
    #[arg(long, default_value_t = 1)]
    workers: usize,
    #[command(flatten)]
    effort: Effort,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("heap-cost: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<String> {
    let Options { allocator, workload, workers, effort } = *options;
    ensure!(workers > 0, "at least one thread is needed");
    ensure!(effort.operations > 0 && effort.batches > 0, "at least one operation is needed");
    let values = allocator.measure(workload, workers, effort)?;
    serde_json::to_string(&values).context("the values are no JSON")
}
