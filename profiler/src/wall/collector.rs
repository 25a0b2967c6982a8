//! The thread that looks at the tasks.

use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use greenprof_runtime::{
    heap, hooks,
    labels::LabelSet,
    world::{TaskInfo, TaskState, tasks},
};

use super::StartError;
use crate::{profile::wall_clock_nanos, random::Random, tasks::ask_workers, unwind};

/// Frames kept of each stack.
const DEPTH: usize = 128;

/// Tasks that are looked at in each period, about: bounds what a period costs.
const TASKS_A_LOOK: usize = 250;

/// Unused stacks that are passed over for each task that is looked at; a few nanoseconds each.
const UNUSED_A_TASK: usize = 64;

/// Distinct stacks, with labels and state, that are kept. The time of further ones is one sample.
const MAX_STACKS: usize = 1 << 16;

/// How long a worker may take to answer. One that gets no processor would hold up the look.
const PATIENCE: Duration = Duration::from_millis(5);

/// Whether a profile is being taken.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Lets the next profile start when it is dropped.
#[derive(Debug)]
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::SeqCst);
    }
}

/// What was collected.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) period: Duration,
    pub(super) time_nanos: i64,
    pub(super) duration: Duration,
    /// Periods with a look, and without one.
    pub(super) looks: u64,
    pub(super) missed: u64,
    /// Tasks seen in all looks.
    pub(super) seen: u64,
    /// Of these, running tasks that did not tell their stack.
    pub(super) without_stack: u64,
    /// Weight by stack, labels and state: tasks, summed over the looks.
    pub(super) stacks: HashMap<Key, u64>,
    /// Weight beyond `MAX_STACKS`.
    pub(super) overflowed: u64,
}

/// Samples with equal keys are one.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) stack: Vec<usize>,
    pub(super) labels: LabelSet,
    pub(super) state: &'static str,
    pub(super) wait_reason: Option<&'static str>,
}

/// Handle to the collecting thread. Dropping it ends the profile.
#[derive(Debug)]
pub(super) struct Collector {
    /// Dropped to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Collected>>,
    _turn: Turn,
}

impl Collector {
    pub(super) fn start(period: Duration, can_ask: bool) -> Result<Self, StartError> {
        if BUSY.swap(true, Ordering::SeqCst) {
            return Err(StartError::Busy);
        }
        let turn = Turn;
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("greenprof-wall".into())
            .spawn(move || {
                hooks::take_short_slices();
                heap::untracked(|| collect(period, can_ask, &stopped))
            })
            .map_err(|error| StartError::Unavailable(format!("no thread for the wall profiler: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), _turn: turn })
    }

    pub(super) fn stop(mut self) -> Collected {
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<Collected> {
        drop(self.stop.take());
        self.thread.take()?.join().ok()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

fn collect(period: Duration, can_ask: bool, stopped: &mpsc::Receiver<()>) -> Collected {
    unwind::refresh();
    let start = Instant::now();
    let mut collected = Collected { period, time_nanos: wall_clock_nanos(), ..Collected::default() };
    let mut random = Random::new();
    let mut choice = Choice { living: tasks::count() };
    let mut past = 0_u32;
    loop {
        // At a random moment of the next period that has not begun.
        let within = Duration::from_nanos(random.next() % period.as_nanos() as u64);
        let next = period.saturating_mul(past) + within;
        match stopped.recv_timeout(next.saturating_sub(start.elapsed())) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
        collected.look(&mut choice, can_ask, &mut random);
        unwind::refresh();
        let periods = u32::try_from(start.elapsed().as_nanos() / period.as_nanos()).unwrap_or(u32::MAX);
        past = periods.max(past + 1);
    }
    collected.missed = u64::from(past) - collected.looks;
    collected.duration = start.elapsed();
    collected
}

/// How many tasks are looked at.
struct Choice {
    /// About how many tasks there were at the last look.
    living: usize,
}

impl Choice {
    /// One in how many.
    fn stride(&self, stacks: usize) -> usize {
        self.living.div_ceil(TASKS_A_LOOK).max(stacks.div_ceil(TASKS_A_LOOK * UNUSED_A_TASK)).max(1)
    }
}

impl Collected {
    fn look(&mut self, choice: &mut Choice, can_ask: bool, random: &mut Random) {
        self.looks += 1;
        let stride = choice.stride(tasks::stacks());
        let mut chosen = tasks::sample(stride, DEPTH, || random.next());
        choice.living = chosen.len() * stride;
        self.seen += chosen.len() as u64;
        let weight = stride as u64;
        if can_ask && chosen.iter().any(|task| task.state == TaskState::Running) {
            ask_workers(&mut chosen, PATIENCE, |task, stack| self.add(task, stack, weight));
            // Who has stopped running meanwhile has a stack that can be read.
            chosen.look_again(DEPTH);
        }
        for task in chosen.iter() {
            let stack = chosen.stack(task);
            self.without_stack += u64::from(stack.is_none());
            self.add(task, stack.map_or_else(Vec::new, <[usize]>::to_vec), weight);
        }
    }

    fn add(&mut self, task: &TaskInfo, stack: Vec<usize>, weight: u64) {
        let (state, wait_reason) = match task.state {
            TaskState::Running => ("running", None),
            TaskState::Runnable => ("runnable", None),
            TaskState::Waiting(reason) => ("waiting", Some(reason.as_str())),
        };
        let key = Key { stack, labels: task.labels, state, wait_reason };
        if self.stacks.len() >= MAX_STACKS && !self.stacks.contains_key(&key) {
            self.overflowed += weight;
            return;
        }
        *self.stacks.entry(key).or_default() += weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_bounded_and_never_empty() {
        for (living, stacks, stride) in [
            (0, 0, 1),
            (10, 10, 1),
            (TASKS_A_LOOK, TASKS_A_LOOK, 1),
            (100_000, 100_000, 400),
            (10, 1_600_000, 100), // few tasks are left of many
        ] {
            assert_eq!(Choice { living }.stride(stacks), stride, "{living} of {stacks}");
        }
    }
}
