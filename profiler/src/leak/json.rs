//! `format=json`: the report for programs. Stacks are given once for each group of tasks with the same one.

use std::collections::HashMap;

use greenprof_runtime::sync::PrimitiveKind;
use serde_json::{Map, Value, json};

use super::{
    graph::Node,
    report::{Leak, Mode, Report, WaitsOn},
};
use crate::{
    profile::lookup_address,
    symbolize::{Frame, Symbolizer, names::shown_frames},
};

/// Tasks that wait at the same place for the same, and were spawned at the same.
type Group<'a> = (&'a [usize], &'static str, String);

/// The whole report. Symbols are looked up: not for a stopped world.
pub(super) fn report(report: &Report, symbolizer: &mut Symbolizer) -> Value {
    symbolizer.refresh();
    let mut groups: Vec<(Group<'_>, Vec<&Leak>)> = Vec::new();
    let mut places: HashMap<Group<'_>, usize> = HashMap::new();
    let mut tasks = Vec::with_capacity(report.tasks.len());
    for leak in &report.tasks {
        let stack = leak.task.stack.as_deref().unwrap_or_default();
        let group = (stack, leak.reason().as_str(), place(leak.task.spawned_at));
        let at = *places.entry(group.clone()).or_insert_with(|| {
            groups.push((group, Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(leak);
        tasks.push(task(leak, at));
    }
    let groups: Vec<Value> = groups
        .iter()
        .map(|((stack, reason, spawned_at), leaks)| {
            json!({
                "count": leaks.len(),
                "wait_reason": reason,
                "spawned_at": spawned_at,
                "stack": frames(stack, symbolizer),
                "tasks": leaks.iter().map(|leak| leak.id().get()).collect::<Vec<_>>(),
            })
        })
        .collect();
    let (leaked, candidates) = if report.incomplete().is_none() { (tasks, Vec::new()) } else { (Vec::new(), tasks) };
    let counts = report.counts;
    json!({
        "complete": report.incomplete().is_none(),
        "incomplete": report.incomplete().map(ToString::to_string),
        "passes": report.passes,
        "mode": match report.mode { Mode::Stop => "stop", Mode::Fork => "fork" },
        "not_copied": report.not_copied.map(|reason| reason.to_string()),
        "detector_errors": report.errors,
        "counts": { "tasks": counts.tasks, "blocked": counts.blocked, "suppressed": counts.suppressed },
        "cost": cost(report),
        "leaked": leaked,
        "candidates": candidates,
        "groups": groups,
        "primitives": primitives(report),
        "deadlocks": deadlocks(report),
        "graph": graph(report),
    })
}

fn task(leak: &Leak, group: usize) -> Value {
    let task = &leak.task;
    let labels: Map<String, Value> = task.labels.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let waits_on: Vec<Value> = leak
        .waits_on
        .iter()
        .map(|on| match on {
            WaitsOn::Task(task) => json!({ "task": task.get() }),
            WaitsOn::Primitive(primitive) => json!({ "primitive": primitive.number }),
        })
        .collect();
    json!({
        "id": task.id.get(),
        "name": task.name,
        "labels": labels,
        "runtime": task.runtime_id,
        "parent": task.parent,
        "spawned_at": place(task.spawned_at),
        "wait_reason": leak.reason().as_str(),
        "blocked_nanoseconds": u64::try_from(task.waiting_for.as_nanos()).unwrap_or(u64::MAX),
        "hostage": leak.hostage,
        "waits_on": waits_on,
        "group": group,
    })
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

fn primitives(report: &Report) -> Vec<Value> {
    let all = report.primitives();
    all.values()
        .map(|primitive| {
            json!({
                "number": primitive.number,
                "kind": kind(primitive.kind),
                "created_at": place(primitive.created_at),
                "held_by": primitive.held_by.iter().map(|task| task.get()).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn deadlocks(report: &Report) -> Vec<Value> {
    let all = report.deadlocks.iter();
    all.map(|deadlock| {
        let tasks = deadlock.tasks.iter().map(|(task, lock)| json!({ "task": task.get(), "waits_for": lock }));
        json!({ "tasks": tasks.collect::<Vec<_>>() })
    })
    .collect()
}

fn graph(report: &Report) -> Value {
    let graph = report.wait_graph();
    let nodes: Vec<Value> = graph
        .nodes
        .iter()
        .map(|node| match node {
            Node::Task(task) => json!({ "id": node.to_string(), "task": task.get() }),
            Node::Primitive(number) => json!({ "id": node.to_string(), "primitive": number }),
        })
        .collect();
    let edges = graph.edges.iter().map(
        |edge| json!({ "from": edge.from.to_string(), "to": edge.to.to_string(), "relation": edge.relation.as_str() }),
    );
    json!({ "nodes": nodes, "edges": edges.collect::<Vec<_>>() })
}

/// A stack's frames, innermost first, without the runtime's own at both ends.
pub(super) fn frames(stack: &[usize], symbolizer: &mut Symbolizer) -> Vec<Value> {
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
pub(super) fn kind(kind: PrimitiveKind) -> String {
    format!("{kind:?}")
}
