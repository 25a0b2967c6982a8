//! Who waits for whom, as a graph: nodes are tasks and primitives. An edge leads from a task to the primitive or task that it waits
//! for, and from a primitive to the tasks that have what could wake those who wait for it.

use std::collections::{BTreeMap, BTreeSet};

use greenprof_runtime::task::TaskId;
use serde_json::{Value, json};

use super::site;
use crate::leak::{Leak, Primitive, Report, WaitsOn};

/// Tasks that are drawn. More cannot be read.
const TASKS: usize = 24;

/// The graph of the tasks that tell most: those of circles, then the first of each kind, then others. And how many are not in it.
pub(super) fn told(report: &Report, leaks: &[Leak]) -> (Value, usize) {
    let chosen = choose(report, leaks);
    let mut primitives: BTreeMap<u32, &Primitive> = BTreeMap::new();
    let mut edges: BTreeSet<(String, String, &str)> = BTreeSet::new();
    let task = |id: TaskId| format!("task {}", id.get());
    let in_graph = |id: &TaskId| chosen.iter().any(|leak| leak.id() == *id);
    for leak in &chosen {
        for on in &leak.waits_on {
            match on {
                WaitsOn::Task(other) if in_graph(other) => {
                    edges.insert((task(leak.id()), task(*other), "waits for"));
                }
                WaitsOn::Task(_) => {}
                WaitsOn::Primitive(primitive) => {
                    primitives.insert(primitive.number, primitive);
                    edges.insert((task(leak.id()), name(primitive), "waits for"));
                    for holder in primitive.held_by.iter().filter(|holder| in_graph(holder)) {
                        edges.insert((name(primitive), task(*holder), "could be woken by"));
                    }
                }
            }
        }
    }
    let circle =
        |leak: &Leak| report.deadlocks.iter().any(|circle| circle.tasks.iter().any(|(id, _)| *id == leak.id()));
    let tasks = chosen.iter().map(|leak| {
        let name = leak.task.name.as_deref();
        json!({
            "id": task(leak.id()), "kind": "task", "name": name, "reason": leak.task.status(),
            "in_circle": circle(leak), "hostage": leak.hostage,
        })
    });
    let primitives = primitives.values().map(|primitive| {
        json!({
            "id": name(primitive), "kind": format!("{:?}", primitive.kind),
            "created_at": primitive.created_at.map(site),
        })
    });
    let nodes: Vec<Value> = tasks.chain(primitives).collect();
    let edges: Vec<Value> =
        edges.into_iter().map(|(from, to, kind)| json!({ "from": from, "to": to, "kind": kind })).collect();
    (json!({ "nodes": nodes, "edges": edges }), leaks.len() - chosen.len())
}

fn name(primitive: &Primitive) -> String {
    format!("{:?} #{}", primitive.kind, primitive.number)
}

fn choose<'a>(report: &Report, leaks: &'a [Leak]) -> Vec<&'a Leak> {
    let circles: BTreeSet<TaskId> =
        report.deadlocks.iter().flat_map(|circle| circle.tasks.iter().map(|(task, _)| *task)).collect();
    let mut seen = BTreeSet::new();
    let mut ranked: Vec<(u8, TaskId, &Leak)> = leaks
        .iter()
        .map(|leak| {
            let is_first = seen.insert((leak.task.stack.clone(), leak.task.name.clone()));
            let rank = if circles.contains(&leak.id()) {
                0
            } else if is_first {
                1
            } else {
                2
            };
            (rank, leak.id(), leak)
        })
        .collect();
    ranked.sort_by_key(|(rank, id, _)| (*rank, *id));
    ranked.truncate(TASKS);
    ranked.into_iter().map(|(_, _, leak)| leak).collect()
}
