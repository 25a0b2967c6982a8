//! The command line of the demos.
//!
//! Exit codes: 0 if all went well, 1 if something was found to be wrong, 2 if a demo could not begin (a port in use, a bad
//! address, a directory that cannot be written to, a bad argument), each with one sentence on standard error.

use std::{num::NonZero, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, value_parser};
use greenprof_demos::{
    catalog, churn, console, contention, deadlock, growth,
    guide::{self, Length},
    hotpath,
    interrupt::Interrupt,
    latency::{self, LatencyError},
    leaks::{
        self, LeaksError,
        detector::DETECTORS,
        matrix::{self, Build, MatrixError},
        program::Kind,
        scene::Frame,
        stress,
    },
    retain,
    scenario::{ScenarioError, Settings},
    serve::{self, ServeError},
    setup::{self, SetupError},
    tour::{self, TourError, capture::CaptureError},
    trace_report::{self, ReportError},
    watch,
};
use greenprof_profiler::http::{MAX_SECONDS, server::DEFAULT_ADDRESS};
use greenprof_profiler::leak::Mode;
use greenprof_runtime::heap::Heap;

/// So that there are heap profiles.
#[global_allocator]
static HEAP: Heap = Heap::new();

/// Something was found to be wrong.
const WRONG: u8 = 1;

/// A demo could not begin; clap uses the same for bad arguments.
const REFUSED: u8 = 2;

/// Programs that `leaks --check` runs: small ones of each group.
const CHECKED_PROGRAMS: [&str; 5] =
    ["patterns", "simple/chan_recv", "simple/mutex_heap", "simple/no_leak_global", "sound/sleeper"];

/// Length of the CPU profile of `orders --check`.
const CHECKED_SECONDS: u64 = 5;

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
        /// Takes all profiles once and checks what they say, as `tour` does; with --seconds, the CPU profile has that length
        #[arg(long)]
        check: bool,
    },
    /// Makes requests that are slow while the processor is idle, then not; shows both execution traces, and checks them
    Latency(ScenarioArgs),
    /// Computes too much, for one tenant most of all, then not; names both by the CPU profile, and checks that
    Hotpath(WatchedArgs),
    /// Lets two tasks wait for each other's lock, then not; names the circle by the leak detector, and checks that
    Deadlock(WatchedArgs),
    /// Sums up what each task of an execution trace did; Go's traces can be read, too
    TraceReport {
        /// The trace
        file: PathBuf,
    },
    /// Allocates without need, then not; shows both heap profiles side by side, and checks them
    Churn(ScenarioArgs),
    /// Runs programs of which is known what leaks, and compares it with what a detector reports
    Leaks(LeaksArgs),
    /// Runs random programs in which nothing is leaked under the leak detector, and proves that every blocked task could be woken
    LeakStress(StressArgs),
    /// Runs all known-leaky programs and the stress in all builds, and writes a table; goes on where it was stopped
    LeakMatrix(MatrixArgs),
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

/// What the demos understand that write files.
#[derive(Debug, Args)]
struct ScenarioArgs {
    #[command(flatten)]
    watched: WatchedArgs,
    /// Directory for the profiles; made if it does not exist [default: a fresh one among the temporary files]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Prints the results as JSON, and goes through the work once
    #[arg(long)]
    json: bool,
}

impl ScenarioArgs {
    fn settings(self) -> Settings {
        let Self { watched, out, json } = self;
        let guide::Settings { address, workers, length } = watched.settings();
        Settings { address, workers, length: if json { Length::Once } else { length }, out, json }
    }
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

/// What `leak-stress` understands.
#[derive(Debug, Args)]
struct StressArgs {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u64,
    /// Number of threads that run tasks
    #[arg(long, value_name = "N", default_value_t = NonZero::new(2).expect("not zero"))]
    workers: NonZero<usize>,
    /// The detector: leak, or leak-fork
    #[arg(long, value_name = "NAME", value_parser = own_detector, default_value = OWN_DETECTORS[0])]
    detector: &'static str,
    /// Where the random numbers begin [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Prints the result as JSON
    #[arg(long)]
    json: bool,
}

/// What `leak-matrix` understands.
#[derive(Debug, Args)]
struct MatrixArgs {
    /// In this build only: debug, release, lto, or this for the one that runs; may be given several times [default: all but this]
    #[arg(long, value_name = "BUILD", value_parser = matrix_build)]
    build: Vec<Build>,
    /// With so many threads that run tasks; may be given several times [default: 1, 2, 4]
    #[arg(long, value_name = "N")]
    workers: Vec<NonZero<usize>>,
    /// With this detector only: leak, or leak-fork; may be given several times [default: both]
    #[arg(long, value_name = "NAME", value_parser = own_detector)]
    detector: Vec<&'static str>,
    /// Only these programs of the corpus [default: all]
    #[arg(long, value_name = "ID")]
    program: Vec<String>,
    /// Runs of each form
    #[arg(long, value_name = "N", default_value_t = NonZero::new(20).expect("not zero"))]
    runs: NonZero<u32>,
    /// How long each stress lasts
    #[arg(long, value_name = "N", default_value_t = 600)]
    stress_seconds: u64,
    /// Where results are kept meanwhile
    #[arg(long, value_name = "FILE", default_value = "target/leak-matrix.jsonl")]
    state: PathBuf,
    /// The table
    #[arg(long, value_name = "FILE", default_value = "docs/results/leak-matrix.md")]
    into: PathBuf,
}

/// The project's own, in their two modes.
const OWN_DETECTORS: [&str; 2] = ["leak", "leak-fork"];

fn own_detector(text: &str) -> Result<&'static str, String> {
    OWN_DETECTORS.into_iter().find(|name| *name == text).ok_or_else(|| format!("choose {}", OWN_DETECTORS.join(" or ")))
}

fn matrix_build(text: &str) -> Result<Build, String> {
    let found = Build::ALL.into_iter().chain([Build::This]).find(|build| build.name() == text);
    found.ok_or_else(|| "choose debug, release, lto or this".to_owned())
}

/// What `leaks` understands.
#[derive(Debug, Args)]
struct LeaksArgs {
    /// Programs: a group (simple, patterns, goker, sound), a name, or both as group/name [default: all]
    #[arg(value_name = "ID")]
    programs: Vec<String>,
    /// Says which programs and detectors there are
    #[arg(long, exclusive = true)]
    list: bool,
    /// Runs one program slowly, and shows its growth, the leak report, who waits for whom, and the fix
    #[arg(long, value_name = "ID", conflicts_with_all = ["programs", "json", "markdown"])]
    explain: Option<String>,
    /// With --explain: opens the port here, and keeps it open afterwards, with what has leaked, until Ctrl-C
    #[arg(long, value_name = "HOST:PORT", requires = "explain")]
    addr: Option<String>,
    /// Runs of each form
    #[arg(long, value_name = "N", default_value_t = NonZero::<u32>::MIN)]
    runs: NonZero<u32>,
    /// Number of threads that run tasks [default: one for each processor]
    #[arg(long, value_name = "N")]
    workers: Option<NonZero<usize>>,
    /// Only forms of this kind: natural, forced, or rust; may be given several times [default: forced]
    #[arg(long, value_name = "FORM", value_parser = kind)]
    form: Vec<Kind>,
    /// Only with the program's creating frame in this state: alive, or returned [default: both]
    #[arg(long, value_name = "FRAME", value_parser = frame)]
    frame: Option<Frame>,
    /// The detector
    #[arg(long, value_name = "NAME", value_parser = detector_name, default_value = DETECTORS[0].name)]
    detector: &'static str,
    /// Processes at a time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// The least mean recall with the frame alive, in percent, without failure
    #[arg(long, value_name = "PERCENT", default_value_t = 80.0)]
    floor: f64,
    /// Says of what was missed why the detector takes it for alive
    #[arg(long)]
    why: bool,
    /// Runs a few small programs of each group once, in their forced forms
    #[arg(long, conflicts_with_all = ["programs", "form", "frame", "runs"])]
    check: bool,
    /// Prints the results as JSON
    #[arg(long)]
    json: bool,
    /// Prints the table of docs/leaks-in-rust.md
    #[arg(long, conflicts_with_all = ["json", "form", "frame"])]
    markdown: bool,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| "choose natural, forced or rust".to_owned())
}

fn frame(text: &str) -> Result<Frame, String> {
    Frame::named(text).ok_or_else(|| "choose alive or returned".to_owned())
}

fn detector_name(text: &str) -> Result<&'static str, String> {
    let names: Vec<&'static str> = DETECTORS.iter().map(|entry| entry.name).collect();
    let found = names.iter().copied().find(|name| *name == text);
    found.ok_or_else(|| format!("choose one of {}", names.join(", ")))
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
    if let Some(code) = leaks::child::main() {
        return code;
    }
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
        Command::Orders { service, seconds, check: true } => {
            let interrupt = listen()?;
            let (address, workers) = (service.addr, service.workers.map(NonZero::get));
            let seconds = seconds.unwrap_or(CHECKED_SECONDS);
            let settings = tour::Settings { address, seconds, workers, out: None, serve: false, json: false };
            Ok(tour::run(&settings, &interrupt)?)
        }
        Command::Orders { service, seconds, check: false } => {
            let interrupt = listen()?;
            let settings =
                serve::Settings { address: service.addr, seconds, workers: service.workers.map(NonZero::get) };
            serve::run(&settings, &interrupt)?;
            Ok(true)
        }
        Command::Latency(arguments) => Ok(latency::run(&arguments.settings(), &listen()?)?),
        Command::TraceReport { file } => {
            trace_report::run(&file)?;
            Ok(true)
        }
        Command::Churn(arguments) => Ok(churn::run(&arguments.settings(), &listen()?)?),
        Command::Leaks(arguments) => run_leaks(arguments),
        Command::Retain(arguments) => Ok(retain::run(&arguments.settings(), &listen()?)?),
        Command::Watch(arguments) => Ok(watch::run(&arguments.settings(), &listen()?)?),
        Command::Contention(arguments) => Ok(contention::run(&arguments.settings(), &listen()?)?),
        Command::Growth(arguments) => Ok(growth::run(&arguments.settings(), &listen()?)?),
        Command::Hotpath(arguments) => Ok(hotpath::run(&arguments.settings(), &listen()?)?),
        Command::Deadlock(arguments) => Ok(deadlock::run(&arguments.settings(), &listen()?)?),
        Command::LeakStress(arguments) => run_leak_stress(&arguments),
        Command::LeakMatrix(arguments) => run_leak_matrix(arguments),
        Command::Tour { service, seconds, out, serve, json } => {
            let interrupt = listen()?;
            let (address, workers) = (service.addr, service.workers.map(NonZero::get));
            Ok(tour::run(&tour::Settings { address, seconds, workers, out, serve, json }, &interrupt)?)
        }
    }
}

fn listen() -> Result<Interrupt, SetupError> {
    Interrupt::listen().map_err(SetupError::Interrupt)
}

fn run_leaks(arguments: LeaksArgs) -> Result<bool> {
    if arguments.list {
        console::print(&leaks::list());
        return Ok(true);
    }
    if let Some(id) = arguments.explain {
        let server = arguments.addr.as_deref().map(setup::open_port).transpose()?;
        leaks::explain(&id, server.as_ref(), console::Paint::for_stdout())?;
        return Ok(true);
    }
    let sort = match (arguments.json, arguments.markdown) {
        (true, _) => leaks::Sort::Json,
        (_, true) => leaks::Sort::Markdown,
        _ => leaks::Sort::Table,
    };
    let kinds = match arguments.form {
        _ if arguments.markdown => vec![Kind::Rust],
        kinds if kinds.is_empty() => vec![Kind::Forced],
        kinds => kinds,
    };
    let frames = match arguments.frame {
        Some(frame) => vec![frame],
        None if arguments.markdown => vec![Frame::Returned],
        None => vec![Frame::Alive, Frame::Returned],
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    Ok(leaks::run(&leaks::Settings {
        programs: if arguments.check { CHECKED_PROGRAMS.map(str::to_owned).to_vec() } else { arguments.programs },
        runs: arguments.runs.get(),
        workers: arguments.workers.map(NonZero::get),
        kinds,
        frames,
        detector: arguments.detector,
        jobs: arguments.jobs.map_or(processors, NonZero::get),
        floor: arguments.floor,
        why: arguments.why,
        sort,
    })?)
}

fn run_leak_stress(arguments: &StressArgs) -> Result<bool> {
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    let outcome = stress::run(stress::Settings {
        length: Duration::from_secs(arguments.seconds),
        workers: arguments.workers.get(),
        mode: if arguments.detector == OWN_DETECTORS[0] { Mode::Stop } else { Mode::Fork },
        seed: arguments.seed.unwrap_or_else(now),
    })?;
    let json = serde_json::to_string(&outcome)?;
    console::print(&if arguments.json { format!("{json}\n") } else { format!("{outcome:#?}\n") });
    Ok(outcome.is_sound())
}

fn run_leak_matrix(arguments: MatrixArgs) -> Result<bool> {
    fn or_all<T>(chosen: Vec<T>, all: impl FnOnce() -> Vec<T>) -> Vec<T> {
        if chosen.is_empty() { all() } else { chosen }
    }
    let workers: Vec<usize> = arguments.workers.into_iter().map(NonZero::get).collect();
    Ok(matrix::run(&matrix::Settings {
        builds: or_all(arguments.build, || Build::ALL.to_vec()),
        workers: or_all(workers, || vec![1, 2, 4]),
        detectors: or_all(arguments.detector, || OWN_DETECTORS.to_vec()),
        programs: arguments.program,
        runs: arguments.runs.get(),
        stress: Duration::from_secs(arguments.stress_seconds),
        state: arguments.state,
        into: arguments.into,
    })?)
}

/// Whether a demo was refused what it needs, rather than found to be wrong.
fn could_not_begin(error: &anyhow::Error) -> bool {
    error.is::<SetupError>()
        || matches!(
            error.downcast_ref(),
            Some(LeaksError::NoProgram(_) | LeaksError::NoForm | LeaksError::NoLeak(_) | LeaksError::Start { .. })
        )
        || error.is::<MatrixError>()
        || matches!(error.downcast_ref(), Some(ServeError::Setup(_)))
        || matches!(error.downcast_ref(), Some(ScenarioError::Setup(_) | ScenarioError::Write { .. }))
        || matches!(error.downcast_ref(), Some(ReportError::Open { .. } | ReportError::Read { .. }))
        || matches!(
            error.downcast_ref(),
            Some(LatencyError::Scenario(ScenarioError::Setup(_) | ScenarioError::Write { .. }))
        )
        || matches!(error.downcast_ref(), Some(TourError::Setup(_) | TourError::Capture(CaptureError::Write { .. })))
}
