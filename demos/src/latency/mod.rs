//! `latency`: requests that are slow while the processor has nothing to do.
//!
//! Each request looks something up in a store that is far away, and holds a lock while it waits for the answer: so requests
//! queue for the lock, one behind the other (a *convoy*). A task beside them computes for some milliseconds at a time without
//! letting others run, which delays all that have become runnable. A CPU profile shows only that task. The
//! execution trace says what requests wait for. In the repaired version the lock is held only for the moment in
//! which something shared is changed, and the computation yields.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{Runtime, SpawnError, sleep, sync::Mutex, task, yield_now};
use greenprof_tracer::reader::{ReadError, Summary, TaskSummary};
use thiserror::Error;

use crate::{
    console::{self, BOLD, Paint},
    guide::{Guide, Length},
    interrupt::Interrupt,
    scenario::{ScenarioError, Settings, save},
    setup::{self, SetupError},
    table::{Table, percent},
    tour::checks::{self, Check},
    trace_report::{self, time},
};

const GUIDE: Guide<'static> = Guide {
    does: "Twenty clients make requests that hold a lock while they wait 2 ms for an answer, and a computation holds the one worker for \
           6 ms at a time. Then the same with the lock held for a moment only, and a computation that yields.",
    page: (
        "trace",
        "record 1 s: one request at a time sleeps with the lock, all others wait in sync.Mutex.Lock; `statistics` runs in \
                     long bars, and who became runnable meanwhile waits for it",
    ),
    paths: &[("goroutine?debug=1", "most tasks in sync.Mutex.Lock, in latency::request")],
    commands: &[
        ("pprof -top 'URL/profile?seconds=5'", "latency::compute, and nothing of the requests: waiting uses no CPU"),
        ("pprof -tags 'URL/wall?seconds=5'", "what all tasks did with their time: most of it is a wait for the lock"),
        ("trace after.trace", "the traces that this demo writes; without Go, `greenprof-demos trace-report FILE`"),
    ],
};

/// Tasks that make requests at the same time, and how many each makes.
const CLIENTS: usize = 20;
const REQUESTS: usize = 15;

/// How long the store takes to answer.
const ANSWER: Duration = Duration::from_millis(2);

/// How long the computation takes at a time, and the pause after it. Shorter than what the monitor takes for stuck.
const BURST: Duration = Duration::from_millis(6);
const PAUSE: Duration = Duration::from_millis(14);

/// How often the repaired computation lets others run.
const SLICE: Duration = Duration::from_micros(100);

/// The name of the tasks that make requests.
const CLIENT: &str = "request";

/// Why the demo came to no result.
#[derive(Debug, Error)]
pub enum LatencyError {
    /// As for other scenarios.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// No trace could be taken.
    #[error(transparent)]
    Start(#[from] greenprof_tracer::StartError),
    /// The trace is not whole.
    #[error(transparent)]
    Stop(#[from] greenprof_tracer::StopError),
    /// The trace is not valid, which is a defect of greenprof.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<SetupError> for LatencyError {
    fn from(error: SetupError) -> Self {
        Self::Scenario(error.into())
    }
}

impl From<SpawnError> for LatencyError {
    fn from(error: SpawnError) -> Self {
        Self::Scenario(error.into())
    }
}

/// How requests and the computation behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Slow,
    Repaired,
}

struct Run {
    file: Vec<u8>,
    summary: Summary,
    elapsed: Duration,
    clients: TaskSummary,
}

/// Runs both versions and shows what their traces say. Whether everything that was checked was right.
///
/// # Errors
/// See [`LatencyError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, LatencyError> {
    let directory = setup::out_directory(settings.out.as_deref())?;
    let (server, runtime) = Settings { workers: Some(1), ..settings.clone() }.begin(&GUIDE, interrupt)?;
    let watched = |version| settings.while_watched(interrupt, || runtime.run(|| work(version)));
    watched(Version::Slow);
    let before = measure(&runtime, Version::Slow)?;
    watched(Version::Repaired);
    let after = measure(&runtime, Version::Repaired)?;
    server.shutdown();
    save(&directory, "before.trace", &before.file)?;
    save(&directory, "after.trace", &after.file)?;
    let checks = checks(&before, &after);
    let paint = Paint::for_stdout();
    let mut text = String::new();
    let is_watched = settings.length != Length::Once;
    if is_watched {
        for (what, run) in [("Before", &before), ("After", &after)] {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{}\n{}", paint.text(BOLD, what), trace_report::render(&run.summary, paint));
        }
        let _ = writeln!(text, "{}", paint.text(BOLD, "Side by side"));
        let mut table = Table::new(["", ">before", ">after"]);
        let mut row = |what: &str, value: fn(&Run) -> u64| {
            table.row([what.into(), time(value(&before)), time(value(&after))]);
        };
        row("all requests", |run| run.elapsed.as_nanos() as u64);
        row("a request, on average", |run| run.elapsed.as_nanos() as u64 / REQUESTS as u64);
        row("of it waiting for the lock", |run| waited_for_lock(run) / (CLIENTS * REQUESTS) as u64);
        row("of it waiting for a processor", |run| run.clients.runnable / (CLIENTS * REQUESTS) as u64);
        row("of it running", |run| run.clients.running / (CLIENTS * REQUESTS) as u64);
        text.push_str(&table.render("  "));
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "What was found, against what was done"));
    }
    text.push_str(&checks::table(&checks, paint));
    if is_watched {
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "To look yourself"));
        for file in ["before.trace", "after.trace"] {
            let _ = writeln!(text, "  go tool trace {}", directory.join(file).display());
        }
    }
    console::print(&text);
    Ok(checks.iter().all(|check| check.passed))
}

fn measure(runtime: &Runtime, version: Version) -> Result<Run, LatencyError> {
    let trace = greenprof_tracer::start(Vec::new())?;
    let start = Instant::now();
    runtime.run(|| work(version))?;
    let elapsed = start.elapsed();
    let (file, _) = trace.stop()?;
    let summary = Summary::read(&file[..])?;
    let clients = summary.by_name().into_iter().find(|group| &*group.name == CLIENT).unwrap_or_default();
    Ok(Run { file, summary, elapsed, clients })
}

/// All requests, with the computation beside them.
fn work(version: Version) -> Result<(), SpawnError> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let computing = task::Builder::new().name("statistics").spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            compute(version);
            sleep(PAUSE);
        }
    })?;
    let store = Arc::new(Mutex::new(0_u64));
    let clients: Result<Vec<_>, _> = (0..CLIENTS)
        .map(|_| {
            let store = store.clone();
            task::Builder::new().name(CLIENT).spawn(move || (0..REQUESTS).for_each(|_| request(&store, version)))
        })
        .collect();
    for client in clients? {
        let _ = client.join();
    }
    stop.store(true, Ordering::Relaxed);
    let _ = computing.join();
    Ok(())
}

/// One request.
fn request(store: &Mutex<u64>, version: Version) {
    match version {
        Version::Slow => {
            let mut store = store.lock();
            sleep(ANSWER);
            *store += 1;
        }
        Version::Repaired => {
            sleep(ANSWER);
            *store.lock() += 1;
        }
    }
}

/// Uses the processor for the length of a burst.
fn compute(version: Version) {
    let (start, mut slice) = (Instant::now(), Instant::now());
    while start.elapsed() < BURST {
        if version == Version::Repaired && slice.elapsed() >= SLICE {
            yield_now();
            slice = Instant::now();
        }
        std::hint::spin_loop();
    }
}

fn waited_for_lock(run: &Run) -> u64 {
    run.clients.blocked.get("sync.Mutex.Lock").map_or(0, |(time, _)| *time)
}

fn checks(before: &Run, after: &Run) -> Vec<Check> {
    let all = |run: &Run| (run.clients.blocked_total() + run.clients.runnable + run.clients.running) as f64;
    let share = |run: &Run| waited_for_lock(run) as f64 / all(run).max(1.0);
    let convoy = format!("{} of the requests' time is a wait for the lock", percent(share(before), 1.0));
    let gone = format!("{} in the repaired version", percent(share(after), 1.0));
    let ran = before.clients.running as f64;
    let idle = format!("requests run for {} of their time", percent(ran, all(before)));
    let latency = |run: &Run| run.clients.latency.quantile(0.99);
    // A burst's length is what the program did. The repaired version's delays are not compared: other programs add theirs.
    let burst = BURST.as_nanos() as u64;
    let delay = format!(
        "99% of the starts within {}, with bursts of {}; {} in the repaired version",
        time(latency(before)),
        time(burst),
        time(latency(after))
    );
    vec![
        checks::check("requests use no CPU", ran < 0.1 * all(before), idle),
        checks::check("the trace shows the convoy", share(before) > 0.6, convoy),
        checks::check("the repair ends it", share(after) < 0.2 * share(before), gone),
        checks::check("the trace shows scheduling delay", latency(before) >= burst / 2, delay),
        checks::check(
            "requests are faster",
            after.elapsed < before.elapsed,
            format!(
                "{} before, {} after",
                time(before.elapsed.as_nanos() as u64),
                time(after.elapsed.as_nanos() as u64)
            ),
        ),
    ]
}
