//! The command line of the demos.
//!
//! Exit codes: 0 if all went well, 1 if something was found to be wrong, 2 if a demo could not begin (a port in use, a bad
//! address, a directory that cannot be written to, a bad argument), each with one sentence on standard error.

use std::{num::NonZero, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, value_parser};
use greenprof_demos::{
    catalog, churn, console, contention, growth,
    guide::{self, Length},
    interrupt::Interrupt,
    latency::{self, LatencyError},
    retain,
    scenario::ScenarioError,
    serve::{self, ServeError},
    setup::SetupError,
    tour::{self, TourError, capture::CaptureError},
    trace_report::{self, ReportError},
    watch,
};
use greenprof_profiler::http::{MAX_SECONDS, server::DEFAULT_ADDRESS};
use greenprof_runtime::heap::Heap;

/// So that there are heap profiles.
#[global_allocator]
static HEAP: Heap = Heap::new();

/// Something was found to be wrong.
const WRONG: u8 = 1;

/// A demo could not begin; clap uses the same for bad arguments.
const REFUSED: u8 = 2;

/// Programs on green threads that are looked into while they run.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says which demos there are
    List,
    /// Prices orders of several tenants until Ctrl-C, with its port open
    Orders {
        #[command(flatten)]
        service: ServiceArgs,
        /// Ends after so many seconds
        #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
        seconds: Option<u64>,
    },
    /// Makes requests that are slow while the processor is idle, then not; shows both execution traces, and checks them
    Latency {
        /// Directory for the traces; made if it does not exist [default: a fresh one among the temporary files]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Prints only what was checked
        #[arg(long)]
        check: bool,
    },
    /// Sums up what each task of an execution trace did; Go's traces can be read, too
    TraceReport {
        /// The trace
        file: PathBuf,
    },
    /// Allocates without need, then not; shows both heap profiles side by side, and checks them
    Churn(ScenarioArgs),
    /// Holds memory in tasks that wait, then not; shows both heap profiles, and checks them
    Retain(ScenarioArgs),
    /// Lets tasks pile up, and shows the capture that a threshold made of them
    Watch(ScenarioArgs),
    /// Waits for a lock and a channel too often, then not; names both by the mutex and the block profile, and checks that
    Contention(WatchedArgs),
    /// Lets tasks grow from 100 to 10 000, then not; names what grows by the task profile, and checks that
    Growth(WatchedArgs),
    /// Looks at the orders demo through its port: captures, explains and checks every profile
    Tour {
        #[command(flatten)]
        service: ServiceArgs,
        /// Length of the CPU profile
        #[arg(long, value_name = "N", default_value_t = 5)]
        #[arg(value_parser = value_parser!(u64).range(1..=MAX_SECONDS as u64))]
        seconds: u64,
        /// Directory for the captured files; made if it does not exist [default: a fresh one among the temporary files]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Goes on serving afterwards, until Ctrl-C
        #[arg(long)]
        serve: bool,
        /// Prints the results as JSON
        #[arg(long)]
        json: bool,
    },
}

/// What the demos about memory understand.
#[derive(Debug, Args)]
struct ScenarioArgs {
    /// Number of threads that run tasks [default: one for each processor]
    #[arg(long, value_name = "N")]
    workers: Option<NonZero<usize>>,
    /// Directory for the profiles; made if it does not exist [default: a fresh one among the temporary files]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Prints the results as JSON
    #[arg(long)]
    json: bool,
}

/// What the demos understand that are to be looked at while they run.
#[derive(Debug, Args)]
struct WatchedArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// How long each of the two versions goes on
    #[arg(long, value_name = "N", default_value_t = guide::SECONDS)]
    #[arg(value_parser = value_parser!(u64).range(1..=MAX_SECONDS as u64))]
    seconds: u64,
    /// Goes through the work once, without waiting for somebody to look
    #[arg(long, conflicts_with = "seconds")]
    check: bool,
}

impl WatchedArgs {
    fn settings(self) -> guide::Settings {
        let Self { service: ServiceArgs { addr: address, workers }, seconds, check } = self;
        let length = if check { Length::Once } else { Length::For(Duration::from_secs(seconds)) };
        guide::Settings { address, workers: workers.map(NonZero::get), length }
    }
}

/// What every demo that serves understands.
#[derive(Debug, Args)]
struct ServiceArgs {
    /// Address of the port; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    addr: String,
    /// Number of threads that run tasks [default: one for each processor]
    #[arg(long, value_name = "N")]
    workers: Option<NonZero<usize>>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(WRONG),
        Err(error) => {
            console::note(&format!("greenprof-demos: {error}"));
            ExitCode::from(if could_not_begin(&error) { REFUSED } else { WRONG })
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::List => {
            console::print(&catalog::list());
            Ok(true)
        }
        Command::Orders { service, seconds } => {
            let interrupt = Interrupt::listen().map_err(SetupError::Interrupt)?;
            let settings =
                serve::Settings { address: service.addr, seconds, workers: service.workers.map(NonZero::get) };
            serve::run(&settings, &interrupt)?;
            Ok(true)
        }
        Command::Latency { out, check } => Ok(latency::run(&latency::Settings { out, check })?),
        Command::TraceReport { file } => {
            trace_report::run(&file)?;
            Ok(true)
        }
        Command::Churn(ScenarioArgs { workers, out, json }) => {
            Ok(churn::run(&churn::Settings { workers: workers.map(NonZero::get), out, json })?)
        }
        Command::Retain(ScenarioArgs { workers, out, json }) => {
            Ok(retain::run(&retain::Settings { workers: workers.map(NonZero::get), out, json })?)
        }
        Command::Watch(ScenarioArgs { workers, out, json }) => {
            Ok(watch::run(&watch::Settings { workers: workers.map(NonZero::get), out, json })?)
        }
        Command::Contention(arguments) => {
            let interrupt = Interrupt::listen().map_err(SetupError::Interrupt)?;
            Ok(contention::run(&arguments.settings(), &interrupt)?)
        }
        Command::Growth(arguments) => {
            let interrupt = Interrupt::listen().map_err(SetupError::Interrupt)?;
            Ok(growth::run(&arguments.settings(), &interrupt)?)
        }
        Command::Tour { service, seconds, out, serve, json } => {
            let interrupt = Interrupt::listen().map_err(SetupError::Interrupt)?;
            let (address, workers) = (service.addr, service.workers.map(NonZero::get));
            Ok(tour::run(&tour::Settings { address, seconds, workers, out, serve, json }, &interrupt)?)
        }
    }
}

/// Whether a demo was refused what it needs, rather than found to be wrong.
fn could_not_begin(error: &anyhow::Error) -> bool {
    error.is::<SetupError>()
        || matches!(error.downcast_ref(), Some(ServeError::Setup(_)))
        || matches!(error.downcast_ref(), Some(ScenarioError::Setup(_) | ScenarioError::Write { .. }))
        || matches!(error.downcast_ref(), Some(ReportError::Open { .. } | ReportError::Read { .. }))
        || matches!(
            error.downcast_ref(),
            Some(LatencyError::Scenario(ScenarioError::Setup(_) | ScenarioError::Write { .. }))
        )
        || matches!(error.downcast_ref(), Some(TourError::Setup(_) | TourError::Capture(CaptureError::Write { .. })))
}
