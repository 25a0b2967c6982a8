//! `trace-report FILE`: what each task of an execution trace did, without Go's tools. The trace may be one of a Go program.

use std::{
    fmt::Write as _,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use greenprof_tracer::reader::{Histogram, ReadError, Summary, TaskSummary};
use thiserror::Error;

use crate::{
    console::{self, BOLD, Paint},
    table::{Table, count, seconds, shortened},
};

/// Groups of tasks that are shown.
const GROUPS: usize = 12;

/// Reasons that are shown of each.
const REASONS: usize = 3;

/// The longest name that is shown whole.
const NAME: usize = 48;

/// The widest bar of a histogram, in characters.
const BAR: u64 = 40;

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no trace, or a damaged one.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
}

/// Prints the report of a trace file.
///
/// # Errors
/// See [`ReportError`].
pub fn run(path: &Path) -> Result<(), ReportError> {
    let file = File::open(path).map_err(|source| ReportError::Open { path: path.to_owned(), source })?;
    let summary =
        Summary::read(BufReader::new(file)).map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
    console::print(&render(&summary, Paint::for_stdout()));
    Ok(())
}

/// A time in nanoseconds, for people.
pub fn time(nanoseconds: u64) -> String {
    seconds(nanoseconds as f64 / 1e9)
}

/// The report as text.
pub fn render(summary: &Summary, paint: Paint) -> String {
    let groups = summary.by_name();
    let tasks: u64 = groups.iter().map(|group| group.tasks).sum();
    let mut text = format!(
        "{} of {} events, {} tasks\n",
        time(summary.duration()),
        count(summary.totals().events()),
        count(tasks)
    );
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "\n{}", paint.text(BOLD, "Tasks by name, those that did not run for longest first"));
    let mut table = Table::new([">tasks", ">ran", ">runnable", ">syscall", ">waited", "for what", "name"]);
    for group in groups.iter().take(GROUPS) {
        table.row([
            count(group.tasks),
            time(group.running),
            time(group.runnable),
            time(group.syscall),
            time(group.blocked_total()),
            reasons(group),
            if group.name.is_empty() { "(no name)".into() } else { shortened(&group.name, NAME) },
        ]);
    }
    text.push_str(&table.render("  "));
    if groups.len() > GROUPS {
        let _ = writeln!(text, "  and {} more names", groups.len() - GROUPS);
    }
    let mut latency = Histogram::default();
    groups.iter().for_each(|group| latency.merge(&group.latency));
    let _ = writeln!(text, "\n{}", paint.text(BOLD, "Scheduling latency: from when a task could run until it ran"));
    text.push_str(&histogram(&latency));
    text
}

/// What a group waited for, the longest first.
pub fn reasons(group: &TaskSummary) -> String {
    let mut reasons: Vec<_> = group.blocked.iter().collect();
    reasons.sort_by_key(|(_, (time, _))| std::cmp::Reverse(*time));
    let reason = |(name, (waited, _)): &(&std::sync::Arc<str>, &(u64, u64))| {
        format!("{} {}", if name.is_empty() { "(since before)" } else { name }, time(*waited))
    };
    reasons.iter().take(REASONS).map(reason).collect::<Vec<_>>().join(", ")
}

fn histogram(latency: &Histogram) -> String {
    let most = latency.buckets().map(|(_, count)| count).max().unwrap_or(1);
    let mut table = Table::new([">from", ">count", ""]);
    for (from, number) in latency.buckets() {
        let bar = "#".repeat((number * BAR).div_ceil(most) as usize);
        table.row([time(from), count(number), bar]);
    }
    let mut text = table.render("  ");
    let quantile = |share| time(latency.quantile(share));
    let _ = writeln!(text, "  half below {}, 99% below {}", quantile(0.5), quantile(0.99));
    text
}
