//! `churn`: a job that is slow because it allocates without need, found by `alloc_space`, and repaired.
//!
//! Tasks turn lines of a log into keys. [`wasteful`] makes a string for each field and grows another one piece by
//! piece; [`thrifty`] writes into a buffer that was made large enough once, and that a pool gives to one task after
//! another. The heap profile of the first names the functions whose memory is thrown away at once; beside it stands
//! that of the second.

pub mod thrifty;
pub mod wasteful;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use greenprof_runtime::Runtime;
use serde::Serialize;

use crate::{
    allocations::{self, Measured},
    console::{self, BOLD, Paint},
    guide::Guide,
    interrupt::Interrupt,
    scenario::{Row, ScenarioError, Settings, save},
    setup,
    table::{Table, count, percent, seconds},
    tour::checks::{self, Check},
};

const GUIDE: Guide<'static> = Guide {
    does: "Eight tasks turn lines of a log into keys, with a new string for each field; then the same into buffers that are used \
           again.",
    page: (
        "live",
        "`allocated` goes up by hundreds of MiB a second while `in use` stays; then `#profiles`, kind `allocs`",
    ),
    paths: &[("allocs?debug=1", "wasteful::key has most bytes; nearly nothing of it is in use")],
    commands: &[
        ("pprof -sample_index=alloc_space -top URL/allocs", "wasteful::key has nearly all of the bytes allocated"),
        ("pprof -top URL/heap", "and none of those in use: what is thrown away at once is no leak"),
        ("pprof -top 'URL/profile?seconds=5'", "the CPU that this costs: allocating, freeing, copying"),
    ],
};

/// Lines that the job works on, again and again.
const LINES: usize = 1000;

/// Passes over the lines. In both ways together they allocate enough for some thousand samples.
const PASSES: usize = 600;

/// Tasks that share the passes.
const TASKS: usize = 8;

/// The part of the bytes that may be left after the repair.
const LEFT: f64 = 0.01;

/// How many standard errors an estimate may be away from the truth.
const STANDARD_ERRORS: f64 = 4.0;

/// One way of doing the job, and what it has cost.
#[derive(Clone, Debug)]
struct Run {
    checksum: u64,
    elapsed: Duration,
    measured: Measured,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    directory: PathBuf,
    /// Bytes allocated, by function, the largest first.
    before: Vec<Row>,
    after: Vec<Row>,
    checks: Vec<Check>,
    passed: bool,
}

/// Does the job in both ways. Whether everything that was checked was right.
///
/// # Errors
/// See [`ScenarioError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, ScenarioError> {
    let directory = setup::out_directory(settings.out.as_deref())?;
    let (server, runtime) = settings.begin(&GUIDE, interrupt)?;
    let lines: Arc<[String]> = (0..LINES as u64).map(line).collect();
    // Once without being measured, so that neither way pays for what happens only once.
    work(&runtime, &lines, 1, wasteful::keys);
    work(&runtime, &lines, 1, thrifty::keys);
    let watched = |job| settings.while_watched(interrupt, || work(&runtime, &lines, PASSES / TASKS, job));
    watched(wasteful::keys);
    let before = measured(&runtime, &lines, wasteful::keys)?;
    watched(thrifty::keys);
    let after = measured(&runtime, &lines, thrifty::keys)?;
    let report = report(&directory, &before, &after)?;
    server.shutdown();
    if settings.json {
        console::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    } else {
        console::print(&render(&report, &before, &after, Paint::for_stdout()));
    }
    Ok(report.passed)
}

/// A line of the log.
fn line(number: u64) -> String {
    let host = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    format!(
        "GET /orders/{number}/items host-{host:x}.example.net tenant-{} {} {}",
        number % 7,
        number % 500,
        host % 9000
    )
}

type Job = fn(&[String], usize) -> u64;

/// Shares the passes among tasks, and adds up what they find.
fn work(runtime: &Runtime, lines: &Arc<[String]>, passes: usize, job: Job) -> u64 {
    let handle = runtime.handle();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let lines = lines.clone();
            handle.spawn(move || job(&lines, passes))
        })
        .collect();
    tasks.into_iter().map(|task| task.map_or(0, |task| task.join().unwrap_or(0))).fold(0, u64::wrapping_add)
}

fn measured(runtime: &Runtime, lines: &Arc<[String]>, job: Job) -> Result<Run, ScenarioError> {
    let start = Instant::now();
    let (checksum, measured) = allocations::measure("alloc_space", || work(runtime, lines, PASSES / TASKS, job))?;
    Ok(Run { checksum, elapsed: start.elapsed(), measured })
}

fn report(directory: &Path, before: &Run, after: &Run) -> Result<Report, ScenarioError> {
    save(directory, "before.pb.gz", &before.measured.file)?;
    save(directory, "after.pb.gz", &after.measured.file)?;
    let rows = |run: &Run| Row::list(allocations::by_function(&run.measured.profile, "alloc_space"));
    let (before_rows, after_rows) = (rows(before), rows(after));
    let checks = vec![
        same_result(before.checksum, after.checksum),
        waste_is_named(&before_rows),
        estimate_fits(&before.measured),
        waste_is_gone(before.measured.counted, after.measured.counted),
    ];
    Ok(Report {
        directory: directory.to_owned(),
        passed: checks.iter().all(|check| check.passed),
        before: before_rows,
        after: after_rows,
        checks,
    })
}

fn same_result(before: u64, after: u64) -> Check {
    checks::check("both ways give the same", before == after, format!("checksums {before:016x} and {after:016x}"))
}

/// The functions that waste memory have nearly all of what was allocated.
fn waste_is_named(rows: &[Row]) -> Check {
    let all: i64 = rows.iter().map(|row| row.value).sum();
    let wasted: i64 = rows.iter().filter(|row| row.name.starts_with(wasteful::PATH)).map(|row| row.value).sum();
    let found =
        format!("{} of the allocated bytes are those of {}", percent(wasted as f64, all as f64), wasteful::PATH);
    checks::check("alloc_space names the waste", all > 0 && wasted as f64 > 0.9 * all as f64, found)
}

fn estimate_fits(measured: &Measured) -> Check {
    let (estimate, truth) = (measured.allocated, measured.counted as f64);
    let found = format!(
        "{:.1} MiB estimated, +- {:.1} (1 standard error); the allocator has counted {:.1}",
        mebibytes(estimate.value),
        mebibytes(estimate.error),
        mebibytes(truth)
    );
    let fits = (estimate.value - truth).abs() <= STANDARD_ERRORS * estimate.error;
    checks::check("samples agree with the count", fits && estimate.value > 0.0, found)
}

fn waste_is_gone(before: u64, after: u64) -> Check {
    let found = format!(
        "{:.1} MiB before, {:.2} MiB after, as the allocator counts",
        mebibytes(before as f64),
        mebibytes(after as f64)
    );
    checks::check("the repair helps", before > 0 && (after as f64) < LEFT * before as f64, found)
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn render(report: &Report, before: &Run, after: &Run, paint: Paint) -> String {
    let mut text = String::new();
    let heading = |text: &mut String, what: &str| {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "\n{}", paint.text(BOLD, what));
    };
    heading(&mut text, "Side by side");
    let mut table = Table::new(["", ">before", ">after"]);
    table.row(["time".into(), seconds(before.elapsed.as_secs_f64()), seconds(after.elapsed.as_secs_f64())]);
    table.row(["allocations".into(), count(before.measured.count), count(after.measured.count)]);
    let size = |run: &Run| format!("{:.1} MiB", mebibytes(run.measured.counted as f64));
    table.row(["allocated".into(), size(before), size(after)]);
    text.push_str(&table.render("  "));
    heading(&mut text, "alloc_space before, by function");
    text.push_str(&Row::table(&report.before));
    heading(&mut text, "alloc_space after");
    text.push_str(&Row::table(&report.after));
    heading(&mut text, "What was found, against what was done");
    text.push_str(&checks::table(&report.checks, paint));
    heading(&mut text, "To look yourself");
    for file in ["before.pb.gz", "after.pb.gz"] {
        let _ = writeln!(text, "  go tool pprof -alloc_space -top {}", report.directory.join(file).display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same_and_the_checks_notice_if_not() {
        let lines: Vec<String> = (0..50).map(line).collect();
        assert_eq!(wasteful::keys(&lines, 2), thrifty::keys(&lines, 2));
        assert!(same_result(7, 7).passed && !same_result(7, 8).passed);
        let row = |name: &str, value| Row { name: name.to_owned(), value };
        let waste = format!("{}::key", wasteful::PATH);
        assert!(waste_is_named(&[row(&waste, 95), row("other", 5)]).passed);
        assert!(!waste_is_named(&[row(&waste, 80), row("other", 20)]).passed);
        assert!(!waste_is_named(&[]).passed);
        assert!(waste_is_gone(1000, 9).passed && !waste_is_gone(1000, 11).passed && !waste_is_gone(0, 0).passed);
    }
}
