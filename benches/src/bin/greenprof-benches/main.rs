//! What greenprof costs beside its peers: `report` prints the tables.
//!
//! 1. `sections` says what is compared with what, and what must come out.
//! 2. [`report`] takes the samples. Each is a process of its own: this program again, as `measure`, the Go peer, which
//!    [`go`] builds, or `heap-cost`, of which [`heap`] has two builds. All peers of a case run directly after each other, so a disturbance meets them alike.
//!    The corpus of leaks is run by [`detectors`].
//! 3. It divides the samples of one round by each other, and judges.
//! 4. [`results`] keeps what came out, if asked, and [`compare`] holds two such sets against each other.

mod columns;
mod compare;
mod detectors;
mod go;
mod heap;
mod report;
mod results;
mod sections;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use greenprof_benches::{
    accuracy,
    case::{Case, Effort},
    overhead,
    peers::Peer,
};
use greenprof_demos::leaks;

/// What a program that wants heap profiles uses. All Rust peers are measured with it; Go has its own.
#[global_allocator]
static HEAP: greenprof_runtime::heap::Heap = greenprof_runtime::heap::Heap::new();

/// What greenprof costs, beside its peers.
#[derive(Parser)]
#[command(name = "greenprof-benches")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure greenprof and its peers in one run, and print the table
    Report(report::Options),
    /// Say which differences between two result sets are real
    Compare(compare::Options),
    /// Take one sample in this process, and print it as JSON
    Measure(Measure),
}

#[derive(clap::Args)]
struct Measure {
    /// Who runs it
    #[arg(long)]
    peer: Peer,
    /// What is run
    #[arg(long, value_name = "CASE")]
    workload: Case,
    /// Threads that run tasks
    #[arg(long, default_value_t = 1)]
    workers: usize,
    #[command(flatten)]
    effort: Effort,
    /// Run what is counted under valgrind, and tell it what belongs to which setting
    #[arg(long, hide = true)]
    marked: bool,
}

fn main() -> ExitCode {
    // Programs of the corpus of leaks run in processes of their own, which are this program again.
    if let Some(code) = leaks::child::main() {
        return code;
    }
    let output = match Options::parse().command {
        Command::Report(options) => report::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Measure(options) => measure(&options),
    };
    match output {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("greenprof-benches: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Measure) -> anyhow::Result<String> {
    let Measure { peer, workload, workers, effort, marked } = *options;
    anyhow::ensure!(workers > 0, "at least one worker is needed");
    anyhow::ensure!(effort.operations > 0 && effort.batches > 0, "at least one operation is needed");
    let values = match peer {
        Peer::Greenprof if marked => overhead::run_marked(workload, workers, effort.operations)?,
        Peer::Greenprof => {
            match (accuracy::measure(workload, workers, effort)?, overhead::count(workload, workers, effort)?) {
                (None, None) => overhead::measure(workload, workers, effort)?,
                (accuracy, counts) => accuracy.or(counts),
            }
        }
        _ => None,
    };
    let values = values.map_or_else(|| peer.measure(workload, workers, effort), Ok)?;
    serde_json::to_string(&values).context("the values are no JSON")
}
