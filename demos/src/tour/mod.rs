//! `tour`: looks at `orders` through its own port, says what it sees, and checks that against what was done.
//!
//! 1. The port is opened and the directory made: what can be refused is refused before anything runs.
//! 2. The service starts, and works until the end.
//! 3. Every profile is captured through the port ([`capture`]), by a plain thread that knows no more than a tool outside.
//! 4. The files are read back ([`profile`]) and summed up ([`cpu`], [`tasks`], [`heap`], [`contention`], [`leaks`],
//!    [`trace`]), and judged ([`checks`]).

pub mod capture;
pub mod checks;
pub mod client;
pub mod contention;
pub mod cpu;
pub mod heap;
pub mod leaks;
pub mod profile;
pub mod report;
pub mod tasks;
pub mod trace;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::{set_block_profile_rate, set_mutex_profile_fraction};
use thiserror::Error;

use crate::{
    console::{self, Paint},
    interrupt::Interrupt,
    orders::{
        Service, StopError, forgotten,
        load::BUSY_TENANT,
        parked::{LABEL, PARKED},
        price::HOT_FUNCTION,
        store::WRITER_FUNCTION,
        tally::Counts,
    },
    serve,
    setup::{self, SetupError},
};
use capture::{CaptureError, Captured, Capturer, cpu_query};
use contention::ContentionReport;
use cpu::{CpuReport, Values};
use heap::HeapReport;
use leaks::LeakReport;
use profile::{Profile, ReadError};
use report::Report;
use trace::TraceReport;

/// How long the service works before it is looked at: the tasks that wait are in place then.
const WARM_UP: Duration = Duration::from_millis(300);

/// Nanoseconds of waiting to a sample of the block profile, about.
const BLOCK_RATE: u64 = 10_000;

/// What a tour is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the port is.
    pub address: String,
    /// How long the CPU profile is.
    pub seconds: u64,
    /// How many workers.
    pub workers: Option<usize>,
    /// Where the files go.
    pub out: Option<PathBuf>,
    /// Whether the service goes on afterwards.
    pub serve: bool,
    /// Whether the result is JSON.
    pub json: bool,
}

/// Why a tour came to no result.
#[derive(Debug, Error)]
pub enum TourError {
    /// It did not begin.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Something could not be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A capture could not be read.
    #[error("{asked}: {source}")]
    Read {
        /// What was asked for.
        asked: String,
        /// What is wrong.
        source: ReadError,
    },
    /// The trace could not be read.
    #[error("{asked}: {source}")]
    Trace {
        /// What was asked for.
        asked: String,
        /// What is wrong.
        source: greenprof_tracer::reader::ReadError,
    },
    /// The port does not have what the tour is about.
    #[error("the port does not offer {0}")]
    NotOffered(String),
    /// The CPU profile is none.
    #[error("what the port gave as CPU profile does not count samples and CPU time")]
    NoCpu,
    /// The service did wrong.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// The report is not printable.
    #[error("the report could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Takes the tour. Whether everything that was checked was right.
///
/// # Errors
/// See [`TourError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, TourError> {
    let server = setup::open_port(&settings.address)?;
    let directory = setup::out_directory(settings.out.as_deref())?;
    set_block_profile_rate(BLOCK_RATE).map_err(SetupError::Rate)?;
    set_mutex_profile_fraction(1).map_err(SetupError::Rate)?;
    let service = setup::start_orders(settings.workers)?;
    let address = server.local_addr();
    console::note(&format!(
        "orders runs on {} workers; its port is http://{address}{}",
        service.workers(),
        capture::ROOT
    ));
    thread::sleep(WARM_UP);

    let mut capturer = Capturer::new(address, &directory);
    capturer.listed()?;
    let (before, start) = (service.counts(), Instant::now());
    capturer.cpu(settings.seconds)?;
    let (counts, elapsed) = (service.counts().since(&before), start.elapsed());
    capturer.trace()?;
    let captured = capturer.finish();

    let seen = Seen::read(&captured, settings.seconds)?;
    let mut report = seen.report(&service, &counts);
    report.address = address;
    report.directory = directory;
    report.orders_per_second = counts.total() as f64 / elapsed.as_secs_f64();
    report.files = captured.files.clone();
    if settings.json {
        console::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    } else {
        console::print(&report.render(Paint::for_stdout(), &captured, settings.seconds, settings.serve));
    }

    if settings.serve {
        interrupt.end_in_order();
        console::note(&format!("\nThe service goes on at http://{address}{} until Ctrl-C.", capture::ROOT));
        serve::until_asked(&service, interrupt, None);
    }
    service.stop()?;
    server.shutdown();
    Ok(report.passed)
}

/// The captures, read back.
struct Seen {
    cpu: Profile,
    values: Values,
    tasks: Profile,
    task_counts: Option<tasks::Counted>,
    task_dump: Vec<tasks::Dumped>,
    heap: Profile,
    allocs: Profile,
    block: Profile,
    mutex: Profile,
    leaks: LeakReport,
    trace: TraceReport,
    /// Bytes allocated as the allocator has counted, after `allocs` was captured and before `heap` was.
    counted: Option<u64>,
}

impl Seen {
    fn read(captured: &Captured, seconds: u64) -> Result<Self, TourError> {
        let profile = |asked: &str| {
            let body = captured.body(asked).ok_or_else(|| TourError::NotOffered(asked.to_owned()))?;
            Profile::read(body).map_err(|source| TourError::Read { asked: asked.to_owned(), source })
        };
        let text = |asked: &str| captured.text(asked).ok_or_else(|| TourError::NotOffered(asked.to_owned()));
        let cpu = profile(&cpu_query(seconds))?;
        let traced = trace::asked();
        let trace = captured.body(&traced).ok_or_else(|| TourError::NotOffered(traced.clone()))?;
        Ok(Self {
            values: Values::of(&cpu).ok_or(TourError::NoCpu)?,
            cpu,
            tasks: profile("goroutine")?,
            task_counts: tasks::read_counts(&text("goroutine?debug=1")?, LABEL),
            task_dump: tasks::read_dump(&text("goroutine?debug=2")?),
            heap: profile("heap")?,
            allocs: profile("allocs")?,
            block: profile("block")?,
            mutex: profile("mutex")?,
            leaks: LeakReport::read(&text(leaks::ASKED)?)
                .ok_or_else(|| TourError::NotOffered(leaks::ASKED.to_owned()))?,
            trace: TraceReport::read(trace).map_err(|source| TourError::Trace { asked: traced, source })?,
            // The profiles are captured in the order of their names.
            counted: heap::figure(&text("allocs?debug=1")?, "TotalAlloc"),
        })
    }

    /// Sums up and judges. What does not come from a profile is left for the caller to fill in.
    fn report(&self, service: &Service, counts: &Counts) -> Report {
        let parked = tasks::census(&self.tasks, Some(LABEL));
        let cpu = CpuReport::new(&self.cpu, self.values, &counts.by_tenant(), &counts.by_route());
        let checks = vec![
            checks::orders_are_right(counts, &service.verify()),
            checks::hot_function(&self.cpu, self.values, HOT_FUNCTION),
            checks::busy_tenant(&cpu.tenants, BUSY_TENANT),
            checks::labels_fit(&self.cpu, self.values, HOT_FUNCTION, WRITER_FUNCTION),
            checks::coverage(&self.cpu),
            checks::stacks_are_whole(&self.cpu),
            checks::parked_are_seen(&parked),
            checks::parked_use_nothing(&self.cpu, self.values, LABEL),
            checks::forms_agree(&parked, self.task_counts, &tasks::dump_census(&self.task_dump, LABEL)),
            heap::types_are_gos(&self.heap, &self.allocs),
            heap::labels_fit(&self.allocs),
            heap::estimates_fit(&self.allocs, self.counted, &self.heap),
            contention::types_are_gos(&self.block, &self.mutex),
            contention::waits_are_seen(&self.block),
            self.leaks.forgotten_are_found(forgotten::NAME, forgotten::COUNT as u64),
            self.trace.parked_wait(&PARKED),
        ];
        Report {
            address: ([127, 0, 0, 1], 0).into(),
            workers: service.workers(),
            directory: PathBuf::new(),
            files: Vec::new(),
            orders_per_second: 0.0,
            cpu,
            tasks: tasks::by_reason(&tasks::census(&self.tasks, None)),
            heap: HeapReport::new(&self.heap, &self.allocs),
            contention: ContentionReport::new(&self.block, &self.mutex),
            leaks: self.leaks.clone(),
            trace: self.trace.clone(),
            task_notes: self.tasks.comments.clone(),
            passed: checks.iter().all(|check| check.passed),
            checks,
        }
    }
}
