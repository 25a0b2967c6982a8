//! What stands below the tasks in the text of a report: what to make of it, who waits for whom, and what it cost.

use std::fmt::Write;

use greenprof_runtime::task::TaskId;

use super::report::{Leak, Mode, Primitive, Report, WaitsOn};

/// Lines of the wait graph that a text has.
const MOST_LINES: usize = 200;
/// Tasks that are named in one line.
const MOST_NAMED: usize = 5;

/// Comment lines: why nothing is certain, if so; the errors of the detector; what was looked at, and what it cost.
pub(super) fn remarks(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    if let Some(reason) = report.incomplete() {
        let _ = writeln!(text, "# candidates only, not leaks: {reason}");
    }
    if report.errors > 0 {
        let _ = writeln!(text, "# detector errors: {} tasks that were reported have run since", report.errors);
    }
    let cost = &report.cost;
    if let Some(reason) = report.not_copied {
        let _ = writeln!(text, "# not looked for in a copy of the process: {reason}");
    }
    if report.mode == Mode::Fork {
        let _ = writeln!(
            text,
            "# looked for in a copy of the process, made in {:?}; {} page faults of the program while it was there",
            cost.cloning, cost.faults
        );
    }
    if report.passes > 1 {
        let _ = writeln!(text, "# what {} passes agree on; the figures are those of the last", report.passes);
    }
    let _ = writeln!(
        text,
        "# {} tasks, {} of them blocked; stopped for {:?}; looked for {:?} at {} words",
        report.counts.tasks, report.counts.blocked, cost.stopped, cost.marking, cost.words
    );
    text
}

/// The wait graph as comment lines: deadlocks first, then what each task waits for, and who could wake it.
pub(super) fn graph(report: &Report) -> String {
    let mut text = String::new();
    for deadlock in &report.deadlocks {
        text.push_str("# deadlock:");
        for (at, (task, lock)) in deadlock.tasks.iter().enumerate() {
            let separator = if at == 0 { "" } else { ";" };
            let _ = write!(text, "{separator} {} waits for {}", named(report, *task), lock_of(report, *task, *lock));
        }
        text.push('\n');
    }
    for leak in report.tasks.iter().take(MOST_LINES) {
        let _ = writeln!(text, "# {}", line(leak, report));
    }
    if report.tasks.len() > MOST_LINES {
        let _ = writeln!(text, "# and {} tasks more: format=json has all", report.tasks.len() - MOST_LINES);
    }
    text
}

/// A task, and what it waits for.
pub(super) fn line(leak: &Leak, report: &Report) -> String {
    let hostage = if leak.hostage { ", hostage of a leaked task" } else { "" };
    let since = leak.task.waiting_for.as_secs();
    let since = if since > 0 { format!(", {since} s") } else { String::new() };
    let waits: Vec<String> = leak.waits_on.iter().map(|on| waits_on(leak.id(), on, report)).collect();
    let waits = if waits.is_empty() { "something that nobody can bring about".to_owned() } else { waits.join(" or ") };
    format!("{} [{}{since}{hostage}] waits for {waits}", named_leak(leak), leak.reason())
}

fn waits_on(task: TaskId, on: &WaitsOn, report: &Report) -> String {
    match on {
        WaitsOn::Task(task) => format!("the end of {}", named(report, *task)),
        WaitsOn::Primitive(primitive) => {
            let others = || primitive.held_by.iter().filter(|holder| **holder != task);
            let count = others().count();
            let mut names: Vec<String> = others().take(MOST_NAMED).map(|task| named(report, *task)).collect();
            if count > MOST_NAMED {
                names.push(format!("{} more", count - MOST_NAMED));
            }
            let held = match (count, primitive.held_by.len()) {
                (0, 0) => ", which nobody has any more".to_owned(),
                (0, _) => ", which only it can wake itself".to_owned(),
                _ => format!(", which only these could wake: {}", names.join(", ")),
            };
            format!("{}{held}", described(primitive))
        }
    }
}

fn lock_of(report: &Report, task: TaskId, lock: u32) -> String {
    let leak = report.tasks.iter().find(|leak| leak.id() == task);
    let primitive = leak.and_then(|leak| {
        leak.waits_on.iter().find_map(|on| match on {
            WaitsOn::Primitive(primitive) if primitive.number == lock => Some(primitive),
            _ => None,
        })
    });
    let Some(primitive) = primitive else { return format!("lock {lock}") };
    let held: Vec<String> = primitive.held_by.iter().map(|task| named(report, *task)).collect();
    format!("{} held by {}", described(primitive), held.join(", "))
}

/// Its kind, its number, and where it was made.
fn described(primitive: &Primitive) -> String {
    let made = primitive.created_at.map_or_else(String::new, |at| format!(" made at {at}"));
    format!("{:?} {}{made}", primitive.kind, primitive.number)
}

fn named(report: &Report, task: TaskId) -> String {
    // In the order of their numbers.
    match report.tasks.binary_search_by_key(&task, Leak::id) {
        Ok(at) => named_leak(&report.tasks[at]),
        Err(_) => format!("task {task}"),
    }
}

fn named_leak(leak: &Leak) -> String {
    match &leak.task.name {
        Some(name) => format!("task {} {name:?}", leak.id()),
        None => format!("task {}", leak.id()),
    }
}
