//! What the tour has found, for people and for scripts.

use std::{fmt::Write, net::SocketAddr, path::PathBuf};

use serde::Serialize;

use super::{
    capture::{Captured, File, ROOT, cpu_query},
    checks::{self, Check},
    contention::ContentionReport,
    cpu::{CpuReport, LabelRow},
    heap::HeapReport,
    leaks::LeakReport,
    tasks::ReasonRow,
    trace::{self, TraceReport},
};
use crate::{
    console::{BOLD, Paint},
    orders::load::BUSY_TENANT,
    scenario::Row,
    table::{Table, bytes, count, percent, seconds, shortened},
};

/// The longest function name that a table shows whole.
const NAME: usize = 56;

/// The longest place.
const PLACE: usize = 44;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The port.
    pub address: SocketAddr,
    /// How many workers the service has.
    pub workers: usize,
    /// Where the files are.
    pub directory: PathBuf,
    /// The files.
    pub files: Vec<File>,
    /// Orders finished a second, while the CPU profile was taken.
    pub orders_per_second: f64,
    /// The CPU profile.
    pub cpu: CpuReport,
    /// The task profile, by state.
    pub tasks: Vec<ReasonRow>,
    /// The heap profiles.
    pub heap: HeapReport,
    /// The contention profiles.
    pub contention: ContentionReport,
    /// The leak report.
    pub leaks: LeakReport,
    /// The execution trace.
    pub trace: TraceReport,
    /// Remarks of the task profile on itself.
    pub task_notes: Vec<String>,
    /// Whether what was found is what was done.
    pub checks: Vec<Check>,
    /// Whether all checks have passed.
    pub passed: bool,
}

impl Report {
    /// The report as text.
    pub fn render(&self, paint: Paint, captured: &Captured, length: u64, serve: bool) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "\n{}", paint.text(BOLD, &format!("Files in {}", self.directory.display())));
        text.push_str(&self.files_table());
        let heading = format!(
            "CPU profile: {} of CPU in {}, {} samples, while {} orders a second were handled",
            seconds(self.cpu.cpu_seconds),
            seconds(self.cpu.seconds),
            count(self.cpu.samples.unsigned_abs()),
            count(self.orders_per_second as u64),
        );
        let _ = writeln!(text, "\n{}", paint.text(BOLD, &heading));
        text.push_str(&self.functions_table());
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "CPU by tenant"));
        text.push_str(&label_table("tenant", &self.cpu.tenants, self.cpu.cpu_seconds, Some(BUSY_TENANT)));
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "CPU by route"));
        text.push_str(&label_table("route", &self.cpu.routes, self.cpu.cpu_seconds, None));
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "How complete the CPU profile is"));
        for note in &self.cpu.notes {
            let _ = writeln!(text, "  {note}");
        }
        let tasks = self.tasks.iter().map(|row| row.tasks).sum();
        let _ = writeln!(text, "\n{}", paint.text(BOLD, &format!("Tasks by what they wait for: {}", count(tasks))));
        text.push_str(&self.tasks_table());
        for note in &self.task_notes {
            let _ = writeln!(text, "  {note}");
        }
        text.push_str(&self.heap_tables(paint));
        for (heading, table) in self.contention.tables() {
            let _ = writeln!(text, "\n{}\n{}", paint.text(BOLD, heading), table.trim_end());
        }
        for note in &self.contention.notes {
            let _ = writeln!(text, "  {note}");
        }
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "Leaked tasks: nobody alive can wake them"));
        text.push_str(&self.leaks.render());
        let _ = writeln!(text, "\n{}", paint.text(BOLD, &self.trace.heading()));
        text.push_str(&self.trace.render());
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "What was found, against what was done"));
        text.push_str(&self.checks_table(paint));
        let _ = writeln!(text, "\n{}", paint.text(BOLD, "To look yourself"));
        text.push_str(&commands(captured, self.address, length, serve));
        text
    }

    fn files_table(&self) -> String {
        let mut table = Table::new(["file", ">size", "from"]);
        for file in &self.files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            table.row([name, bytes(file.bytes), file.url.clone()]);
        }
        table.render("  ")
    }

    fn functions_table(&self) -> String {
        let mut table = Table::new([">flat", ">flat%", ">cum", ">cum%", "function", "most time at"]);
        let total = self.cpu.cpu_seconds;
        for row in &self.cpu.functions {
            let name = shortened(&row.function, NAME);
            table.row([
                seconds(row.flat_seconds),
                percent(row.flat_seconds, total),
                seconds(row.cum_seconds),
                percent(row.cum_seconds, total),
                if row.inlined { format!("{name} (inline)") } else { name },
                place(&row.file, row.line),
            ]);
        }
        table.render("  ")
    }

    fn tasks_table(&self) -> String {
        let mut table = Table::new([">tasks", "state", "who"]);
        for row in &self.tasks {
            let mut who: Vec<String> = row.names.iter().map(|(name, tasks)| format!("{tasks} {name}")).collect();
            if row.others > 0 {
                who.push(format!("{} others", row.others));
            }
            table.row([count(row.tasks), row.reason.clone(), who.join(", ")]);
        }
        table.render("  ")
    }

    fn heap_tables(&self, paint: Paint) -> String {
        let mut text = String::new();
        let parts = [
            ("Memory in use, by function", &self.heap.in_use),
            ("Memory allocated, by function", &self.heap.allocated),
            ("Memory allocated, by tenant", &self.heap.tenants),
        ];
        for (heading, rows) in parts {
            let _ = writeln!(text, "\n{}", paint.text(BOLD, heading));
            text.push_str(&Row::table(rows));
        }
        for note in &self.heap.notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }

    fn checks_table(&self, paint: Paint) -> String {
        checks::table(&self.checks, paint)
    }
}

/// Time by a label, beside the orders that it went to. `busy` is the label whose share is told in multiples of the others.
fn label_table(key: &str, rows: &[LabelRow], total: f64, busy: Option<&str>) -> String {
    let mut table = Table::new([key, ">CPU", ">share", ">samples", ">orders", ">orders%", ">CPU an order"]);
    let all: u64 = rows.iter().filter_map(|row| row.orders).sum();
    for row in rows {
        let orders = row.orders.unwrap_or(0);
        table.row([
            row.label.clone(),
            seconds(row.cpu_seconds),
            percent(row.cpu_seconds, total),
            count(row.samples.unsigned_abs()),
            row.orders.map(count).unwrap_or_default(),
            row.orders.map(|orders| percent(orders as f64, all as f64)).unwrap_or_default(),
            if orders > 0 { seconds(row.cpu_seconds / orders as f64) } else { String::new() },
        ]);
    }
    let mut text = table.render("  ");
    if let Some((cpu, orders)) = busy.and_then(|busy| multiples(rows, busy)) {
        let _ = writeln!(
            text,
            "  {} has {cpu:.2} times the CPU and {orders:.2} times the orders of another",
            busy.unwrap_or_default()
        );
    }
    text
}

/// How many times the CPU and the orders of the mean of the others a label has.
fn multiples(rows: &[LabelRow], busy: &str) -> Option<(f64, f64)> {
    let first = rows.iter().find(|row| row.label == busy)?;
    let others: Vec<&LabelRow> = rows.iter().filter(|row| row.label != busy && row.orders.is_some()).collect();
    let cpu = others.iter().map(|row| row.cpu_seconds).sum::<f64>() / others.len() as f64;
    let orders = others.iter().filter_map(|row| row.orders).sum::<u64>() as f64 / others.len() as f64;
    (cpu > 0.0 && orders > 0.0).then(|| (first.cpu_seconds / cpu, first.orders.unwrap_or(0) as f64 / orders))
}

/// File and line, without the folders that say where a program was built.
fn place(file: &str, line: i64) -> String {
    if file.is_empty() {
        return String::new();
    }
    let from = match file.rfind("/src/") {
        // With the crate's folder.
        Some(src) => file[..src].rfind('/').map_or(0, |slash| slash + 1),
        None => file.rmatch_indices('/').nth(1).map_or(0, |(slash, _)| slash + 1),
    };
    let place = shortened(&file[from..], PLACE);
    if line > 0 { format!("{place}:{line}") } else { place }
}

/// What to type to see more.
fn commands(captured: &Captured, address: SocketAddr, length: u64, serve: bool) -> String {
    let file = |asked: &str| captured.path(asked).map(|path| quoted(&path.display().to_string())).unwrap_or_default();
    let cpu = file(&cpu_query(length));
    let tasks = file("goroutine");
    let mut lines = vec![
        format!("go tool pprof -top {cpu}"),
        format!("go tool pprof -top -tagfocus=tenant={BUSY_TENANT} {cpu}"),
        format!("go tool pprof -tags {tasks}"),
        format!("go tool pprof -top {}", file("allocs")),
        format!("go tool pprof -top {}", file("heap")),
        format!("go tool pprof -top -cum {}", file("block")),
        format!("go tool trace {}", file(&trace::asked())),
        format!("greenprof-demos trace-report {}", file(&trace::asked())),
        format!("go tool pprof -http=: {cpu}"),
    ];
    if serve {
        lines.push(format!("go tool pprof -http=: 'http://{address}{ROOT}{}'", cpu_query(length)));
        lines.push(format!("curl 'http://{address}{ROOT}goroutine?debug=2'"));
    } else {
        lines.push("greenprof-demos tour --serve   (keeps the service and its port for these tools)".to_owned());
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_start_at_the_crate() {
        let places = [
            ("/home/ida/greenprof/demos/src/orders/price.rs", 88),
            ("/home/ida/.cargo/registry/src/index.crates.io-1/serde_json-1.0.1/src/de.rs", 7),
            ("/build/glibc/string/memset.S", 0),
            ("a.rs", 1),
            ("", 3),
        ];
        let places = places.map(|(file, line)| place(file, line));
        assert_eq!(
            places,
            ["demos/src/orders/price.rs:88", "serde_json-1.0.1/src/de.rs:7", "string/memset.S", "a.rs:1", ""]
        );
    }

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted("/tmp/a-b_1.gz"), "/tmp/a-b_1.gz");
        assert_eq!(quoted("/tmp/a b's"), "'/tmp/a b'\\''s'");
    }

    #[test]
    fn a_label_table_tells_cost_and_multiples() {
        let row = |label: &str, samples: i64, orders| LabelRow {
            label: label.to_owned(),
            samples,
            cpu_seconds: samples as f64 / 100.0,
            orders,
        };
        let rows = [
            row("acme", 300, Some(3000)),
            row("b", 90, Some(1000)),
            row("c", 110, Some(1000)),
            row("(none)", 50, None),
        ];
        let text = label_table("tenant", &rows, 5.5, Some("acme"));
        assert_eq!(
            text,
            "  tenant     CPU  share  samples  orders  orders%  CPU an order\n  \
               acme    3.00 s  54.5%      300   3 000    60.0%          1 ms\n  \
               b       900 ms  16.4%       90   1 000    20.0%        900 µs\n  \
               c       1.10 s  20.0%      110   1 000    20.0%          1 ms\n  \
               (none)  500 ms   9.1%       50\n  \
               acme has 3.00 times the CPU and 3.00 times the orders of another\n"
        );
    }

    #[test]
    fn checks_say_pass_or_fail_in_a_column() {
        let checks = vec![
            Check { name: "short", passed: true, found: "fine".to_owned() },
            Check { name: "longer name", passed: false, found: "not".to_owned() },
        ];
        let report = Report {
            address: ([127, 0, 0, 1], 1).into(),
            workers: 1,
            directory: PathBuf::new(),
            files: vec![],
            orders_per_second: 0.0,
            cpu: CpuReport::default(),
            tasks: vec![],
            heap: HeapReport::default(),
            contention: ContentionReport::default(),
            leaks: LeakReport::default(),
            trace: TraceReport::default(),
            task_notes: vec![],
            checks,
            passed: false,
        };
        assert_eq!(report.checks_table(Paint::off()), "  PASS  short        fine\n  FAIL  longer name  not\n");
        assert!(report.checks_table(Paint::off()).lines().all(|line| line.starts_with("  ")));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["passed"], false);
    }
}
