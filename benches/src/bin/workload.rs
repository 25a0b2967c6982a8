//! Runs one workload and prints what an operation costs, as one line of JSON.
//!
//! One process is one sample: where the stacks, the heap and the code lie differs from process to process, and moves such
//! numbers by more than many an effect that is looked for. `hooks-cost` runs it many times.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use greenprof_benches::{
    case::nanoseconds_each,
    sample::{Hooks, Sample},
    statistics::Summary,
    workload::Workload,
};
use greenprof_runtime::Runtime;
use nix::time::{ClockId, clock_gettime};

/// Runs one workload and prints what an operation costs, as one line of JSON.
#[derive(Parser)]
struct Options {
    /// Which one: yield, spawn-join or ping-pong
    workload: Workload,
    /// OS threads that run tasks
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Operations to measure; a tenth of them is run before, unmeasured
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// Into how many batches the operations are divided; the median batch counts
    #[arg(long, default_value_t = 20)]
    batches: u64,
    /// Install an instrument that counts every event
    #[arg(long)]
    instrument: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("workload: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<String> {
    let &Options { workload, workers, operations, batches, instrument } = options;
    ensure!(batches > 0, "at least one batch is needed to have a median");
    ensure!(operations >= batches, "{operations} operations are too few for {batches} batches");
    let _installed = instrument.then(instrument::install).transpose()?;
    let runtime = Runtime::builder().workers(workers).build()?;
    workload.run(&runtime, operations / 10);

    let batch = operations / batches;
    let begin = processor_time()?;
    let walls: Vec<f64> = (0..batches).map(|_| nanoseconds_each(workload.run(&runtime, batch), batch)).collect();
    let spent = processor_time()? - begin;

    drop(runtime); // the counts are exact only then
    let sample = Sample {
        workload: workload.name().to_owned(),
        workers,
        hooks: match (cfg!(feature = "hooks"), instrument) {
            (false, _) => Hooks::Absent,
            (true, false) => Hooks::Off,
            (true, true) => Hooks::On,
        },
        operations: batch * batches,
        wall_ns: Summary::of(&walls).median,
        cpu_ns: spent / (batch * batches) as f64,
        events: instrument.then(instrument::events),
    };
    serde_json::to_string(&sample).context("the sample is no JSON")
}

/// Nanoseconds of processor time that all threads of the process have used.
fn processor_time() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("the process has no CPU clock")?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

/// The instrument of the variant with hooks switched on.
#[cfg(feature = "hooks")]
mod instrument {
    use greenprof_tracer::counts;

    pub use greenprof_tracer::counts::install;

    pub fn events() -> u64 {
        let counts = counts::total();
        counts.spawned + counts.resumed + counts.left + counts.woken + counts.waited
    }
}

/// A build without hooks has none.
#[cfg(not(feature = "hooks"))]
mod instrument {
    pub fn install() -> anyhow::Result<()> {
        anyhow::bail!("this program was built without hooks, so it cannot have an instrument")
    }

    pub fn events() -> u64 {
        0
    }
}
