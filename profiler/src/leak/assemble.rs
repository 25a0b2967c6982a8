//! From what a scan has found to a report, after the release. Leaked tasks do not run, and nobody else reaches what only they
//! reach: so there is no hurry, and what they hold is looked at now.

use std::{collections::HashMap, sync::Arc};

use greenprof_runtime::{
    heap,
    task::TaskId,
    world::{self, TaskState},
};

use super::{
    Options, deadlock,
    detect::{Found, On, Raw},
    report::{Leak, Primitive, Report, WaitsOn},
    watch,
};
use crate::tasks;

/// Frames kept of each stack, as in the task profile.
const DEPTH: usize = 128;

/// In the untracked arena, all of it: what a report says of tasks, and what is left of earlier ones in memory that is used again, would
/// lead the next scan to their stacks.
pub(super) fn report(raw: Raw, options: &Options, reclaims: u64) -> Box<Report> {
    heap::untracked(|| assemble(raw, options, reclaims))
}

fn assemble(mut raw: Raw, options: &Options, reclaims: u64) -> Box<Report> {
    if raw.incomplete.is_none() {
        watch::remember(raw.tables.found.iter().map(|found| found.mark), reclaims);
    }
    let errors = watch::errors();
    let holders = holders(&mut raw);
    let by_task: HashMap<TaskId, &Found> = raw.tables.found.iter().map(|found| (found.id, found)).collect();
    let snapshot = world::tasks_of(raw.tables.found.iter().map(|found| found.mark), DEPTH);
    let mut leaks: Vec<Leak> = Vec::new();
    for info in snapshot.iter() {
        let Some(found) = by_task.get(&info.id) else { continue };
        // A candidate may have gone on.
        if !matches!(info.state, TaskState::Waiting(_)) {
            continue;
        }
        let waits_on = raw.tables.waits_on(found).filter_map(|on| shown(on, &holders)).collect();
        let task = tasks::Task::new(&info.view(snapshot.stack(info)));
        leaks.push(Leak { task, waits_on, hostage: false, mark: found.mark });
    }
    leaks.sort_by_key(Leak::id);
    let deadlocks = deadlock::find(&mut leaks);
    if let Some(runtime) = options.runtime {
        leaks.retain(|leak| leak.task.runtime_id == runtime);
    }
    Box::new(Report {
        tasks: leaks,
        incomplete: raw.incomplete,
        reclaims,
        deadlocks,
        counts: raw.counts,
        cost: raw.cost,
        mode: raw.mode,
        not_copied: raw.not_copied,
        passes: 1,
        errors,
    })
}

/// By the index of a primitive: the leaked tasks that have something that could wake those who wait on it.
type Holders = HashMap<usize, Arc<[TaskId]>>;

fn holders(raw: &mut Raw) -> Holders {
    if raw.incomplete.is_some() {
        return Holders::new(); // they may run
    }
    let mut holders: HashMap<usize, Vec<TaskId>> = HashMap::new();
    for (primitive, task) in &raw.tables.held {
        holders.entry(*primitive as usize).or_default().push(*task);
    }
    let sorted = holders.into_iter().map(|(primitive, mut tasks)| {
        tasks.sort_unstable();
        tasks.dedup();
        (primitive, tasks.into())
    });
    sorted.collect()
}

fn shown(on: On, holders: &Holders) -> Option<WaitsOn> {
    match on {
        On::Task(number) => Some(WaitsOn::Task(number)),
        On::Primitive(primitive) => Some(WaitsOn::Primitive(Primitive {
            number: primitive.index() as u32,
            kind: primitive.kind()?,
            created_at: primitive.created_at(),
            held_by: holders.get(&primitive.index()).cloned().unwrap_or_default(),
        })),
    }
}
