//! Reads a trace, and collects rows, waits and arrows of a window of it.
//!
//! Twice: first to see how long it is and which tasks do most in the window ([`Survey`]), then to collect their rows only ([`Scan`]). So
//! memory is bounded by what is shown and by what is alive at a time, but for a number for each task.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use greenprof_tracer::reader::{self, Event, Frame, Kind, ReadError, TaskState};

use super::bars::Row;

/// Tasks that have rows.
const TASKS: usize = 60;

/// Rows of processors, and of workers.
const LANES: usize = 128;

/// Arrows that are told.
const ARROWS: usize = 3000;

/// A part of the trace's time, in nanoseconds from its beginning, and how long a bar is at the least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) bar: u64,
}

/// A task with a row.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) row: Row,
    /// Its longest wait in the whole trace.
    pub(super) longest: Wait,
}

/// A wait, and where the task was meanwhile.
#[derive(Clone, Default)]
pub(super) struct Wait {
    pub(super) length: u64,
    pub(super) reason: Arc<str>,
    pub(super) stack: Arc<[Frame]>,
}

/// From a task being made runnable to its start.
pub(super) struct Arrow {
    pub(super) at: u64,
    /// The task that did it; 0 if none.
    pub(super) by: u64,
    pub(super) task: u64,
    pub(super) ran: u64,
    /// The processors of both.
    pub(super) from: Option<u64>,
    pub(super) to: Option<u64>,
}

#[derive(Default)]
pub(super) struct Scan {
    pub(super) processors: BTreeMap<u64, Row>,
    pub(super) workers: BTreeMap<u64, Row>,
    pub(super) tasks: BTreeMap<u64, Shown>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) arrows_left_out: u64,
}

/// What a task is doing, and since when.
struct Current {
    state: TaskState,
    since: u64,
    reason: Arc<str>,
    stack: Arc<[Frame]>,
    processor: Option<u64>,
    thread: Option<u64>,
    /// When and by whom it was made runnable.
    woken: Option<(u64, u64, Option<u64>)>,
}

impl Scan {
    pub(super) fn read(trace: &[u8], window: Window, shown: &[u64]) -> Result<Self, ReadError> {
        let mut scan = Self::default();
        scan.tasks.extend(shown.iter().map(|id| (*id, Shown::default())));
        let mut current: HashMap<u64, Current> = HashMap::new();
        let (mut start, mut end) = (None, 0);
        reader::read(trace, |event| {
            let start = *start.get_or_insert(event.time);
            end = event.time - start;
            scan.add(event, start, window, &mut current);
        })?;
        for (id, task) in &current {
            scan.end(*id, task, end, window);
        }
        Ok(scan)
    }

    /// Tasks of which the picture has the name.
    pub(super) fn named(&self) -> HashSet<u64> {
        let lanes = self.processors.values().chain(self.workers.values());
        let ran = lanes.flat_map(|row| &row.bars).map(|bar| bar.what);
        let woken = self.arrows.iter().flat_map(|arrow| [arrow.by, arrow.task]);
        ran.chain(woken).chain(self.tasks.keys().copied()).filter(|id| *id != 0).collect()
    }

    fn add(&mut self, event: &Event, start: u64, window: Window, current: &mut HashMap<u64, Current>) {
        let Kind::Task { id, state, status, reason, stack, .. } = &event.kind else { return };
        let now = event.time - start;
        let before = current.remove(id);
        if let Some(before) = &before {
            self.end(*id, before, now, window);
        }
        let is_woken = *state == TaskState::Runnable
            && !status
            && before.as_ref().is_none_or(|before| before.state == TaskState::Waiting);
        let woken = match (&before, state) {
            _ if is_woken => Some((now, event.task.unwrap_or(0), event.processor)),
            (Some(before), TaskState::Running) => {
                before.woken.inspect(|woken| self.arrow(*woken, *id, now, event.processor, window));
                None
            }
            _ => None,
        };
        if *state != TaskState::Ended {
            let (reason, stack) = (reason.clone(), stack.clone());
            let since = if *status { 0 } else { now };
            let (processor, thread) = (event.processor, event.thread);
            current.insert(*id, Current { state: *state, since, reason, stack, processor, thread, woken });
        }
    }

    /// A task has ended being in a state.
    fn end(&mut self, id: u64, task: &Current, end: u64, window: Window) {
        let (start, none) = (task.since, Arc::from(""));
        if task.state == TaskState::Running {
            for (rows, lane) in [(&mut self.processors, task.processor), (&mut self.workers, task.thread)] {
                let Some(lane) = lane else { continue };
                if rows.len() < LANES || rows.contains_key(&lane) {
                    rows.entry(lane).or_default().push(window, start, end, id, &none);
                }
            }
        }
        let Some(shown) = self.tasks.get_mut(&id) else { return };
        shown.row.push(window, start, end, code(task.state), &task.reason);
        if task.state == TaskState::Waiting && end.saturating_sub(start) > shown.longest.length {
            shown.longest = Wait { length: end - start, reason: task.reason.clone(), stack: task.stack.clone() };
        }
    }

    fn arrow(&mut self, woken: (u64, u64, Option<u64>), task: u64, ran: u64, to: Option<u64>, window: Window) {
        let (at, by, from) = woken;
        if ran < window.from || at > window.to {
            return;
        }
        if self.arrows.len() < ARROWS {
            self.arrows.push(Arrow { at, by, task, ran, from, to });
        } else {
            self.arrows_left_out += 1;
        }
    }
}

/// The state of a task in its bars; 0 means several.
fn code(state: TaskState) -> u64 {
    match state {
        TaskState::Running => 1,
        TaskState::Runnable => 2,
        TaskState::Waiting => 3,
        TaskState::Syscall => 4,
        TaskState::Ended => 5,
    }
}

/// The trace as a whole.
pub(super) struct Survey {
    /// In nanoseconds.
    pub(super) duration: u64,
    /// How many tasks there are.
    pub(super) tasks: usize,
    /// Those with the most events in the window, the one that is wanted first.
    pub(super) shown: Vec<u64>,
}

impl Survey {
    pub(super) fn read(trace: &[u8], from: u64, to: u64, wanted: Option<u64>) -> Result<Self, ReadError> {
        let mut events: HashMap<u64, u64> = HashMap::new();
        let (mut start, mut duration) = (None, 0);
        reader::read(trace, |event| {
            duration = event.time - *start.get_or_insert(event.time);
            let Kind::Task { id, .. } = &event.kind else { return };
            *events.entry(*id).or_default() += u64::from((from..=to).contains(&duration));
        })?;
        let mut tasks: Vec<(u64, u64)> = events.into_iter().collect();
        tasks.sort_by_key(|(id, count)| (Some(*id) != wanted, std::cmp::Reverse(*count), *id));
        let shown = tasks.iter().take(TASKS).map(|(id, _)| *id).collect();
        Ok(Self { duration, tasks: tasks.len(), shown })
    }
}
