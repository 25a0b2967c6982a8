//! What the execution trace says: what every task did with its time.

use greenprof_tracer::reader::{ReadError, Summary, TaskSummary};
use serde::Serialize;

use super::checks::{Check, check};
use crate::{
    orders::parked::Parked,
    table::{Table, bytes, count, percent, seconds, shortened},
    trace_report::reasons,
};

/// How long the trace is, in seconds: some MiB of a service that is busy.
pub const SECONDS: u64 = 1;

/// What is asked for.
pub fn asked() -> String {
    format!("trace?seconds={SECONDS}")
}

/// Rows of the table.
const ROWS: usize = 12;

/// The longest name that the table shows whole.
const NAME: usize = 40;

/// The part of the trace's time for which a task that only waits may seem to do something else.
const INEXACT: f64 = 0.01;

/// Tasks of one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceRow {
    /// Their name.
    pub name: String,
    /// How many.
    pub tasks: u64,
    /// How long they ran, all together.
    pub running_seconds: f64,
    /// How long they waited for a processor.
    pub runnable_seconds: f64,
    /// How long they waited for something else.
    pub waited_seconds: f64,
    /// What for, the longest first.
    pub waited_for: String,
}

/// The trace, summed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TraceReport {
    /// From the first event to the last.
    pub seconds: f64,
    /// How many events there are.
    pub events: u64,
    /// The file's length.
    pub bytes: usize,
    /// By name, those that did not run for longest first.
    pub rows: Vec<TraceRow>,
}

impl TraceReport {
    /// Reads a trace.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(file: &[u8]) -> Result<Self, ReadError> {
        let summary = Summary::read(file)?;
        let row = |group: TaskSummary| TraceRow {
            name: group.name.to_string(),
            tasks: group.tasks,
            running_seconds: group.running as f64 / 1e9,
            runnable_seconds: group.runnable as f64 / 1e9,
            waited_seconds: (group.blocked_total() + group.syscall) as f64 / 1e9,
            waited_for: reasons(&group),
        };
        Ok(Self {
            seconds: summary.duration() as f64 / 1e9,
            events: summary.totals().events(),
            bytes: file.len(),
            rows: summary.by_name().into_iter().map(row).collect(),
        })
    }

    /// What it is about, in a line.
    pub fn heading(&self) -> String {
        format!(
            "Execution trace: {} with {} events in {}",
            seconds(self.seconds),
            count(self.events),
            bytes(self.bytes)
        )
    }

    /// The tasks as a table.
    pub fn render(&self) -> String {
        let mut table = Table::new([">tasks", ">ran", ">runnable", ">waited", "for what", "name"]);
        for row in self.rows.iter().take(ROWS) {
            table.row([
                count(row.tasks),
                seconds(row.running_seconds),
                seconds(row.runnable_seconds),
                seconds(row.waited_seconds),
                row.waited_for.clone(),
                if row.name.is_empty() { "(no name)".into() } else { shortened(&row.name, NAME) },
            ]);
        }
        table.render("  ")
    }

    /// Tasks that only wait do so from the first event to the last.
    pub fn parked_wait(&self, parked: &[Parked]) -> Check {
        const NAME: &str = "who waits does so in the trace";
        let mut tasks = 0;
        let mut off = Vec::new();
        for Parked { name, count, .. } in parked {
            let row = self.rows.iter().find(|row| row.name == *name);
            let (found, waited) = row.map_or((0, 0.0), |row| (row.tasks, row.waited_seconds));
            tasks += found;
            let wanted = *count as f64 * self.seconds;
            if found != *count as u64 || waited < wanted * (1.0 - INEXACT) {
                off.push(format!("{found} of {count} {name} for {} of the time", percent(waited, wanted)));
            }
        }
        let found = match off.is_empty() {
            true => format!("{tasks} tasks, from the first of {} events to the last", count(self.events)),
            false => off.join("; "),
        };
        check(NAME, self.events > 0 && off.is_empty(), found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARKED: [Parked; 1] = [Parked { name: "waits", count: 2, reason: "sleep", story: "" }];

    fn report(tasks: u64, waited_seconds: f64) -> TraceReport {
        let row = TraceRow {
            name: "waits".into(),
            tasks,
            running_seconds: 0.0,
            runnable_seconds: 0.0,
            waited_seconds,
            waited_for: "sleep".into(),
        };
        TraceReport { seconds: 1.0, events: 10, bytes: 100, rows: vec![row] }
    }

    #[test]
    fn tasks_that_are_missing_or_that_ran_are_told() {
        assert!(report(2, 2.0).parked_wait(&PARKED).passed);
        let missing = report(1, 1.0).parked_wait(&PARKED);
        assert!(!missing.passed && missing.found.contains("1 of 2 waits"), "{missing:?}");
        let ran = report(2, 1.9).parked_wait(&PARKED);
        assert!(!ran.passed && ran.found.contains("95.0%"), "{ran:?}");
        assert!(!TraceReport::default().parked_wait(&[]).passed, "no events");
        assert!(report(2, 2.0).render().contains("waits") && report(2, 2.0).heading().contains("10 events"));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        assert!(TraceReport::read(b"go 1.5 trace").is_err());
    }
}
