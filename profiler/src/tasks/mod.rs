//! The task profile, which Go's tools know as `goroutine`: every task with its stack and what it waits for.
//!
//! Tasks that wait or are queued are read without stopping anything ([`greenprof_runtime::world`]). A task that is running
//! is asked by a signal to the worker that runs it; if it does not answer in time, it is listed without a stack, as Go
//! lists a goroutine that runs on another thread. So each task's stack is consistent, and the whole is not the state of
//! one moment.
//!
//! Cost: a few hundred instructions a task on the calling thread, and some hundred more in the form of `debug=2`, which alone
//! takes memory for each task; a running task is interrupted for a few microseconds.

mod groups;
mod snapshot;

use std::collections::HashMap;

use groups::{Facts, Groups};
pub(crate) use snapshot::ask_workers;
use snapshot::status;
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
///
/// ```
/// use greenprof_profiler::{http::NamedProfile, tasks::TaskProfile};
/// use greenprof_runtime::Runtime;
///
/// let text = Runtime::builder().workers(1).build()?.run(|| TaskProfile.write(1))?;
/// assert!(text.starts_with(b"goroutine profile: total 1\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
            // The tasks first: the symbols are behind a lock.
            match debug {
                ..=0 => {
                    let profile = grouped(kind(), &Groups::take());
                    encode::encode(&profile, &mut symbolize::shared().lock())
                }
                1 => {
                    let groups = Groups::take();
                    Ok(text("goroutine", &groups, &mut symbolize::shared().lock()).into_bytes())
                }
                _ => {
                    let snapshot = snapshot();
                    Ok(dump(&snapshot, &mut symbolize::shared().lock()).into_bytes())
                }
            }
        })
    }

    fn collect(&self) -> Option<Profile> {
        Some(heap::untracked(|| grouped(kind(), &Groups::take())))
    }
}

/// The tasks as a profile: one sample type, `goroutine` in `count`.
///
/// Besides the tasks' own labels the samples carry `wait_reason` (or `running`, `runnable`), `spawned_at` as file and
/// line, and `task_name` of tasks that have a name.
///
/// ```
/// use greenprof_profiler::tasks;
/// use greenprof_runtime::Runtime;
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let profile = tasks::profile(&tasks::snapshot());
///     assert_eq!(profile.sample_types[0].kind, "goroutine");
///     assert_eq!(profile.samples.iter().map(|sample| sample.values[0]).sum::<i64>(), 1, "the task that asks");
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn profile(snapshot: &Snapshot) -> Profile {
    profile_as(kind(), snapshot)
}

/// As [`profile`], with another sample type.
pub(crate) fn profile_as(kind: ValueType, snapshot: &Snapshot) -> Profile {
    grouped(kind, &Groups::of(snapshot))
}

fn kind() -> ValueType {
    ValueType::new("goroutine", "count")
}

fn grouped(kind: ValueType, groups: &Groups) -> Profile {
    let mut profile = Profile::new(vec![kind.clone()], kind, 1);
    for (tasks, count) in groups.iter() {
        profile.push(tasks.stack.unwrap_or_default().to_vec(), vec![count], labels(&tasks));
    }
    // Groups whose sites are in one line.
    profile.merge_equal();
    profile.comments.extend(self_test::missing_frame_pointers().map(|advice| format!("greenprof {advice}")));
    let unavailable = groups.unavailable();
    if unavailable > 0 {
        profile.comments.push(format!("greenprof running tasks without a stack: {unavailable}"));
    }
    profile
}

/// The tasks' own labels, and the facts about them as labels, by name.
fn labels(tasks: &Facts<'_>) -> Vec<(String, LabelValue)> {
    let facts = [
        ("spawned_at", tasks.site.map(|site| format!("{}:{}", site.file(), site.line()))),
        ("task_name", tasks.name.map(str::to_owned)),
        ("wait_reason", Some(status(tasks.state).to_owned())),
    ];
    let facts = facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let mut labels: Vec<(String, String)> =
        tasks.labels.labels().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    // A task's own label goes before a fact of the same name.
    for (key, value) in facts {
        if labels.iter().all(|(known, _)| *known != key) {
            labels.push((key, value));
        }
    }
    labels.sort();
    labels.into_iter().map(|(key, value)| (key, LabelValue::Str(value))).collect()
}

/// As the task profile's text, of a snapshot and of a profile of another name.
pub(crate) fn text_of(name: &str, snapshot: &Snapshot, symbolizer: &mut Symbolizer) -> String {
    text(name, &Groups::of(snapshot), symbolizer)
}

/// The tasks in the form of `debug=1`: those with the same stack, labels, state and spawn site are one record.
fn text(name: &str, groups: &Groups, symbolizer: &mut Symbolizer) -> String {
    let mut records: HashMap<_, (i64, Vec<&str>)> = HashMap::new();
    for (tasks, count) in groups.iter() {
        let site = tasks.site.map(|site| (site.file(), site.line()));
        let record = records.entry((tasks.stack, tasks.labels, tasks.state, site)).or_default();
        record.0 += count;
        record.1.extend(tasks.name);
    }
    let records = records.into_iter().map(|((stack, labels, state, site), (count, mut names))| {
        let mut notes = vec![format!("state: {}", status(state))];
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
        let labels = labels.labels().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        CountRecord { count, stack: stack.unwrap_or_default().to_vec(), labels, notes }
    });
    write_count_profile(name, records, symbolizer)
}

/// The tasks in the form of `debug=2`: one after another, in the order of their spawning.
///
/// ```
/// use greenprof_profiler::{symbolize, tasks};
/// use greenprof_runtime::Runtime;
///
/// let text = Runtime::builder().workers(1).build()?.run(|| {
///     let snapshot = tasks::snapshot();
///     tasks::dump(&snapshot, &mut symbolize::shared().lock())
/// });
/// assert!(text.starts_with("goroutine "), "{text}");
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
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
