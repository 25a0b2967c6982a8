//! Makes one order of the events of all threads.
//!
//! Each thread's events are in order. Between threads the time decides, but clocks are read before an event is visible,
//! and a thread may be interrupted in between: so an event also has to fit the states that the machine knows. One that does
//! not is held back, and the streams of the others go on, until it does. That must happen, for every event is in its ring
//! before its consequence can be seen by another thread: a task is recorded as waiting before it can be woken, and as woken before
//! it can be started. A task's events carry the number of its run, so that a wake-up is not taken for an earlier one that
//! is still held back. An event that waits although all others have been given on, and still after another look at the rings, is
//! the first of a task that existed before the start, or records were lost. Then the task is introduced, or the event forced.

use greenprof_runtime::world;

use super::{
    machine::{At, Event, Known, Machine, Mode},
    stream::Stream,
    tables::{Global, NumberMap, Origin, Stacks},
};
use crate::record::{
    clock::{self, Scale},
    kind::{self, kind_of, run_of, task_of, ticks_of, words_of},
    stack::SLOTS,
    threads,
};

/// How often a run looks again because events wait. In a program that goes on, the newest ones nearly always do.
const MAX_LOOKS: u32 = 32;

/// What records tell of the time before them.
#[derive(Default)]
pub(super) struct Past {
    /// Tasks that did not exist.
    pub(super) created: NumberMap<()>,
    /// What threads ran, by their ids, as far as it is known; 0 for no task.
    pub(super) ran: NumberMap<u64>,
}

/// All rings. Lives as long as the process, because what the slots stand for outlives a trace.
pub(super) struct Merge {
    streams: Vec<Stream>,
    /// How often the rings were looked at.
    looks: u64,
    /// Texts of records, as they are decoded.
    text: Vec<u8>,
    /// Events that the threads could not record, as far as they have said so.
    pub(super) lost: u64,
    /// Threads that got no ring.
    pub(super) refused: u64,
}

impl Merge {
    pub(super) const fn new() -> Self {
        Self { streams: Vec::new(), looks: 0, text: Vec::new(), lost: 0, refused: 0 }
    }

    /// Takes what was recorded since from the rings.
    pub(super) fn collect(&mut self) {
        self.looks += 1;
        let streams = &mut self.streams;
        self.refused = threads::rings_from(streams.len(), |ring| streams.push(Stream::new(ring)));
        streams.iter_mut().for_each(Stream::collect);
    }

    /// Forgets the events of an earlier trace, but not what later ones refer to.
    pub(super) fn skip(&mut self, machine: &mut Machine) {
        self.forget_threads();
        self.discard(machine);
        self.lost = 0;
    }

    /// For another machine, which knows no threads.
    pub(super) fn forget_threads(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.machine_thread = None);
    }

    /// Passes over what was recorded, and counts it as lost: nobody could take it.
    pub(super) fn discard(&mut self, machine: &mut Machine) {
        self.collect();
        for at in 0..self.streams.len() {
            while self.streams[at].next().is_some() {
                self.lost += u64::from(!self.define(at, &mut machine.stacks));
                self.advance(at);
            }
            self.streams[at].free();
        }
    }

    /// Passes over what was recorded before a time in ticks, but not what later records refer to. `known` is told of the tasks that
    /// were created and have ended.
    pub(super) fn skip_until(&mut self, time: u64, stacks: &mut Stacks, known: &mut NumberMap<Known>) {
        let mut ended = Vec::new();
        for at in 0..self.streams.len() {
            while self.streams[at].next().is_some_and(|next| next < time) {
                if !self.define(at, stacks) {
                    let stream = &mut self.streams[at];
                    let task = task_of(stream.word(1));
                    match kind_of(stream.word(0)) {
                        kind::CREATE => drop(known.insert(task, stream.created())),
                        // Its creation may be in a stream that comes later.
                        kind::END => ended.push(task),
                        kind::LABELS => {
                            known.entry(task).and_modify(|known| known.labels = stream.word(2) as u32);
                        }
                        kind::WORKER_END => stream.worker = None,
                        _ => {}
                    }
                }
                self.advance(at);
            }
            self.streams[at].free();
        }
        for task in ended {
            known.remove(&task);
        }
    }

    /// Bytes of the records that were collected.
    pub(super) fn bytes(&self) -> usize {
        self.streams.iter().map(Stream::words).sum::<usize>() * size_of::<u64>()
    }

    /// The time of the oldest record that was collected, in ticks.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.streams.iter().filter_map(Stream::next).min()
    }

    /// What the collected records tell of the time before them.
    pub(super) fn past(&self) -> Past {
        let mut past = Past::default();
        for stream in &self.streams {
            let (mut thread, mut is_told) = (stream.thread, false);
            for record in stream.records() {
                let task = task_of(record[1]);
                let ran = match kind_of(record[0]) {
                    kind::THREAD => {
                        thread = record[1];
                        0 // it has not recorded anything before
                    }
                    kind::CREATE => {
                        past.created.insert(task, ());
                        continue;
                    }
                    kind::START | kind::SLEEP..=kind::WORKER_END => 0,
                    kind::YIELD | kind::END | kind::LABELS..=kind::UNBLOCKING | kind::WAIT.. => task,
                    kind::STOP_WORLD..=kind::LOG if task != 0 => task,
                    _ => continue,
                };
                if !is_told || kind_of(record[0]) == kind::THREAD {
                    past.ran.entry(thread).or_insert(ran);
                    is_told = true;
                }
            }
        }
        past
    }

    /// Gives all events up to `limit` (in ticks, not later than now) to the machine. What waits for an event that was not visible
    /// yet stays until the next time: whoever reads must not run after those who write. Gives the limit, later if events had to wait.
    pub(super) fn run(&mut self, machine: &mut Machine, scale: &Scale, mut limit: u64) -> u64 {
        self.collect();
        let mut looks_left = MAX_LOOKS;
        loop {
            self.run_all(limit, machine, scale);
            if !self.streams.iter().any(|stream| stream.held) {
                break;
            }
            let has_looked = looks_left < MAX_LOOKS;
            let unlocked = (has_looked && machine.has_sleepers() && self.introduce(machine, scale))
                || self.oldest_in_vain().is_some_and(|at| self.step(at, machine, scale, Mode::Force));
            if !unlocked {
                if looks_left == 0 {
                    break;
                }
                // What they wait for may have become visible, or may be stamped later than what it causes.
                looks_left -= 1;
                limit = limit.max(clock::ticks());
                self.collect();
            }
            self.release();
        }
        self.release();
        limit
    }

    /// The same of events that were all visible when later ones were collected. So one that waits has no predecessor, unless
    /// that is stamped later: a start, which has the time of the departure before it, waits until `patience` ticks after its time have been
    /// read as well.
    pub(super) fn run_behind(&mut self, machine: &mut Machine, scale: &Scale, limit: u64, patience: u64) {
        loop {
            self.run_all(limit, machine, scale);
            let unlocked = (machine.has_sleepers() && self.introduce(machine, scale))
                || self
                    .oldest_held()
                    .filter(|(time, at)| !self.streams[*at].is_at_start() || time.saturating_add(patience) < limit)
                    .is_some_and(|(_, at)| self.step(at, machine, scale, Mode::Force));
            self.release();
            if !unlocked {
                break;
            }
        }
    }

    fn run_all(&mut self, limit: u64, machine: &mut Machine, scale: &Scale) {
        while let Some((first, until)) = self.earliest(limit) {
            if self.run_one(first, until.min(limit), machine, scale) {
                self.release();
            }
        }
    }

    /// Whether the last run has left an event that waits for another.
    pub(super) fn is_waiting(&self) -> bool {
        self.streams.iter().any(|stream| stream.waits_at == stream.passed && stream.next().is_some())
    }

    /// Introduces the task of the first event that can be its task's first. Whether there was one.
    fn introduce(&mut self, machine: &mut Machine, scale: &Scale) -> bool {
        let mut held: Vec<_> = self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| stream.held)
            .filter_map(|(at, stream)| Some((stream.next()?, at)))
            .collect();
        held.sort_unstable();
        held.iter().any(|(_, at)| self.step(*at, machine, scale, Mode::Introduce))
    }

    /// The stream with the oldest event that waits, if that was so at the last look already: what it waits for was recorded before it
    /// was visible itself, so that look would have found it, and it has been lost. Or it lies behind a younger event that waits for
    /// something lost; then it comes when it is not needed any more, and the machine passes it over.
    fn oldest_in_vain(&self) -> Option<usize> {
        self.oldest_held().map(|(_, at)| at).filter(|at| self.streams[*at].waits_since < self.looks)
    }

    fn oldest_held(&self) -> Option<(u64, usize)> {
        let held = self.streams.iter().enumerate().filter(|(_, stream)| stream.held);
        held.filter_map(|(at, stream)| Some((stream.next()?, at))).min()
    }

    fn release(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.held = false);
    }

    /// The stream with the earliest event that is not held back, and the time of the second.
    fn earliest(&self, limit: u64) -> Option<(usize, u64)> {
        let (mut first, mut second) = ((u64::MAX, usize::MAX), u64::MAX);
        for (at, stream) in self.streams.iter().enumerate() {
            if let Some(time) = stream.next()
                && !stream.held
            {
                if time < first.0 {
                    second = first.0;
                    first = (time, at);
                } else {
                    second = second.min(time);
                }
            }
        }
        (first.0 <= limit && first.1 != usize::MAX).then_some((first.1, second))
    }

    /// Runs one stream until another is earlier. Whether any of its events was accepted.
    fn run_one(&mut self, at: usize, until: u64, machine: &mut Machine, scale: &Scale) -> bool {
        let mut any = false;
        while let Some(time) = self.streams[at].next()
            && time <= until
        {
            if !self.step(at, machine, scale, Mode::Strict) {
                self.streams[at].wait(self.looks);
                return any;
            }
            any = true;
        }
        any
    }

    /// Handles the next record of a stream, unless it must wait.
    fn step(&mut self, at: usize, machine: &mut Machine, scale: &Scale, mode: Mode) -> bool {
        let stream = &mut self.streams[at];
        let head = stream.word(0);
        if kind_of(head) <= kind::LOST {
            self.define(at, &mut machine.stacks);
            self.advance(at);
            return true;
        }
        let thread = match stream.machine_thread {
            Some(thread) => thread,
            None => *stream.machine_thread.insert(machine.thread(stream.thread, stream.worker)),
        };
        let stream = &self.streams[at];
        let time = scale.nanoseconds(ticks_of(head));
        let subject = stream.word(1);
        let (task, run) = (task_of(subject), run_of(subject));
        let stack = stream.stack(subject);
        let event = match kind_of(head) {
            kind::START => Event::Start { task, run },
            kind::WOKEN => Event::Woken { task, run, stack },
            kind::END => Event::End { task },
            kind::YIELD => Event::Yield { task, run, stack },
            kind::CREATE => Event::Create { task, run, stack, about: stream.created() },
            kind::LABELS => Event::Labels { task, labels: stream.word(2) as u32 },
            kind::BLOCKING => Event::Blocking { task, stack },
            kind::UNBLOCKING => Event::Unblocking { task },
            kind::SLEEP => Event::Sleep,
            kind::WOKE | kind::WORKER_START => Event::Woke,
            kind::WORKER_END => Event::WorkerEnd,
            kind::STOP_WORLD => Event::StopWorld { task, stack },
            kind::RELEASE_WORLD => Event::ReleaseWorld,
            kind::SEARCH_BEGIN => Event::SearchBegin { stack },
            kind::SEARCH_END => Event::SearchEnd,
            kind if kind >= kind::WAIT => Event::Wait { task, run, reason: kind - kind::WAIT, stack },
            _ => {
                let applied = self.step_user(at, machine, thread, time, task, stack, mode);
                if applied {
                    self.advance(at);
                }
                return applied;
            }
        };
        let applied = machine.apply(thread, time, event, mode);
        if applied {
            let words = if matches!(kind_of(head), kind::CREATE | kind::LABELS) { 3 } else { 2 };
            self.streams[at].advance(words);
        }
        applied
    }

    /// The records with texts.
    #[allow(clippy::too_many_arguments)]
    fn step_user(
        &mut self,
        at: usize,
        machine: &mut Machine,
        thread: At,
        time: u64,
        task: u64,
        stack: Global,
        mode: Mode,
    ) -> bool {
        let stream = &self.streams[at];
        let user = stream.word(2);
        let read = |from: usize, length: u64, text: &mut Vec<u8>| {
            text.clear();
            (0..words_of(length as usize)).for_each(|i| text.extend(stream.word(from + i).to_le_bytes()));
            text.truncate(length as usize);
        };
        let text = &mut self.text;
        match kind_of(stream.word(0)) {
            kind::TASK_BEGIN => {
                read(5, stream.word(4), text);
                let name = &String::from_utf8_lossy(text);
                machine.apply(thread, time, Event::TaskBegin { task, stack, user, parent: stream.word(3), name }, mode)
            }
            kind::TASK_END => machine.apply(thread, time, Event::TaskEnd { task, stack, user }, mode),
            kind @ (kind::REGION_BEGIN | kind::REGION_END) => {
                read(4, stream.word(3), text);
                let name = &String::from_utf8_lossy(text);
                let event = if kind == kind::REGION_BEGIN {
                    Event::RegionBegin { task, stack, user, name }
                } else {
                    Event::RegionEnd { task, stack, user, name }
                };
                machine.apply(thread, time, event, mode)
            }
            kind::LOG => {
                let lengths = stream.word(3);
                let (first, second) = (lengths >> 32, lengths & u64::from(u32::MAX));
                read(4, first, text);
                let category = String::from_utf8_lossy(text).into_owned();
                read(4 + words_of(first as usize), second, text);
                let message = &String::from_utf8_lossy(text);
                let category = &category;
                machine.apply(thread, time, Event::Log { task, stack, user, category, message }, mode)
            }
            kind => unreachable!("a record of kind {kind}, which no writer writes"),
        }
    }

    /// Handles a record that is no event. Whether it was one.
    #[cold]
    fn define(&mut self, at: usize, stacks: &mut Stacks) -> bool {
        let stream = &mut self.streams[at];
        let second = stream.word(1);
        let slot = second as u32 as usize % SLOTS;
        match kind_of(stream.word(0)) {
            kind::STACK => {
                let addresses = || (0..(second >> 32) as usize).map(|i| stream.word(3 + i) as usize).collect();
                stream.stacks[slot] = stacks.addresses(stream.word(2), false, addresses);
            }
            kind::ORIGIN => {
                let mut name = Vec::new();
                let length = (second >> 32) as usize;
                (0..words_of(length)).for_each(|i| name.extend(stream.word(5 + i).to_le_bytes()));
                name.truncate(length);
                let (closure, closure_length) = (stream.word(2) as usize, stream.word(3) as usize);
                // SAFETY: the parts of a `&'static str`, as the writer has taken them apart.
                let closure = unsafe {
                    str::from_utf8_unchecked(std::slice::from_raw_parts(closure as *const u8, closure_length))
                };
                // SAFETY: null, or a reference for ever.
                let site = unsafe { (stream.word(4) as *const std::panic::Location<'static>).as_ref() };
                stream.origins[slot] = stacks.origin(Origin {
                    name: (length > 0).then(|| String::from_utf8_lossy(&name).into()),
                    closure: closure.into(),
                    site,
                });
            }
            kind::THREAD => {
                stream.thread = second;
                let worker = stream.word(2);
                stream.worker = (worker != u64::MAX).then_some(((worker >> 32) as u32, worker as u32 as usize));
                stream.machine_thread = None;
            }
            kind::LOST => self.lost += second,
            _ => return false,
        }
        true
    }

    fn advance(&mut self, at: usize) {
        self.streams[at].pass();
    }
}

/// The workers that exist, with the tasks that they run.
pub(super) fn workers() -> Vec<(u64, (u32, usize), u64)> {
    world::workers()
        .into_iter()
        .map(|worker| {
            let task = worker.task().map_or(0, |task| task.id.get());
            (worker.thread_id() as u64, (worker.runtime_id(), worker.index()), task)
        })
        .collect()
}
