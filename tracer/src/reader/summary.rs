//! What each task of a trace did: how long it ran, waited for a processor, and waited for what.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::Arc,
};

use super::{Event, Kind, ReadError, TaskState, Totals};

/// Durations by powers of two.
///
/// ```
/// use greenprof_runtime::{Runtime, yield_now};
/// use greenprof_tracer::reader::{Histogram, Summary};
///
/// let trace = greenprof_tracer::start(Vec::new())?;
/// Runtime::builder().workers(1).build()?.run(|| (0..100).for_each(|_| yield_now()));
/// let mut latency = Histogram::default();
/// for task in Summary::read(&trace.stop()?.0[..])?.tasks() {
///     latency.merge(&task.latency);
/// }
/// assert!(latency.count() >= 100, "from each yield until it ran again");
/// assert!(latency.quantile(0.5) <= latency.quantile(0.99));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// How many were shorter than 2, 4, 8, ... nanoseconds, and not in a bucket before.
    buckets: [u64; 64],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; 64] }
    }
}

impl Histogram {
    fn add(&mut self, nanoseconds: u64) {
        self.buckets[63_usize.saturating_sub(nanoseconds.max(1).leading_zeros() as usize)] += 1;
    }

    /// Adds the durations of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, more)| *sum += more);
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The buckets that hold something: from how many nanoseconds on, twice as many at the most, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, count)| (1 << i, *count))
    }

    /// A bound that a share of the durations does not exceed, in nanoseconds: the upper end of a bucket. 0 if there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (i, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return (2_u64 << i).saturating_sub(1);
            }
        }
        0
    }
}

/// What a task did in the time of the trace. Times are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSummary {
    /// Its number; of a sum over several, the first.
    pub id: u64,
    /// How many tasks this is about.
    pub tasks: u64,
    /// What it is called.
    pub name: Arc<str>,
    /// How long it ran.
    pub running: u64,
    /// How long it waited for a processor.
    pub runnable: u64,
    /// How long it was in system calls, or in blocking sections.
    pub syscall: u64,
    /// How long, and how often, it waited for what.
    pub blocked: BTreeMap<Arc<str>, (u64, u64)>,
    /// From when it could run until it ran, each time.
    pub latency: Histogram,
    /// Whether it has ended.
    pub ended: bool,
}

impl TaskSummary {
    /// How long it waited for anything but a processor.
    pub fn blocked_total(&self) -> u64 {
        self.blocked.values().map(|(time, _)| time).sum()
    }

    fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.running += other.running;
        self.runnable += other.runnable;
        self.syscall += other.syscall;
        self.latency.merge(&other.latency);
        for (reason, (time, count)) in &other.blocked {
            let sum = self.blocked.entry(reason.clone()).or_default();
            sum.0 += time;
            sum.1 += count;
        }
    }
}

/// What a task is doing, and since when.
struct Current {
    state: TaskState,
    since: u64,
    reason: Arc<str>,
}

/// What all tasks of a trace did.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{Runtime, sleep};
/// use greenprof_tracer::reader::Summary;
///
/// let trace = greenprof_tracer::start(Vec::new())?;
/// Runtime::builder().workers(1).build()?.run(|| sleep(Duration::from_millis(5)));
/// let summary = Summary::read(&trace.stop()?.0[..])?;
/// let slept: u64 = summary.tasks().iter().filter_map(|task| task.blocked.get("sleep")).map(|(time, _)| time).sum();
/// // Less than five milliseconds if it was interrupted before it began to wait: when it is to wake was decided before.
/// assert!(slept > 0 && slept <= summary.duration(), "{slept}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Summary {
    tasks: HashMap<u64, (TaskSummary, Option<Current>)>,
    /// When the trace begins and ends, in nanoseconds of its clock.
    span: Option<(u64, u64)>,
    totals: Totals,
}

impl Summary {
    /// Reads a trace to its end.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(source: impl Read) -> Result<Self, ReadError> {
        Self::read_of(source, |_| true)
    }

    /// As [`Summary::read`], but of some tasks only, by number: what others did takes no memory.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_of(source: impl Read, wanted: impl Fn(u64) -> bool) -> Result<Self, ReadError> {
        let mut summary = Self::default();
        let totals = super::read(source, |event| summary.add(event, &wanted))?;
        summary.totals = totals;
        let end = summary.span.map_or(0, |(_, end)| end);
        summary.tasks.values_mut().for_each(|(task, current)| {
            if let Some(current) = current {
                charge(task, current, end);
            }
        });
        Ok(summary)
    }

    /// How many events of which kind there were.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// From the first event to the last, in nanoseconds.
    pub fn duration(&self) -> u64 {
        self.span.map_or(0, |(start, end)| end - start)
    }

    /// The tasks, by number.
    pub fn tasks(&self) -> Vec<&TaskSummary> {
        let mut tasks: Vec<_> = self.tasks.values().map(|(task, _)| task).collect();
        tasks.sort_by_key(|task| task.id);
        tasks
    }

    /// Sums over the tasks that have the same name, by the time that they did not run.
    pub fn by_name(&self) -> Vec<TaskSummary> {
        let mut groups: BTreeMap<&str, TaskSummary> = BTreeMap::new();
        for task in self.tasks() {
            let group = groups.entry(&task.name);
            let group =
                group.or_insert_with(|| TaskSummary { id: task.id, name: task.name.clone(), ..Default::default() });
            group.add(task);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.blocked_total() + group.runnable));
        groups
    }

    /// Adds an event.
    fn add(&mut self, event: &Event, wanted: impl Fn(u64) -> bool) {
        let span = self.span.get_or_insert((event.time, event.time));
        span.1 = event.time;
        let start = span.0;
        let Kind::Task { id, state, status, reason, .. } = &event.kind else { return };
        if !wanted(*id) {
            return;
        }
        let new = || (TaskSummary { id: *id, tasks: 1, ..Default::default() }, None);
        let (task, current) = self.tasks.entry(*id).or_insert_with(new);
        if task.name.is_empty() {
            task.name = event.kind.task_name().unwrap_or_default();
        }
        // What is introduced in a state has been in it from the beginning.
        let since = if *status { start } else { event.time };
        if let Some(current) = current {
            if current.state == TaskState::Runnable && *state == TaskState::Running {
                task.latency.add(event.time - current.since);
            }
            charge(task, current, event.time);
        }
        task.ended = *state == TaskState::Ended;
        *current = (!task.ended).then(|| Current { state: *state, since, reason: reason.clone() });
    }
}

/// Adds the time that a task has been in a state.
fn charge(task: &mut TaskSummary, current: &Current, until: u64) {
    let time = until.saturating_sub(current.since);
    match current.state {
        TaskState::Running => task.running += time,
        TaskState::Runnable => task.runnable += time,
        TaskState::Syscall => task.syscall += time,
        TaskState::Waiting => {
            let sum = task.blocked.entry(current.reason.clone()).or_default();
            sum.0 += time;
            sum.1 += 1;
        }
        TaskState::Ended => {}
    }
}
