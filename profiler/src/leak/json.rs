//! `format=json`: the report for programs, the page among them. Stacks are given once for each group of tasks that are alike.
//!
//! With a limit no list is longer than that: of 100 000 leaked tasks nobody reads more than a few. `counts` are always of all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use greenprof_runtime::{sync::PrimitiveKind, task::TaskId};
use serde_json::{Map, Value, json};

use super::{
    Suspects,
    graph::{Node, WaitGraph},
    report::{Leak, Mode, Primitive, Report, WaitsOn},
};
use crate::{
    profile::lookup_address,
    symbolize::{Frame, Symbolizer, names::shown_frames},
    tasks::Task,
};

/// Blocked tasks that are told if there is no limit. They are no part of the report.
const BLOCKED: usize = 50;

/// Tasks that wait at the same place for the same, and have the same spawn site, name and labels.
#[derive(PartialEq, Eq, Hash)]
struct Kind<'a> {
    stack: &'a [usize],
    reason: &'static str,
    spawned_at: String,
    name: Option<&'a str>,
    labels: Vec<(&'a str, &'a str)>,
}

impl<'a> Kind<'a> {
    fn of(task: &'a Task, reason: &'static str) -> Self {
        Self {
            stack: task.stack.as_deref().unwrap_or_default(),
            reason,
            spawned_at: place(task.spawned_at),
            name: task.name.as_deref(),
            labels: task.labels.iter().collect(),
        }
    }
}

/// The tasks of a report in groups, and which of them are told one by one.
struct Told<'a> {
    /// The largest first.
    groups: Vec<(Kind<'a>, Vec<&'a Leak>)>,
    /// Each with the place of its group.
    tasks: Vec<(&'a Leak, usize)>,
    limit: Option<usize>,
}

impl<'a> Told<'a> {
    fn of(report: &'a Report, limit: Option<usize>) -> Self {
        let mut places: HashMap<Kind<'a>, Vec<&'a Leak>> = HashMap::new();
        for leak in &report.tasks {
            places.entry(Kind::of(&leak.task, leak.reason().as_str())).or_default().push(leak);
        }
        let mut groups: Vec<_> = places.into_iter().collect();
        groups.sort_by_key(|(_, leaks)| (std::cmp::Reverse(leaks.len()), leaks[0].id()));
        let circles: BTreeSet<TaskId> =
            report.deadlocks.iter().flat_map(|circle| circle.tasks.iter().map(|(task, _)| *task)).collect();
        // Who tells most comes first: those of circles, then the first of each group, then others.
        let rank = |leak: &Leak, place: usize| match (circles.contains(&leak.id()), place) {
            (true, _) => 0,
            (false, 0) => 1,
            (false, _) => 2,
        };
        let mut ranked: Vec<(u8, &Leak, usize)> = groups
            .iter()
            .enumerate()
            .flat_map(|(at, (_, leaks))| leaks.iter().enumerate().map(move |(place, leak)| (place, *leak, at)))
            .map(|(place, leak, at)| (rank(leak, place), leak, at))
            .collect();
        match limit {
            None => ranked.sort_by_key(|(_, leak, _)| leak.id()),
            Some(most) => {
                ranked.sort_by_key(|(rank, leak, _)| (*rank, leak.id()));
                ranked.truncate(most);
            }
        }
        Self { groups, tasks: ranked.into_iter().map(|(_, leak, at)| (leak, at)).collect(), limit }
    }

    /// As much of a list as is told.
    fn cut<T>(&self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.take(self.limit.unwrap_or(usize::MAX))
    }

    fn groups(&self, symbolizer: &mut Symbolizer) -> Vec<Value> {
        let groups = self.cut(self.groups.iter());
        groups
            .map(|(kind, leaks)| {
                json!({
                    "count": leaks.len(),
                    "hostages": leaks.iter().filter(|leak| leak.hostage).count(),
                    "name": kind.name,
                    "labels": labels(&leaks[0].task),
                    "wait_reason": kind.reason,
                    "spawned_at": kind.spawned_at,
                    "blocked_nanoseconds": leaks.iter().map(|leak| blocked_for(&leak.task)).max(),
                    "stack": frames(kind.stack, symbolizer),
                    "tasks": self.cut(leaks.iter()).map(|leak| leak.id().get()).collect::<Vec<_>>(),
                })
            })
            .collect()
    }

    fn tasks(&self) -> Vec<Value> {
        // A group that is not told has no place in the list.
        let told = |group: usize| self.limit.is_none_or(|most| group < most).then_some(group);
        self.tasks.iter().map(|(leak, group)| leaked(leak, told(*group))).collect()
    }

    /// Of who could wake those who wait for a primitive, those who are told.
    fn primitives(&self) -> Vec<Value> {
        let all: BTreeMap<u32, &Primitive> =
            self.tasks.iter().flat_map(|(leak, _)| leak.primitives()).map(|it| (it.number, it)).collect();
        all.values()
            .map(|primitive| {
                json!({
                    "number": primitive.number,
                    "kind": kind(primitive.kind),
                    "created_at": place(primitive.created_at),
                    "held_by": self.cut(primitive.held_by.iter()).map(|task| task.get()).collect::<Vec<_>>(),
                })
            })
            .collect()
    }

    fn graph(&self) -> Value {
        let listed: BTreeSet<TaskId> = self.tasks.iter().map(|(leak, _)| leak.id()).collect();
        let is_told = |task| self.limit.is_none() || listed.contains(&task);
        let graph = WaitGraph::of(self.tasks.iter().map(|(leak, _)| *leak), is_told);
        let nodes: Vec<Value> = graph
            .nodes
            .iter()
            .map(|node| match node {
                Node::Task(task) => json!({ "id": node.to_string(), "task": task.get() }),
                Node::Primitive(number) => json!({ "id": node.to_string(), "primitive": number }),
            })
            .collect();
        let edges = graph.edges.iter().map(|edge| {
            json!({ "from": edge.from.to_string(), "to": edge.to.to_string(), "relation": edge.relation.as_str() })
        });
        json!({ "nodes": nodes, "edges": edges.collect::<Vec<_>>() })
    }
}

/// The report, and what is blocked besides. Symbols are looked up: not for a stopped world.
pub(super) fn report(report: &Report, blocked: &Suspects, limit: Option<usize>, symbolizer: &mut Symbolizer) -> Value {
    symbolizer.refresh();
    let told = Told::of(report, limit);
    let is_complete = report.incomplete().is_none();
    let (leaked, candidates) = if is_complete { (told.tasks(), Vec::new()) } else { (Vec::new(), told.tasks()) };
    let counts = report.counts;
    json!({
        "complete": is_complete,
        "incomplete": report.incomplete().map(ToString::to_string),
        "passes": report.passes,
        "mode": match report.mode { Mode::Stop => "stop", Mode::Fork => "fork" },
        "not_copied": report.not_copied.map(|reason| reason.to_string()),
        "detector_errors": report.errors,
        "counts": {
            "tasks": counts.tasks,
            "blocked": counts.blocked,
            "suppressed": counts.suppressed,
            "leaked": report.leaked().len(),
            "candidates": report.candidates().len(),
            "groups": told.groups.len(),
        },
        "cost": cost(report),
        "leaked": leaked,
        "candidates": candidates,
        "groups": told.groups(symbolizer),
        "primitives": told.primitives(),
        "deadlocks": told.cut(report.deadlocks.iter()).map(|circle| {
            let tasks = circle.tasks.iter().map(|(task, lock)| json!({ "task": task.get(), "waits_for": lock }));
            json!({ "tasks": tasks.collect::<Vec<_>>() })
        }).collect::<Vec<_>>(),
        "graph": told.graph(),
        "blocked": blocked.tasks.iter().take(limit.unwrap_or(BLOCKED)).map(|task| {
            let mut value = about(task);
            value.insert("stack".to_owned(), frames(task.stack.as_deref().unwrap_or_default(), symbolizer).into());
            Value::Object(value)
        }).collect::<Vec<_>>(),
    })
}

/// What is told of every task.
fn about(task: &Task) -> Map<String, Value> {
    let value = json!({
        "id": task.id.get(),
        "name": task.name,
        "labels": labels(task),
        "runtime": task.runtime_id,
        "parent": task.parent,
        "spawned_at": place(task.spawned_at),
        "wait_reason": task.status(),
        "blocked_nanoseconds": blocked_for(task),
    });
    let Value::Object(value) = value else { unreachable!("it is written as an object") };
    value
}

fn leaked(leak: &Leak, group: Option<usize>) -> Value {
    let waits_on = leak.waits_on.iter().map(|on| match on {
        WaitsOn::Task(task) => json!({ "task": task.get() }),
        WaitsOn::Primitive(primitive) => json!({ "primitive": primitive.number }),
    });
    let mut value = about(&leak.task);
    value.insert("hostage".to_owned(), leak.hostage.into());
    value.insert("waits_on".to_owned(), waits_on.collect());
    value.insert("group".to_owned(), group.into());
    Value::Object(value)
}

fn labels(task: &Task) -> Value {
    Value::Object(task.labels.iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
}

fn blocked_for(task: &Task) -> u64 {
    u64::try_from(task.waiting_for.as_nanos()).unwrap_or(u64::MAX)
}

fn cost(report: &Report) -> Value {
    let cost = &report.cost;
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "stopping_nanoseconds": nanoseconds(cost.stopping),
        "stopped_nanoseconds": nanoseconds(cost.stopped),
        "cloning_nanoseconds": nanoseconds(cost.cloning),
        "collecting_nanoseconds": nanoseconds(cost.collecting),
        "marking_nanoseconds": nanoseconds(cost.marking),
        "total_nanoseconds": nanoseconds(cost.total),
        "faults": cost.faults,
        "words": cost.words,
        "blocks": cost.blocks,
        "bytes": cost.bytes,
    })
}

/// A stack's frames, innermost first, without the runtime's own at both ends.
fn frames(stack: &[usize], symbolizer: &mut Symbolizer) -> Vec<Value> {
    let mut found: Vec<(usize, Option<Frame>)> = Vec::new();
    for address in stack.iter().map(|address| lookup_address(*address, false)) {
        let frames = symbolizer.resolve(address);
        if frames.is_empty() {
            found.push((address, None));
        }
        found.extend(frames.iter().map(|frame| (address, Some(frame.clone()))));
    }
    let functions: Vec<&str> = found.iter().map(|(_, frame)| frame.as_ref().map_or("", |f| &*f.function)).collect();
    let shown = shown_frames(&functions);
    let shown = found[shown].iter().map(|(address, frame)| match frame {
        Some(frame) => json!({
            "function": &*frame.function,
            "file": frame.file.as_deref(),
            "line": frame.line,
        }),
        None => json!({ "function": format!("{address:#x}"), "file": null, "line": 0 }),
    });
    shown.collect()
}

/// `file:line:column`; empty if it is not known.
pub(super) fn place(at: Option<&std::panic::Location<'_>>) -> String {
    at.map_or_else(String::new, ToString::to_string)
}

/// The type's name.
fn kind(kind: PrimitiveKind) -> String {
    format!("{kind:?}")
}
