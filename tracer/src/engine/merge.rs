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
    machine::{At, Event, Machine, Mode},
    tables::{Global, Origin},
};
use crate::record::{
    clock::{self, Scale},
    kind::{self, kind_of, run_of, stack_of, task_of, ticks_of, words_of},
    ring::{CAPACITY, Ring},
    stack::SLOTS,
    threads,
};

/// After so many words the writer gets their room back.
const GIVE_BACK: u64 = CAPACITY as u64 / 16;

/// How often a run looks again because events wait. In a program that goes on, the newest ones nearly always do.
const MAX_LOOKS: u32 = 32;

/// A ring as it is read.
struct Stream {
    ring: &'static Ring,
    /// Words read, and words that were there at the last look.
    at: u64,
    end: u64,
    /// The thread that writes it, as the kernel and as the machine know it.
    thread: u64,
    worker: Option<(u32, usize)>,
    machine_thread: Option<At>,
    /// What the slots of the thread's caches stand for.
    stacks: Box<[Global; SLOTS]>,
    origins: Box<[Global; SLOTS]>,
    /// Whether its next event waits for others.
    held: bool,
    /// Where an event had to wait last, and at which look that was noticed.
    waits_at: u64,
    waits_since: u64,
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

impl Stream {
    fn new(ring: &'static Ring) -> Self {
        let start = ring.start();
        Self {
            ring,
            at: start,
            end: start,
            thread: 0,
            worker: None,
            machine_thread: None,
            stacks: Box::new([0; SLOTS]),
            origins: Box::new([0; SLOTS]),
            held: false,
            waits_at: u64::MAX,
            waits_since: 0,
        }
    }

    /// Its next event waits.
    fn wait(&mut self, look: u64) {
        self.held = true;
        if self.waits_at != self.at {
            (self.waits_at, self.waits_since) = (self.at, look);
        }
    }

    #[inline(always)]
    fn word(&self, at: u64) -> u64 {
        self.ring.get(self.at + at)
    }

    /// Is done with a record of so many words.
    #[inline(always)]
    fn advance(&mut self, words: u64) {
        let before = self.at;
        self.at += words;
        // Now and then, so that the writer does not wait for the end of a long run.
        if before / GIVE_BACK != self.at / GIVE_BACK {
            self.ring.set_read(self.at);
        }
    }

    /// The time of its next record.
    #[inline(always)]
    fn next(&self) -> Option<u64> {
        (self.at < self.end).then(|| ticks_of(self.word(0)))
    }
}

impl Merge {
    pub(super) const fn new() -> Self {
        Self { streams: Vec::new(), looks: 0, text: Vec::new(), lost: 0, refused: 0 }
    }

    /// Takes note of what was written since.
    fn look(&mut self) {
        self.looks += 1;
        let streams = &mut self.streams;
        self.refused = threads::rings_from(streams.len(), |ring| streams.push(Stream::new(ring)));
        streams.iter_mut().for_each(|stream| stream.end = stream.ring.end());
    }

    /// Forgets the events of an earlier trace, but not what later ones refer to.
    pub(super) fn skip(&mut self, machine: &mut Machine) {
        self.look();
        for at in 0..self.streams.len() {
            self.streams[at].machine_thread = None;
            while self.streams[at].next().is_some() {
                self.define(at, machine);
                self.advance(at);
            }
            let stream = &self.streams[at];
            stream.ring.set_read(stream.at);
        }
        self.lost = 0;
    }

    /// Passes over what was recorded, and counts it as lost: nobody could take it.
    pub(super) fn discard(&mut self, machine: &mut Machine) {
        self.look();
        for at in 0..self.streams.len() {
            while self.streams[at].next().is_some() {
                self.lost += u64::from(!self.define(at, machine));
                self.advance(at);
            }
            let stream = &self.streams[at];
            stream.ring.set_read(stream.at);
        }
    }

    /// Gives all events up to `limit` (in ticks, not later than now) to the machine. What waits for an event that was not visible
    /// yet stays in its ring until the next time: whoever reads must not run after those who write.
    pub(super) fn run(&mut self, machine: &mut Machine, scale: &Scale, mut limit: u64) {
        self.look();
        let mut looks_left = MAX_LOOKS;
        loop {
            while let Some((first, until)) = self.earliest(limit) {
                if self.run_one(first, until.min(limit), machine, scale) {
                    self.release();
                }
            }
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
                self.look();
            }
            self.release();
        }
        self.release();
        for stream in &self.streams {
            stream.ring.set_read(stream.at);
        }
    }

    /// Whether the last run has left an event that waits for another.
    pub(super) fn is_waiting(&self) -> bool {
        self.streams.iter().any(|stream| stream.waits_at == stream.at && stream.at < stream.end)
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
        let held = self.streams.iter().enumerate().filter(|(_, stream)| stream.held);
        let oldest = held.filter_map(|(at, stream)| Some((stream.next()?, at))).min();
        oldest.map(|(_, at)| at).filter(|at| self.streams[*at].waits_since < self.looks)
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
            self.define(at, machine);
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
        let stack = match stack_of(subject) {
            0 => 0,
            slot => stream.stacks[(slot as usize - 1) % SLOTS],
        };
        let event = match kind_of(head) {
            kind::START => Event::Start { task, run },
            kind::WOKEN => Event::Woken { task, run, stack },
            kind::END => Event::End { task },
            kind::YIELD => Event::Yield { task, run, stack },
            kind::CREATE => {
                let third = stream.word(2);
                let origin = stream.origins.get(third as u32 as usize).copied().unwrap_or(0);
                Event::Create { task, run, stack, origin, labels: (third >> 32) as u32 }
            }
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
        let read = |from: u64, length: u64, text: &mut Vec<u8>| {
            text.clear();
            (0..words_of(length as usize) as u64).for_each(|i| text.extend(stream.word(from + i).to_le_bytes()));
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
                read(4 + words_of(first as usize) as u64, second, text);
                let message = &String::from_utf8_lossy(text);
                let category = &category;
                machine.apply(thread, time, Event::Log { task, stack, user, category, message }, mode)
            }
            kind => unreachable!("a record of kind {kind}, which no writer writes"),
        }
    }

    /// Handles a record that is no event. Whether it was one.
    #[cold]
    fn define(&mut self, at: usize, machine: &mut Machine) -> bool {
        let stream = &mut self.streams[at];
        let second = stream.word(1);
        let slot = second as u32 as usize % SLOTS;
        match kind_of(stream.word(0)) {
            kind::STACK => {
                let addresses = || (0..second >> 32).map(|i| stream.word(3 + i) as usize).collect();
                stream.stacks[slot] = machine.stacks.addresses(stream.word(2), false, addresses);
            }
            kind::ORIGIN => {
                let mut name = Vec::new();
                let length = (second >> 32) as usize;
                (0..words_of(length) as u64).for_each(|i| name.extend(stream.word(5 + i).to_le_bytes()));
                name.truncate(length);
                let (closure, closure_length) = (stream.word(2) as usize, stream.word(3) as usize);
                // SAFETY: the parts of a `&'static str`, as the writer has taken them apart.
                let closure = unsafe {
                    str::from_utf8_unchecked(std::slice::from_raw_parts(closure as *const u8, closure_length))
                };
                // SAFETY: null, or a reference for ever.
                let site = unsafe { (stream.word(4) as *const std::panic::Location<'static>).as_ref() };
                stream.origins[slot] = machine.stacks.origin(Origin {
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
        let stream = &mut self.streams[at];
        stream.advance(kind::length(|i| stream.ring.get(stream.at + i)));
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
