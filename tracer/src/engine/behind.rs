//! Reading later: while nobody wants generations before asking for them, records are collected and not read.
//!
//! That is what a flight recorder costs as long as nobody asks it: the recording, and a copy of sixteen bytes an event. When somebody asks,
//! or a trace begins, what was collected is read in the steps in which it was collected, each with the clock of its time.
//!
//! What is too old by then is passed over ([`Running::trim`]). Then the machine does not know what the tasks did at the time at which
//! the rest begins, and starts anew there, as at the beginning of a trace: a task's first event says what it did before, and those without one
//! do what they do now. Which tasks there were is known, by their creations and ends, which are looked at when they are passed over.

use std::{collections::VecDeque, thread, time::Duration};

use super::{
    Bounds, MAX_BACKLOG, MAX_GENERATION, Running, finisher,
    machine::{Known, Sleeper},
    merge, samples,
    tables::NumberMap,
    tasks,
};
use crate::record::clock::{self, Scale};

/// Nanoseconds that a worker takes at the most from a departure to the start of the next task, unless it is interrupted for longer.
const PATIENCE: u64 = 20_000_000;

/// Nanoseconds between two marks, if only as many are made as are needed.
const MARK_PERIOD: u64 = 5_000_000;

/// Bytes of records that are collected at the most while others are read, beside what sinks want kept.
const MAX_MEANWHILE: usize = 64 << 20;

/// How often what is too old is passed over, in nanoseconds, unless there is no room.
const TRIM_PERIOD: u64 = 1_000_000_000;

/// A moment at which records were collected.
struct Mark {
    ticks: u64,
    scale: Scale,
    /// Bytes in use on the heap, if they are to be written.
    heap: Option<u64>,
}

#[derive(Default)]
pub(super) struct Behind {
    /// Oldest first; all that was collected before one lies before it.
    marks: VecDeque<Mark>,
    /// Set when something was passed over since the machine has read last.
    fresh: Option<Fresh>,
    /// When old records were passed over last, in ticks.
    trimmed: u64,
}

/// What is known of the time up to which all was passed over.
struct Fresh {
    /// In ticks.
    from: u64,
    tasks: NumberMap<Known>,
}

impl Behind {
    /// Whether nothing was collected that has not been read, but since the last reading.
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    pub(super) fn mark(&mut self, ticks: u64, scale: &Scale, heap: Option<u64>) {
        self.marks.push_back(Mark { ticks, scale: scale.clone(), heap });
    }
}

impl Running {
    /// Whether nobody wants generations now.
    pub(super) fn is_behind(&self) -> bool {
        self.eager.is_empty() && !self.bounded.is_empty()
    }

    /// Reads what was recorded until a time in ticks, of what was collected. Not all that waits at that time may have been read: what
    /// it waits for may be stamped later.
    pub(super) fn read_behind(&mut self, until: u64) {
        self.catch_up(until);
        self.merge.collect();
        self.merge.run_behind(&mut self.machine, &self.scale, until, self.scale.ticks(PATIENCE));
        self.reached = until.max(self.reached);
    }

    /// Reads what was collected until the last mark before a time in ticks. Afterwards there are marks if that takes long.
    pub(super) fn catch_up(&mut self, until: u64) {
        if let Some(fresh) = self.behind.fresh.take() {
            self.restart(fresh);
        }
        while let Some(mark) = self.behind.marks.pop_front_if(|mark| mark.ticks <= until) {
            // Nothing need be lost: there is room for what happens meanwhile.
            while finisher::backlog() >= MAX_BACKLOG {
                thread::sleep(Duration::from_millis(1));
                self.collect_meanwhile();
            }
            self.merge.run_behind(&mut self.machine, &mark.scale, mark.ticks, mark.scale.ticks(PATIENCE));
            self.reached = mark.ticks;
            let time = mark.scale.nanoseconds(mark.ticks);
            if let Some(bytes) = mark.heap {
                self.heap(bytes, time);
            }
            self.cut_if_due(time);
            self.collect_meanwhile();
        }
    }

    /// Collects what happens while what was collected is read; that takes longer than the rings last.
    fn collect_meanwhile(&mut self) {
        // In a program that records faster than this reads, the rings are to be full in the end.
        if self.merge.bytes() < self.room().saturating_add(MAX_MEANWHILE) {
            let now = clock::ticks();
            self.merge.collect();
            if self.behind.marks.back().is_some_and(|last| last.ticks + self.scale.ticks(MARK_PERIOD) <= now) {
                self.behind.mark(now, &self.scale, None);
            }
        }
    }

    /// Begins anew with what was left.
    fn restart(&mut self, Fresh { from, tasks: known }: Fresh) {
        let scale = self.behind.marks.front().map_or(&self.scale, |mark| &mark.scale);
        self.machine.restart(scale.nanoseconds(from));
        self.merge.forget_threads();
        self.reached = from;
        // First the list, then the records: of whoever is in it and was created after `from` there is a record.
        let mut sleepers = tasks(&mut self.machine.stacks);
        self.merge.collect();
        let past = self.merge.past();
        sleepers.retain(|task, _| !past.created.contains_key(task));
        for (task, about) in known {
            let state = sleepers.get(&task).and_then(|sleeper| sleeper.state);
            sleepers.insert(task, Sleeper { about, state });
        }
        let workers = merge::workers().into_iter();
        let workers = workers.map(|(thread, worker, task)| (thread, worker, *past.ran.get(&thread).unwrap_or(&task)));
        self.machine.introduce(sleepers, workers);
        // What was lost before is not missing in what is read now.
        self.stats = self.totals();
    }

    /// Bytes that may be kept.
    fn room(&self) -> usize {
        self.bounded.iter().map(|(_, bounds)| bounds.max_bytes).max().unwrap_or(0).max(MAX_GENERATION)
    }

    /// Passes over what is too old or too much, at a time in ticks.
    pub(super) fn trim(&mut self, now: u64) {
        let bounds = || self.bounded.iter().map(|(_, bounds)| bounds);
        let window = bounds().map(|bounds| bounds.window).max().unwrap_or(0);
        let room = self.room();
        // Generations that were given are older than all that was collected since, so they go first.
        let given = bounds().map(Bounds::kept).max().filter(|_| self.behind.fresh.is_none()).unwrap_or(0);
        let begin = now.saturating_sub(self.scale.ticks(window));
        let is_due = now.saturating_sub(self.behind.trimmed) >= self.scale.ticks(TRIM_PERIOD);
        // Also when nothing has happened for so long: what was read then is too old.
        if is_due && self.reached < begin {
            self.behind.trimmed = now;
            self.pass_over(begin);
        }
        if self.merge.bytes() + given > room
            && let Some(oldest) = self.merge.oldest()
        {
            self.pass_over(oldest);
        }
        while self.merge.bytes() > room
            && let Some(oldest) = self.merge.oldest()
            && oldest < now
        {
            self.pass_over(oldest + (now - oldest) / 8 + 1);
        }
    }

    /// Passes over what was recorded before a time in ticks.
    fn pass_over(&mut self, from: u64) {
        let fresh = match &mut self.behind.fresh {
            Some(fresh) => fresh,
            None => {
                let _ = self.jobs.send(finisher::Job::Forget);
                self.behind.fresh.insert(Fresh { from, tasks: self.machine.known() })
            }
        };
        fresh.from = from.max(fresh.from);
        self.merge.skip_until(from, &mut self.machine.stacks, &mut fresh.tasks);
        while self.behind.marks.pop_front_if(|mark| mark.ticks < from).is_some() {}
        samples::forget(self.scale.nanoseconds(from));
    }
}
