//! The task profile, which Go's tools know as `goroutine`: every task with its stack and what it waits for.
//!
//! Tasks that wait or are queued are read without stopping anything ([`greenprof_runtime::world`]). A task that is running
//! is asked by a signal to the worker that runs it; if it does not answer in time, it is listed without a stack, as Go
//! lists a goroutine that runs on another thread. So each task's stack is consistent, and the whole is not the state of
//! one moment.
//!
//! Cost: some 200 ns a task, on the calling thread; a running task is interrupted for a few microseconds.

mod snapshot;

use std::collections::HashMap;

pub(crate) use snapshot::ask_workers;
pub use snapshot::{Snapshot, Task, snapshot};

use crate::{
    http::NamedProfile,
    profile::{LabelValue, Profile, ProfileError, ValueType, encode},
    self_test,
    symbolize::{self, Symbolizer, names::is_plumbing},
    text::{
        count::{CountRecord, write_count_profile},
        stack_dump::{CreatedBy, TaskDump, write_stack_dump},
    },
};
use greenprof_runtime::heap;

/// Task names that a record of the `debug=1` text lists.
const NAMES_SHOWN: usize = 5;

/// The task profile as the port offers it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskProfile;

impl NamedProfile for TaskProfile {
    fn name(&self) -> &str {
        "goroutine"
    }

    fn description(&self) -> &str {
        "Stack traces of all current tasks. Use debug=2 as a query parameter to export in the same format as an \
         unrecovered panic."
    }

    fn count(&self) -> usize {
        greenprof_runtime::world::tasks::count()
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        heap::untracked(|| {
            let snapshot = snapshot();
            match debug {
                ..=0 => encode::encode(&profile(&snapshot), &mut symbolize::shared().lock()),
                1 => Ok(text(&snapshot, &mut symbolize::shared().lock()).into_bytes()),
                _ => Ok(dump(&snapshot, &mut symbolize::shared().lock()).into_bytes()),
            }
        })
    }

    fn collect(&self) -> Option<Profile> {
        Some(heap::untracked(|| profile(&snapshot())))
    }
}

/// The tasks as a profile: one sample type, `goroutine` in `count`.
///
/// Besides the tasks' own labels the samples carry `wait_reason` (or `running`, `runnable`), `spawned_at` as file and
/// line, and `task_name` of tasks that have a name.
pub fn profile(snapshot: &Snapshot) -> Profile {
    profile_as(ValueType::new("goroutine", "count"), snapshot)
}

/// As [`profile`], with another sample type.
pub(crate) fn profile_as(kind: ValueType, snapshot: &Snapshot) -> Profile {
    let mut profile = Profile::new(vec![kind.clone()], kind, 1);
    // Most tasks are like many others, so labels are written out once for all that are alike. Sites are compared by where
    // they are: two of one line are two groups, which are merged below.
    let mut groups: HashMap<_, (&Task, i64)> = HashMap::new();
    for task in &snapshot.tasks {
        let site = task.spawned_at.map(std::ptr::from_ref);
        let key = (&task.stack, &task.labels, task.status(), site, &task.name);
        groups.entry(key).or_insert((task, 0)).1 += 1;
    }
    for (task, count) in groups.into_values() {
        profile.push(task.stack.clone().unwrap_or_default(), vec![count], labels(task));
    }
    profile.merge_equal();
    profile.comments.extend(self_test::missing_frame_pointers().map(|advice| format!("greenprof {advice}")));
    let unavailable = snapshot.unavailable();
    if unavailable > 0 {
        profile.comments.push(format!("greenprof running tasks without a stack: {unavailable}"));
    }
    profile
}

/// A task's own labels, and the facts about it as labels, by name.
fn labels(task: &Task) -> Vec<(String, LabelValue)> {
    let facts = [
        ("spawned_at", task.spawned_at.map(|site| format!("{}:{}", site.file(), site.line()))),
        ("task_name", task.name.clone()),
        ("wait_reason", Some(task.status().to_owned())),
    ];
    let facts = facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let mut labels: Vec<(String, String)> =
        task.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    // A task's own label goes before a fact of the same name.
    for (key, value) in facts {
        if labels.iter().all(|(known, _)| *known != key) {
            labels.push((key, value));
        }
    }
    labels.sort();
    labels.into_iter().map(|(key, value)| (key, LabelValue::Str(value))).collect()
}

/// The tasks in the form of `debug=1`: tasks with the same stack, labels, state and spawn site are one record.
pub fn text(snapshot: &Snapshot, symbolizer: &mut Symbolizer) -> String {
    text_of("goroutine", snapshot, symbolizer)
}

/// As [`text`], of a profile of another name.
pub(crate) fn text_of(name: &str, snapshot: &Snapshot, symbolizer: &mut Symbolizer) -> String {
    let mut groups: HashMap<_, (i64, Vec<&str>)> = HashMap::new();
    for task in &snapshot.tasks {
        let site = task.spawned_at.map(|site| (site.file(), site.line()));
        let group = groups.entry((&task.stack, &task.labels, task.status(), site)).or_default();
        group.0 += 1;
        group.1.extend(task.name.as_deref());
    }
    let records = groups.into_iter().map(|((stack, labels, status, site), (count, mut names))| {
        let mut notes = vec![format!("state: {status}")];
        if let Some((file, line)) = site {
            notes.push(format!("spawned at: {file}:{line}"));
        }
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            let more = match names.len().saturating_sub(NAMES_SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            names.truncate(NAMES_SHOWN);
            notes.push(format!("names: {}{more}", names.join(", ")));
        }
        if stack.is_none() {
            notes.push("running on another thread; stack unavailable".to_owned());
        }
        let labels = labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        CountRecord { count, stack: stack.clone().unwrap_or_default(), labels, notes }
    });
    write_count_profile(name, records, symbolizer)
}

/// The tasks in the form of `debug=2`: one after another, in the order of their spawning.
pub fn dump(snapshot: &Snapshot, symbolizer: &mut Symbolizer) -> String {
    dump_with(snapshot, symbolizer, |_| "")
}

/// As [`dump`], with a remark behind the state of each task.
pub(crate) fn dump_with(
    snapshot: &Snapshot,
    symbolizer: &mut Symbolizer,
    remark: impl Fn(&Task) -> &'static str,
) -> String {
    symbolizer.refresh();
    let mut dumps: Vec<TaskDump> = snapshot
        .tasks
        .iter()
        .map(|task| TaskDump {
            id: task.id.get(),
            status: task.status().to_owned() + remark(task),
            wait_minutes: Some(task.waiting_for.as_secs() / 60).filter(|minutes| *minutes > 0),
            name: task.name.clone(),
            labels: task.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            stack: task.stack.clone(),
            created_by: task.spawned_at.map(|site| CreatedBy {
                function: spawner(&task.spawn_stack, symbolizer),
                file: site.file().to_owned(),
                line: site.line(),
                parent: task.parent,
            }),
        })
        .collect();
    dumps.sort_by_key(|dump| dump.id);
    write_stack_dump(&dumps, symbolizer)
}

/// The function that spawned a task: the first on the spawner's stack that is not the runtime's.
fn spawner(stack: &[usize], symbolizer: &mut Symbolizer) -> Option<String> {
    stack.iter().find_map(|address| {
        let frames = symbolizer.resolve(address.saturating_sub(1));
        frames.iter().find(|frame| !is_plumbing(&frame.function)).map(|frame| frame.function.to_string())
    })
}
