//! `leaks`: a detection, as data for the page: leaked tasks in groups that are alike, who waits for whom, circles of locks, and what is
//! blocked but not leaked. `why`: why a blocked task is not.
//!
//! | path | parameter | meaning |
//! |---|---|---|
//! | `leaks` | `mode=fork` | as for `/debug/pprof/goroutineleak` |
//! | `why` | `task=N` | the task |
//!
//! Each request stops the program while its memory is looked through, as `/debug/pprof/goroutineleak` does.

mod graph;
mod why;

use std::{collections::HashMap, panic::Location, time::Duration};

use greenprof_runtime::{heap, world::TaskState};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{
    http::{
        Ask, Page,
        reply::{self, Reply},
    },
    leak::{self, Leak, Report, View, detect_with, why_alive},
    symbolize::{self, Symbolizer, names::shown_frames},
    tasks::{self, Task},
};

/// Groups of leaked tasks that are told, the largest first.
const GROUPS: usize = 100;

/// Numbers of tasks that a group tells.
const TASKS: usize = 20;

/// Blocked tasks that are told, those that have waited longest.
const BLOCKED: usize = 50;

pub(super) struct Leaks;

impl Page for Leaks {
    fn path(&self) -> &str {
        "/debug/pprof/ui/leaks"
    }

    fn description(&self) -> &str {
        ""
    }

    fn answer(&self, ask: &Ask) -> Reply {
        let options = match View::parse(|name| ask.query.get(name)) {
            Ok(View::Leaked(options, _)) => options,
            Ok(_) => {
                return reply::error(StatusCode::BAD_REQUEST, "this path has the leaked tasks only: leave out `tier`");
            }
            Err(message) => return reply::error(StatusCode::BAD_REQUEST, message),
        };
        match detect_with(&options) {
            Ok(report) => heap::untracked(|| super::json(&told(&report))),
            Err(error) => reply::error(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }
}

pub(super) struct Why;

impl Page for Why {
    fn path(&self) -> &str {
        "/debug/pprof/ui/why"
    }

    fn description(&self) -> &str {
        ""
    }

    fn answer(&self, ask: &Ask) -> Reply {
        let Some(number) = ask.query.get("task").and_then(|text| text.parse().ok()) else {
            return reply::error(StatusCode::BAD_REQUEST, "say which task: `task=17`");
        };
        let found =
            heap::untracked(|| tasks::snapshot().tasks.iter().map(|task| task.id).find(|id| id.get() == number));
        let Some(task) = found else {
            return reply::error(StatusCode::NOT_FOUND, format!("there is no task {number}: it may have ended"));
        };
        match why_alive(task) {
            Ok(why) => heap::untracked(|| super::json(&why::told(number, why.as_ref()))),
            Err(error) => reply::error(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }
}

fn told(report: &Report) -> Value {
    let suspects = leak::blocked_longer_than(Duration::ZERO).without(report);
    let mut symbolizer = symbolize::shared().lock();
    symbolizer.refresh();
    // Of an incomplete scan: candidates.
    let all = if report.incomplete().is_some() { report.candidates() } else { report.leaked() };
    let (graph, left_out) = graph::told(report, all);
    let counts = &report.counts;
    let cost = &report.cost;
    json!({
        "leaked": report.leaked().len(),
        "incomplete": report.incomplete().map(ToString::to_string),
        "not_copied": report.not_copied.map(|reason| reason.to_string()),
        "errors": report.errors,
        "counts": { "tasks": counts.tasks, "blocked": counts.blocked, "suppressed": counts.suppressed },
        "cost": {
            "stopped_nanoseconds": cost.stopped.as_nanos() as u64,
            "marking_nanoseconds": cost.marking.as_nanos() as u64,
            "words": cost.words,
        },
        "groups": groups(all, &mut symbolizer),
        "deadlocks": report.deadlocks.iter().map(|circle| {
            circle.tasks.iter().map(|(task, lock)| json!({ "task": task.get(), "waits_for": lock })).collect()
        }).collect::<Vec<Vec<Value>>>(),
        "graph": graph,
        "graph_left_out": left_out,
        "blocked": blocked(&suspects.tasks, &mut symbolizer),
    })
}

/// Leaked tasks that wait at the same place, were spawned at the same one, and have the same labels.
fn groups(leaks: &[Leak], symbolizer: &mut Symbolizer) -> Vec<Value> {
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut groups: Vec<Vec<&Leak>> = Vec::new();
    for leak in leaks {
        let task = &leak.task;
        let labels: Vec<_> = task.labels.iter().collect();
        let key = (&task.stack, task.status(), task.spawned_at.map(site), labels, &task.name);
        let place = *places.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(leak);
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let tell = |group: &Vec<&Leak>| {
        let first = &group[0].task;
        json!({
            "count": group.len(),
            "hostages": group.iter().filter(|leak| leak.hostage).count(),
            "name": first.name,
            "reason": first.status(),
            "labels": labels(first),
            "spawned_at": first.spawned_at.map(site),
            "longest_wait_nanoseconds": group.iter().map(|leak| leak.task.waiting_for.as_nanos() as u64).max(),
            "tasks": group.iter().take(TASKS).map(|leak| leak.id().get()).collect::<Vec<_>>(),
            "stack": stack(first, symbolizer),
        })
    };
    groups.iter().take(GROUPS).map(tell).collect()
}

/// Tasks that wait for others and are not leaked, those that have waited longest first.
fn blocked(tasks: &[Task], symbolizer: &mut Symbolizer) -> Vec<Value> {
    let mut tasks: Vec<&Task> = tasks.iter().filter(|task| matches!(task.state, TaskState::Waiting(_))).collect();
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.waiting_for), task.id));
    let tell = |task: &&Task| {
        json!({
            "task": task.id.get(),
            "name": task.name,
            "reason": task.status(),
            "waited_nanoseconds": task.waiting_for.as_nanos() as u64,
            "spawned_at": task.spawned_at.map(site),
            "stack": stack(task, symbolizer),
        })
    };
    tasks.iter().take(BLOCKED).map(tell).collect()
}

fn labels(task: &Task) -> Value {
    Value::Object(task.labels.iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
}

fn site(location: &Location<'_>) -> String {
    format!("{}:{}", location.file(), location.line())
}

/// The program's own part of a stack, innermost first.
fn stack(task: &Task, symbolizer: &mut Symbolizer) -> Vec<Value> {
    let addresses = task.stack.as_deref().unwrap_or_default();
    let frames: Vec<_> =
        addresses.iter().flat_map(|address| symbolizer.resolve(address.saturating_sub(1)).to_vec()).collect();
    let names: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
    let tell = |frame: &symbolize::Frame| json!({ "function": &*frame.function, "file": frame.file.as_deref(), "line": frame.line });
    frames[shown_frames(&names)].iter().map(tell).collect()
}
