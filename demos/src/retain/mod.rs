//! `retain`: memory that tasks hold while they wait, found by `inuse_space` and its labels, and given back.
//!
//! Each task takes a payload in, computes its digest, and asks a partner to acknowledge that. One partner does not
//! answer. [`Keeping::Payload`] still has the payload on its stack while it waits, though only the digest is needed;
//! [`Keeping::Digest`] drops it before. The profile's label says whose memory it is, its stack who wanted it, and the
//! task profile what these tasks wait for.

use std::{
    fmt::Write as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::tasks;
use greenprof_runtime::{
    JoinHandle, Runtime, labels,
    sync::{Chan, WaitGroup},
    task,
};
use serde::Serialize;

use crate::{
    allocations::{self, Estimated},
    console::{self, BOLD, Paint},
    guide::Guide,
    interrupt::Interrupt,
    scenario::{Row, ScenarioError, Settings, save},
    setup,
    tour::checks::{self, Check},
};

const GUIDE: Guide<'static> = Guide {
    does: "600 tasks take in 128 KiB each and wait for their partner's answer; the partner of 300 does not answer, and these still \
           have their 37 MiB. Then the same, with the bytes dropped before the wait.",
    page: ("profiles", "capture `heap`: retain::receive has the width; labels: partner=stuck has all of it"),
    paths: &[
        ("heap?debug=1", "300 blocks of 128 KiB, from retain::receive"),
        ("goroutine?debug=1", "300 tasks in chan receive, with the label partner=stuck"),
    ],
    commands: &[
        ("pprof -inuse_space -top URL/heap", "retain::receive has what is in use"),
        ("pprof -inuse_space -tags URL/heap", "all of it is of partner stuck"),
    ],
};

/// Tasks of each partner.
const TASKS: usize = 300;

/// How long the waiting tasks are left alone between two looks at whether to go on.
const LOOK: Duration = Duration::from_millis(50);

/// Bytes of a payload, which fills whole pages.
const PAYLOAD: usize = 128 << 10;

/// The partner that does not answer, and the one that does.
const PARTNERS: [(&str, bool); 2] = [("stuck", false), ("swift", true)];

/// The label that tells whom a task waits for.
const KEY: &str = "partner";

/// The name of the tasks.
const TASK: &str = "delivery";

/// The function that wants the memory.
const RECEIVE: &str = "greenprof_demos::retain::receive";

/// How many standard errors an estimate may be away from the truth.
const STANDARD_ERRORS: f64 = 4.0;

/// The part of the bytes that may be left after the repair.
const LEFT: f64 = 0.05;

/// What a task keeps while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// The payload, which it does not need any more.
    Payload,
    /// What it needs.
    Digest,
}

/// What is in use while the tasks wait.
#[derive(Clone, Debug)]
struct Run {
    digests: u64,
    file: Vec<u8>,
    by_partner: Vec<Row>,
    by_function: Vec<Row>,
    in_use: Estimated,
    /// Tasks that the task profile shows waiting for the stuck partner.
    waiting: usize,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    directory: PathBuf,
    /// Bytes in use by partner and by function, while the tasks wait.
    before_by_partner: Vec<Row>,
    before_by_function: Vec<Row>,
    after_by_partner: Vec<Row>,
    checks: Vec<Check>,
    passed: bool,
}

/// Shows both. Whether everything that was checked was right.
///
/// # Errors
/// See [`ScenarioError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, ScenarioError> {
    let directory = setup::out_directory(settings.out.as_deref())?;
    let (server, runtime) = settings.begin(&GUIDE, interrupt)?;
    let watched = || settings.while_watched(interrupt, || thread::sleep(LOOK));
    let before = deliver(&runtime, Keeping::Payload, watched)?;
    let after = deliver(&runtime, Keeping::Digest, watched)?;
    server.shutdown();
    save(&directory, "before.pb.gz", &before.file)?;
    save(&directory, "after.pb.gz", &after.file)?;
    let checks = vec![
        checks::check(
            "both ways give the same",
            before.digests == after.digests,
            format!("digests {:016x} and {:016x}", before.digests, after.digests),
        ),
        holder_is_named(&before),
        estimate_fits(before.in_use, (TASKS * PAYLOAD) as f64),
        tasks_are_seen(before.waiting, after.waiting),
        memory_is_free(bytes_of(&before), bytes_of(&after)),
    ];
    let report = Report {
        directory,
        before_by_partner: before.by_partner,
        before_by_function: before.by_function,
        after_by_partner: after.by_partner,
        passed: checks.iter().all(|check| check.passed),
        checks,
    };
    if settings.json {
        console::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    } else {
        console::print(&render(&report, Paint::for_stdout()));
    }
    Ok(report.passed)
}

/// Takes a payload in.
#[inline(never)]
fn receive(number: u64) -> Vec<u8> {
    let mut payload = vec![0; PAYLOAD];
    // One byte of each page, so that it is really there.
    payload.iter_mut().step_by(4096).enumerate().for_each(|(at, byte)| *byte = (number as usize + at) as u8);
    payload
}

fn digest(payload: &[u8]) -> u64 {
    payload.iter().step_by(4096).fold(7, |digest, byte| digest * 31 % 1_000_000_007 + u64::from(*byte))
}

/// A task's work: the acknowledgement comes, or the channel is closed.
fn delivery(number: u64, keeping: Keeping, acknowledged: &Chan<()>, waiting: &WaitGroup) -> u64 {
    let payload = receive(number);
    let digest = digest(&payload);
    match keeping {
        Keeping::Payload => {
            waiting.done();
            acknowledged.recv();
            // Something below still mentions it, so it lives until here.
            drop(payload);
        }
        Keeping::Digest => {
            drop(payload);
            waiting.done();
            acknowledged.recv();
        }
    }
    digest
}

/// Starts the deliveries, looks at the heap when they wait, lets others look, and lets them end.
fn deliver(runtime: &Runtime, keeping: Keeping, watched: impl Fn()) -> Result<Run, ScenarioError> {
    let stuck = Chan::<()>::new();
    let swift = Chan::<()>::new();
    swift.close();
    let waiting = WaitGroup::new();
    let (started, measured) = allocations::measure("inuse_space", || {
        let mut started: Vec<JoinHandle<u64>> = Vec::with_capacity(TASKS * PARTNERS.len());
        for (partner, answers) in PARTNERS {
            let acknowledged = if answers { &swift } else { &stuck };
            labels::with(&[(KEY, partner)], || {
                for number in 0..TASKS as u64 {
                    waiting.add(1);
                    let (acknowledged, waiting) = (acknowledged.clone(), waiting.clone());
                    let body = move || delivery(number, keeping, &acknowledged, &waiting);
                    started.push(runtime.handle().spawn_with(task::Builder::new().name(TASK), body)?);
                }
                Ok::<(), ScenarioError>(())
            })?;
        }
        waiting.wait();
        let ended = started.split_off(TASKS);
        let sum = ended.into_iter().map(|task| task.join().unwrap_or(0)).fold(0, u64::wrapping_add);
        // Those of the stuck partner have said that they will wait; they do when the task profile says so.
        let deadline = Instant::now() + Duration::from_secs(20);
        while count_waiting() < TASKS && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        Ok::<_, ScenarioError>((started, sum, count_waiting()))
    })?;
    let (started, mut digests, waiting) = started?;
    watched();
    stuck.close();
    for task in started {
        digests = digests.wrapping_add(task.join().unwrap_or(0));
    }
    let rows = |key| Row::list(allocations::by_label(&measured.profile, "inuse_space", key));
    Ok(Run {
        digests,
        by_partner: rows(KEY),
        by_function: Row::list(allocations::by_function(&measured.profile, "inuse_space")),
        file: measured.file,
        in_use: measured.in_use,
        waiting,
    })
}

/// Tasks of the stuck partner that the task profile shows waiting for a message.
fn count_waiting() -> usize {
    let snapshot = tasks::snapshot();
    let waits = |task: &&tasks::Task| task.labels.get(KEY) == Some(PARTNERS[0].0) && task.status() == "chan receive";
    snapshot.tasks.iter().filter(waits).count()
}

fn bytes_of(run: &Run) -> i64 {
    run.by_partner.iter().find(|row| row.name == PARTNERS[0].0).map_or(0, |row| row.value)
}

/// The stuck partner has most of the memory in use, and the function that takes payloads in wanted it.
fn holder_is_named(run: &Run) -> Check {
    let (partner, function) = (run.by_partner.first(), run.by_function.first());
    let name = |row: Option<&Row>| row.map_or("nobody", |row| row.name.as_str()).to_owned();
    let found = format!("{KEY}={} holds most, allocated by {}", name(partner), name(function));
    let right = name(partner) == PARTNERS[0].0 && name(function) == RECEIVE;
    checks::check("inuse_space names the holder", right, found)
}

fn estimate_fits(estimate: Estimated, truth: f64) -> Check {
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    let found = format!(
        "{:.1} MiB estimated, +- {:.1} (1 standard error); the payloads have {:.1}",
        mebibytes(estimate.value),
        mebibytes(estimate.error),
        mebibytes(truth)
    );
    // Besides the payloads there are handles and packets of the tasks: a hundredth.
    let off = (estimate.value - truth).abs() - 0.01 * truth;
    checks::check("samples agree with the payloads", off <= STANDARD_ERRORS * estimate.error, found)
}

fn tasks_are_seen(before: usize, after: usize) -> Check {
    let found = format!("{before} and {after} tasks in chan receive, of {TASKS}");
    checks::check("the task profile shows who waits", before == TASKS && after == TASKS, found)
}

fn memory_is_free(before: i64, after: i64) -> Check {
    let found = format!("{} KiB in use for the stuck partner before, {} KiB after", before >> 10, after >> 10);
    checks::check("the repair helps", before > 0 && (after as f64) < LEFT * before as f64, found)
}

fn render(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    let heading = |text: &mut String, what: &str| {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "\n{}", paint.text(BOLD, what));
    };
    heading(&mut text, "In use while the tasks wait, by partner");
    text.push_str(&Row::table(&report.before_by_partner));
    heading(&mut text, "By function");
    text.push_str(&Row::table(&report.before_by_function));
    heading(&mut text, "By partner, when the payload is dropped before waiting");
    text.push_str(&Row::table(&report.after_by_partner));
    heading(&mut text, "What was found, against what was done");
    text.push_str(&checks::table(&report.checks, paint));
    heading(&mut text, "To look yourself");
    let file = |name| report.directory.join(name).display().to_string();
    let _ = writeln!(text, "  go tool pprof -inuse_space -top {}", file("before.pb.gz"));
    let _ = writeln!(text, "  go tool pprof -inuse_space -tags {}", file("before.pb.gz"));
    let _ =
        writeln!(text, "  go tool pprof -inuse_space -diff_base {} -top {}", file("before.pb.gz"), file("after.pb.gz"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_notice_what_is_wrong() {
        let estimate = |value, error| Estimated { value, error };
        assert!(
            estimate_fits(estimate(110.0, 3.0), 100.0).passed && !estimate_fits(estimate(120.0, 3.0), 100.0).passed
        );
        assert!(tasks_are_seen(TASKS, TASKS).passed && !tasks_are_seen(TASKS, 0).passed);
        assert!(memory_is_free(1000, 40).passed && !memory_is_free(1000, 60).passed && !memory_is_free(0, 0).passed);
        let row = |name: &str| vec![Row { name: name.to_owned(), value: 1 }];
        let run = |partner: &str, function: &str| Run {
            digests: 0,
            file: Vec::new(),
            by_partner: row(partner),
            by_function: row(function),
            in_use: Estimated::default(),
            waiting: 0,
        };
        assert!(holder_is_named(&run("stuck", RECEIVE)).passed);
        assert!(!holder_is_named(&run("swift", RECEIVE)).passed && !holder_is_named(&run("stuck", "x")).passed);
        assert_eq!(digest(&receive(5)), digest(&receive(5)));
    }
}
