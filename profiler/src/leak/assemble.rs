//! From what a scan has found to a report, after the release.

use std::{collections::HashMap, time::Duration};

use greenprof_runtime::{
    heap,
    task::TaskId,
    world::{self, TaskState},
};

use super::{
    Options,
    detect::Raw,
    report::{Leak, Report},
};
use crate::tasks;

/// Frames kept of each stack, as in the task profile.
const DEPTH: usize = 128;

pub(super) fn report(raw: Raw, options: &Options) -> Box<Report> {
    let found = heap::untracked(|| {
        let found = world::tasks_of(raw.tables.found.iter().map(|found| found.mark), DEPTH);
        found
    });
    let mut leaks: Vec<Leak> = found
        .iter()
        .filter(|info| options.runtime.is_none_or(|runtime| info.runtime_id == runtime))
        .filter(|info| matches!(info.state, TaskState::Waiting(_)))
        .map(|info| Leak {
            task: tasks::Task::new(info, found.stack(info).map(<[usize]>::to_vec)),
            waits_on: Vec::new(),
            hostage: false,
        })
        .collect();
    leaks.sort_by_key(Leak::id);
    let _ = (HashMap::<TaskId, ()>::new(), Duration::ZERO);
    Box::new(Report {
        tasks: leaks,
        incomplete: raw.incomplete,
        deadlocks: Vec::new(),
        counts: raw.counts,
        cost: raw.cost,
        errors: 0,
    })
}
