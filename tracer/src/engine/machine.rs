//! What every task, thread and processor is doing, in the one order of events that the merge has made.
//!
//! The machine accepts an event only in the state that it belongs to, writes it, and knows all states at any moment: so a
//! generation can end anywhere, and the next one can begin with what is. It never writes an event that a reader
//! could refuse. Where events were lost it writes those that must have happened ([`Mode::Force`]).

use super::tables::{Global, Names, NumberMap, Origin, Stacks};
use crate::{
    go::{
        generation::{Batch, Ended, Generation},
        wire::{NO_THREAD, kind as go, proc_status, task_status},
    },
    record::kind,
};

/// A task's place in `Machine::tasks`, a thread's in `threads`, a processor's in `processors`.
pub(super) type At = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Runnable,
    Running(At),
    /// In a blocking section, on a thread.
    Blocking(At),
}

pub(super) struct Task {
    pub(super) id: u64,
    pub(super) state: State,
    /// Starts and wake-ups in this generation.
    sequence: u64,
    /// How often it was resumed, its lowest bits.
    run: u16,
    pub(super) origin: Global,
    /// Its set of labels, and the generation in which it was written.
    labels: u32,
    labels_written: u64,
    /// Open regions: user task and name.
    regions: Vec<(u64, Global)>,
    /// Whether events of it were taken for lost, or for ones before the start, that may still come.
    is_guessed: bool,
}

pub(super) struct Thread {
    batch: Batch,
    /// Whose worker it is: runtime and index.
    worker: Option<(u32, usize)>,
    /// The processor that it runs on when it runs.
    processor: Option<At>,
    /// Whether it runs on it.
    running: bool,
    task: Option<At>,
    /// Whether something is known of it, from its own events.
    attached: bool,
    /// The task that it ran when the engine was started.
    assumed: u64,
    /// The task that it runs, in a run that is over in the machine; 0 for none.
    past: u64,
    /// A stop of the world that has not ended: the place that stands for the thread if it runs no task.
    stopping: Option<Option<usize>>,
}

struct Processor {
    sequence: u64,
    thread: Option<At>,
    /// Whether the reader knows it.
    known: bool,
    running: bool,
}

/// A processor and a task that stand for what threads do outside of any runtime.
struct Outside {
    processor: At,
    /// Made when it is needed first.
    task: Option<At>,
    busy: bool,
}

/// What is known of a task whatever it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) origin: Global,
    pub(super) labels: u32,
}

/// A task that existed at the beginning and has not been heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sleeper {
    pub(super) about: Known,
    /// What it does if nothing is ever heard of it. `None`: it has ended, and only events that were lost said so.
    pub(super) state: Option<State>,
}

pub(crate) struct Machine {
    pub(crate) generation: Generation,
    pub(crate) stacks: Stacks,
    pub(crate) names: Names,
    pub(super) tasks: Vec<Task>,
    /// Places of tasks that have ended.
    free: Vec<At>,
    index: NumberMap<At>,
    /// Where tasks were found last, by the lowest bits of their ids: most events are of few tasks.
    recent: Box<[At; RECENT]>,
    threads: Vec<Thread>,
    thread_index: NumberMap<At>,
    processors: Vec<Processor>,
    free_processors: Vec<At>,
    outside: Vec<Outside>,
    sleepers: NumberMap<Sleeper>,
    /// Tasks that have ended and of which events may still come, by the generations in which they have ended: this one and the last.
    ended: [NumberMap<()>; 2],
    /// Whether this is the engine's first generation, in which what exists is introduced by its status.
    first: bool,
    /// The generation whose number of processors has been written.
    processors_written: u64,
    /// Events for which others had to be made up.
    pub(crate) repaired: u64,
    /// Searches for leaked tasks that go on, and the number of beginnings and ends that have been written: they are told as
    /// garbage collections.
    searches: u32,
    search_shown: bool,
    search_events: u64,
    /// What is not on any thread.
    nowhere: Batch,
    texts: Texts,
    labels_text: NumberMap<Global>,
}

/// Numbers of the texts that the machine itself writes, and of the origin of tasks of which nothing is known.
struct Texts {
    unknown: Global,
    reasons: Vec<Global>,
    yielded: Global,
    lost: Global,
    outside: Global,
    stop: Global,
}

/// The ids of tasks that stand for threads count down from here: no task of a runtime gets so far.
const LAST_ID: u64 = (1 << kind::TASK_BITS) - 1;

/// The thread on which all searches for leaked tasks are shown, whatever thread they are on: a reader takes the first event of a
/// collection that it meets for the first of all, so their order must be that of one thread. No thread of the kernel's has so
/// high an id.
const COLLECTOR: u64 = 1 << 22;

/// The bits of a run that events have.
const RUN_MASK: u16 = (1 << kind::RUN_BITS) - 1;

/// Whether a run is that which was reached, or one before it. Only the lowest bits are known.
fn is_past(run: u16, reached: u16) -> bool {
    reached.wrapping_sub(run) & RUN_MASK < RUN_MASK / 2
}

/// Places of tasks that are remembered.
const RECENT: usize = 256;

/// How much an event may take for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing: it fits the states that are known, or has to wait.
    Strict,
    /// It may be the first event of a task that existed before the start.
    Introduce,
    /// What has to have happened before was lost, and is made up.
    Force,
}

/// A decoded event. `stack` and `name` are global numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Create { task: u64, run: u16, stack: Global, about: Known },
    Start { task: u64, run: u16 },
    Yield { task: u64, run: u16, stack: Global },
    Wait { task: u64, run: u16, reason: u8, stack: Global },
    End { task: u64 },
    Woken { task: u64, run: u16, stack: Global },
    Labels { task: u64, labels: u32 },
    Blocking { task: u64, stack: Global },
    Unblocking { task: u64 },
    Sleep,
    Woke,
    WorkerEnd,
    StopWorld { task: u64, stack: Global },
    ReleaseWorld,
    SearchBegin { stack: Global },
    SearchEnd,
    TaskBegin { task: u64, stack: Global, user: u64, parent: u64, name: &'a str },
    TaskEnd { task: u64, stack: Global, user: u64 },
    RegionBegin { task: u64, stack: Global, user: u64, name: &'a str },
    RegionEnd { task: u64, stack: Global, user: u64, name: &'a str },
    Log { task: u64, stack: Global, user: u64, category: &'a str, message: &'a str },
}

impl Machine {
    pub(super) fn new(mut stacks: Stacks, mut names: Names, start: u64) -> Self {
        let reasons = greenprof_runtime::task::WaitReason::all();
        let texts = Texts {
            unknown: stacks.origin(Origin { name: None, closure: "(created unseen)".into(), site: None }),
            reasons: reasons.iter().map(|reason| names.number(&super::reason_text(*reason))).collect(),
            yielded: names.number("runtime.Gosched"),
            lost: names.number("unspecified"),
            outside: names.number("system goroutine wait"),
            stop: names.number("stop the world"),
        };
        Self {
            generation: Generation::new(1, start),
            stacks,
            names,
            tasks: Vec::new(),
            free: Vec::new(),
            index: NumberMap::default(),
            recent: Box::new([0; RECENT]),
            threads: Vec::new(),
            thread_index: NumberMap::default(),
            processors: Vec::new(),
            free_processors: Vec::new(),
            outside: Vec::new(),
            sleepers: NumberMap::default(),
            ended: [NumberMap::default(), NumberMap::default()],
            first: true,
            processors_written: 0,
            repaired: 0,
            searches: 0,
            search_shown: false,
            search_events: 0,
            nowhere: Batch::new(NO_THREAD),
            texts,
            labels_text: NumberMap::default(),
        }
    }

    /// Forgets everything but the tables: what comes next begins at a time after something was left out.
    pub(super) fn restart(&mut self, start: u64) {
        let (stacks, names) = (std::mem::take(&mut self.stacks), std::mem::take(&mut self.names));
        *self = Self { repaired: self.repaired, ..Self::new(stacks, names, start) };
    }

    /// All tasks that exist.
    pub(super) fn known(&self) -> NumberMap<Known> {
        let stand_in = |at| self.outside.iter().any(|outside| outside.task == Some(at));
        let tasks = (0..).zip(&self.tasks).filter(|(at, task)| task.id != 0 && !stand_in(*at));
        let tasks = tasks.map(|(_, task)| (task.id, Known { origin: task.origin, labels: task.labels }));
        self.sleepers.iter().map(|(id, sleeper)| (*id, sleeper.about)).chain(tasks).collect()
    }

    /// The tables, for the next engine.
    pub(super) fn into_tables(self) -> (Stacks, Names) {
        (self.stacks, self.names)
    }

    /// The thread with a kernel id.
    pub(super) fn thread(&mut self, id: u64, worker: Option<(u32, usize)>) -> At {
        let threads = &mut self.threads;
        let at = *self.thread_index.entry(id).or_insert_with(|| {
            threads.push(Thread {
                batch: Batch::new(id),
                worker,
                processor: None,
                running: false,
                task: None,
                attached: false,
                assumed: 0,
                past: 0,
                stopping: None,
            });
            (threads.len() - 1) as At
        });
        if worker.is_some() {
            self.threads[at as usize].worker = worker;
        }
        at
    }

    /// The processor of a thread with a kernel id, if it has one.
    pub(super) fn processor_of(&self, thread: u64) -> Option<u64> {
        let at = *self.thread_index.get(&thread)?;
        self.threads[at as usize].processor.map(u64::from)
    }

    /// Whether there are tasks that existed at the beginning and have not been heard of.
    pub(super) fn has_sleepers(&self) -> bool {
        !self.sleepers.is_empty()
    }

    /// What is known of the tasks and workers that existed at the beginning, the latter with the task that they ran then.
    pub(super) fn introduce(
        &mut self,
        sleepers: impl IntoIterator<Item = (u64, Sleeper)>,
        workers: impl IntoIterator<Item = (u64, (u32, usize), u64)>,
    ) {
        self.sleepers.extend(sleepers);
        for (id, worker, task) in workers {
            let at = self.thread(id, Some(worker));
            self.threads[at as usize].assumed = task;
        }
    }

    /// Ends the generation and begins the next. `time` is not earlier than any event.
    pub(super) fn cut(&mut self, time: u64) -> Ended {
        self.close_stops(time);
        // A generation can be the first of a file, so a search that goes on is shown as two.
        self.hide_search(time);
        if self.first {
            self.introduce_rest();
        }
        self.flush();
        let ended = self.generation.next(time);
        self.first = false;
        self.sleepers = NumberMap::default();
        self.ended.swap(0, 1);
        self.ended[0].clear();
        self.restate(time);
        if self.searches > 0 {
            self.show_search(0, time);
        }
        ended
    }

    fn flush(&mut self) {
        self.threads.iter_mut().for_each(|thread| self.generation.flush(&mut thread.batch));
        self.generation.flush(&mut self.nowhere);
    }

    /// A stop of the world must not reach into the next generation.
    fn close_stops(&mut self, time: u64) {
        for at in 0..self.threads.len() as At {
            self.release_world(at, time);
        }
    }

    /// Writes the status of what existed at the start and has done nothing since.
    fn introduce_rest(&mut self) {
        let time = self.generation.start;
        for at in 0..self.threads.len() as At {
            let thread = &self.threads[at as usize];
            if thread.worker.is_some() && !thread.attached {
                let (assumed, is_known) = (thread.assumed, self.index.contains_key(&thread.assumed));
                if assumed != 0 && !is_known && self.sleepers.contains_key(&assumed) {
                    self.attach_running(at, assumed, time);
                } else {
                    self.attach(at, false, time);
                }
            }
        }
        for (id, sleeper) in std::mem::take(&mut self.sleepers) {
            if !self.index.contains_key(&id)
                && let Some(state) = sleeper.state
            {
                let at = self.add_task(id, state, sleeper.about);
                self.tasks[at as usize].is_guessed = true;
                self.write_status(None, at, time);
            }
        }
    }

    /// Writes the status of everything: the generation can be read without those before it.
    fn restate(&mut self, time: u64) {
        self.processors.iter_mut().for_each(|processor| processor.sequence = 0);
        self.tasks.iter_mut().for_each(|task| task.sequence = 0);
        for at in 0..self.processors.len() {
            let processor = &self.processors[at];
            if !processor.known {
                continue;
            }
            let thread = processor.thread.filter(|_| processor.running);
            let status = match thread.and_then(|thread| self.threads[thread as usize].task) {
                _ if thread.is_none() => proc_status::IDLE,
                Some(task) if matches!(self.tasks[task as usize].state, State::Blocking(_)) => proc_status::SYSCALL,
                _ => proc_status::RUNNING,
            };
            self.write(thread, time, go::PROC_STATUS, [at as u64, status]);
        }
        // Not `index`: what runs in a thread's batch follows its processor, in any order of tasks.
        for at in 0..self.tasks.len() as At {
            if self.tasks[at as usize].id != 0 {
                let thread = match self.tasks[at as usize].state {
                    State::Running(thread) | State::Blocking(thread) => Some(thread),
                    _ => None,
                };
                self.write_status(thread, at, time);
            }
        }
    }

    fn write_status(&mut self, thread: Option<At>, task: At, time: u64) {
        let Task { id, state, origin, .. } = self.tasks[task as usize];
        let stack = self.stack(origin);
        let (status, on) = match state {
            State::Waiting => (task_status::WAITING, 0),
            State::Runnable => (task_status::RUNNABLE, 0),
            State::Running(thread) => (task_status::RUNNING, self.threads[thread as usize].batch.thread),
            State::Blocking(thread) => (task_status::SYSCALL, self.threads[thread as usize].batch.thread),
        };
        self.write(thread, time, go::GO_STATUS_STACK, [id, on, status, stack]);
    }

    #[inline(never)]
    fn write<const N: usize>(&mut self, thread: Option<At>, time: u64, kind: u8, arguments: [u64; N]) {
        let batch = match thread {
            Some(thread) => &mut self.threads[thread as usize].batch,
            None => &mut self.nowhere,
        };
        self.generation.event(batch, time, kind, arguments);
    }

    /// The same for the events that there are most of: there the arguments stay in registers.
    #[inline(always)]
    fn write_often<const N: usize>(&mut self, thread: At, time: u64, kind: u8, arguments: [u64; N]) {
        self.generation.event(&mut self.threads[thread as usize].batch, time, kind, arguments);
    }

    #[inline]
    fn stack(&mut self, stack: Global) -> u64 {
        self.generation.stack(stack, || self.stacks.get(stack))
    }

    #[inline]
    fn name(&mut self, name: Global) -> u64 {
        self.generation.string(name, || self.names.get(name))
    }

    fn add_task(&mut self, id: u64, state: State, about: Known) -> At {
        let Known { origin, labels } = about;
        // What has no labels at first need not say so.
        let labels_written = if labels == 0 { u64::MAX } else { 0 };
        let task = Task {
            id,
            state,
            sequence: 0,
            run: 0,
            origin,
            labels,
            labels_written,
            regions: Vec::new(),
            is_guessed: false,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.tasks[at as usize] = task;
                at
            }
            None => {
                self.tasks.push(task);
                (self.tasks.len() - 1) as At
            }
        };
        self.index.insert(id, at);
        at
    }

    fn remove_task(&mut self, at: At) {
        let task = &mut self.tasks[at as usize];
        if task.is_guessed {
            self.ended[0].insert(task.id, ());
        }
        self.index.remove(&task.id);
        task.id = 0;
        task.regions = Vec::new();
        self.free.push(at);
    }

    /// Writes an event of a thread, if it can happen now.
    #[inline(always)] // so that no event is put together in memory only to be taken apart again
    pub(super) fn apply(&mut self, thread: At, time: u64, event: Event<'_>, mode: Mode) -> bool {
        if self.is_of_past_run(thread, &event) || self.is_of_ended_task(thread, &event) {
            return true;
        }
        match event {
            Event::Start { task, run } => {
                let before = run.wrapping_sub(1) & RUN_MASK;
                let Some(at) = self.find(thread, task, State::Runnable, before, time, mode) else { return false };
                let known = &self.tasks[at as usize];
                if known.state != State::Runnable || known.run != before {
                    if is_past(run, known.run) {
                        self.threads[thread as usize].past = task;
                        return true;
                    }
                    if mode != Mode::Force {
                        return false;
                    }
                    self.make_runnable(thread, at, time);
                }
                self.tasks[at as usize].run = run;
                self.run(thread, at, time);
                self.write_labels(thread, at, time);
            }
            Event::Woken { task, run, stack } => {
                let Some(at) = self.find(thread, task, State::Waiting, run, time, mode) else { return false };
                let known = &self.tasks[at as usize];
                match known.state {
                    _ if run != known.run && is_past(run, known.run) => return true,
                    State::Waiting if known.run == run || mode == Mode::Force => self.unblock(thread, at, stack, time),
                    _ if mode != Mode::Force => return false,
                    _ => self.make_runnable(thread, at, time),
                }
                self.tasks[at as usize].run = run;
            }
            Event::Create { task, run, stack, about } => {
                if !self.index.contains_key(&task) {
                    self.sleepers.remove(&task);
                    let at = self.create(thread, task, about, stack, time);
                    self.tasks[at as usize].run = run;
                }
            }
            Event::Wait { task, run, reason, stack } => {
                let at = self.bring(thread, task, time);
                self.tasks[at as usize].run = run;
                self.leave_section(thread, at, time);
                let reason = self.texts.reasons.get(usize::from(reason)).copied().unwrap_or(self.texts.lost);
                let arguments = [self.name(reason), self.stack(stack)];
                self.write_often(thread, time, go::GO_BLOCK, arguments);
                self.leave(thread, at, State::Waiting);
            }
            Event::Yield { task, run, stack } => {
                let at = self.bring(thread, task, time);
                self.tasks[at as usize].run = run;
                self.leave_section(thread, at, time);
                let arguments = [self.name(self.texts.yielded), self.stack(stack)];
                self.write_often(thread, time, go::GO_STOP, arguments);
                self.leave(thread, at, State::Runnable);
            }
            Event::End { task } => {
                let at = self.bring(thread, task, time);
                self.leave_section(thread, at, time);
                self.write(Some(thread), time, go::GO_DESTROY, []);
                self.leave(thread, at, State::Waiting);
                self.remove_task(at);
            }
            Event::Labels { task, labels } => {
                let at = self.bring(thread, task, time);
                let task = &mut self.tasks[at as usize];
                if task.labels != labels {
                    task.labels = labels;
                    task.labels_written = 0;
                    self.write_labels(thread, at, time);
                }
            }
            Event::Blocking { task, stack } => {
                let at = self.bring(thread, task, time);
                if self.tasks[at as usize].state == State::Running(thread) {
                    let stack = self.stack(stack);
                    let processor = self.threads[thread as usize].processor.expect("it runs on one");
                    let sequence = &mut self.processors[processor as usize].sequence;
                    *sequence += 1;
                    let arguments = [*sequence, stack];
                    self.write(Some(thread), time, go::GO_SYSCALL_BEGIN, arguments);
                    self.tasks[at as usize].state = State::Blocking(thread);
                }
            }
            Event::Unblocking { task } => {
                let at = self.bring(thread, task, time);
                self.leave_section(thread, at, time);
            }
            Event::Sleep => {
                self.vacate(thread, time);
                self.stop_processor(thread, time);
            }
            Event::Woke => {
                self.attach(thread, false, time);
                self.hold_processor(thread, time);
            }
            Event::WorkerEnd => {
                self.vacate(thread, time);
                self.stop_processor(thread, time);
                self.give_processor(thread);
            }
            Event::StopWorld { task, stack } => self.stop_world(thread, task, stack, time),
            Event::ReleaseWorld => self.release_world(thread, time),
            Event::SearchBegin { stack } => self.begin_search(stack, time),
            Event::SearchEnd => self.end_search(time),
            Event::TaskBegin { task, stack, user, parent, name } => {
                let name = self.names.number(name);
                self.in_task(thread, task, time, |machine| {
                    let arguments = [user, parent, machine.name(name), machine.stack(stack)];
                    machine.write(Some(thread), time, go::USER_TASK_BEGIN, arguments);
                });
            }
            Event::TaskEnd { task, stack, user } => self.in_task(thread, task, time, |machine| {
                let arguments = [user, machine.stack(stack)];
                machine.write(Some(thread), time, go::USER_TASK_END, arguments);
            }),
            Event::RegionBegin { task, stack, user, name } => {
                let name = self.names.number(name);
                let at = self.bring(thread, task, time);
                self.leave_section(thread, at, time);
                self.tasks[at as usize].regions.push((user, name));
                let arguments = [user, self.name(name), self.stack(stack)];
                self.write(Some(thread), time, go::USER_REGION_BEGIN, arguments);
            }
            Event::RegionEnd { task, stack, user, name } => {
                let name = self.names.number(name);
                let at = self.bring(thread, task, time);
                self.leave_section(thread, at, time);
                // The format has regions nested. If one ends before those in it, they end with it.
                let open = self.tasks[at as usize].regions.iter().rposition(|region| *region == (user, name));
                while let Some(open) = open
                    && self.tasks[at as usize].regions.len() > open
                {
                    let (user, name) = self.tasks[at as usize].regions.pop().expect("more than `open`");
                    let arguments = [user, self.name(name), self.stack(stack)];
                    self.write(Some(thread), time, go::USER_REGION_END, arguments);
                }
            }
            Event::Log { task, stack, user, category, message } => {
                let category = self.names.number(category);
                self.in_task(thread, task, time, |machine| {
                    let message = machine.generation.text(message);
                    let arguments = [user, machine.name(category), message, machine.stack(stack)];
                    machine.write(Some(thread), time, go::USER_LOG, arguments);
                });
            }
        }
        true
    }

    /// Whether an event belongs to a run that the machine has passed: it saw a later one first, which happens at the very beginning
    /// of a recording, when tasks are introduced in the order in which they appear, and after losses.
    fn is_of_past_run(&mut self, thread: At, event: &Event<'_>) -> bool {
        let past = &mut self.threads[thread as usize].past;
        if *past == 0 {
            return false;
        }
        let ends = matches!(event, Event::Wait { .. } | Event::Yield { .. } | Event::End { .. });
        let goes_on = match event {
            Event::Wait { task, .. }
            | Event::Yield { task, .. }
            | Event::End { task }
            | Event::Labels { task, .. }
            | Event::Blocking { task, .. }
            | Event::Unblocking { task }
            | Event::StopWorld { task, .. }
            | Event::TaskBegin { task, .. }
            | Event::TaskEnd { task, .. }
            | Event::RegionBegin { task, .. }
            | Event::RegionEnd { task, .. }
            | Event::Log { task, .. } => task == past,
            Event::Create { .. }
            | Event::Woken { .. }
            | Event::ReleaseWorld
            | Event::SearchBegin { .. }
            | Event::SearchEnd => return false,
            Event::Start { .. } | Event::Sleep | Event::Woke | Event::WorkerEnd => false,
        };
        if ends || !goes_on {
            *past = 0;
        }
        goes_on
    }

    /// Whether an event comes too late: for a task that was guessed to exist, or to be woken, without it, and has ended since. A reader
    /// could not tell it from one of another task.
    #[inline]
    fn is_of_ended_task(&mut self, thread: At, event: &Event<'_>) -> bool {
        let (Event::Start { task, .. } | Event::Woken { task, .. } | Event::Create { task, .. }) = event else {
            return false;
        };
        if self.ended.iter().all(|ended| ended.is_empty() || !ended.contains_key(task)) {
            return false;
        }
        if matches!(event, Event::Start { .. }) {
            self.threads[thread as usize].past = *task;
        }
        true
    }

    /// The place of a task that is known.
    #[inline]
    fn place(&mut self, task: u64) -> Option<At> {
        let recent = &mut self.recent[task as usize % RECENT];
        if self.tasks.get(*recent as usize).is_some_and(|there| there.id == task) {
            return Some(*recent);
        }
        let at = *self.index.get(&task)?;
        *recent = at;
        Some(at)
    }

    /// A task that an event names. One that is not known yet was in `state` before, after so many runs. `None`: its creation may
    /// still come.
    fn find(&mut self, thread: At, task: u64, state: State, run: u16, time: u64, mode: Mode) -> Option<At> {
        if let Some(at) = self.place(task) {
            return Some(at);
        }
        let introduce = match mode {
            Mode::Strict => false,
            Mode::Introduce => self.sleepers.contains_key(&task),
            Mode::Force => true,
        };
        introduce.then(|| {
            let at = self.appear(thread, task, state, time);
            self.tasks[at as usize].run = run;
            at
        })
    }

    /// Introduces a task that exists already, waiting or runnable.
    fn appear(&mut self, thread: At, task: u64, state: State, time: u64) -> At {
        let (about, was_known) = self.meet(task);
        if self.first {
            let at = self.add_task(task, state, about);
            self.tasks[at as usize].is_guessed = true;
            self.write_status(Some(thread), at, time);
            return at;
        }
        self.repaired += u64::from(!was_known);
        let at = self.create(thread, task, about, 0, time);
        self.tasks[at as usize].is_guessed = true;
        if state == State::Waiting {
            // Runnable is what a new task is. It waits after it has run.
            self.tasks[at as usize].state = State::Runnable;
        }
        at
    }

    /// What is known of a task that is heard of for the first time, and whether anything was.
    fn meet(&mut self, task: u64) -> (Known, bool) {
        match self.sleepers.remove(&task) {
            Some(sleeper) => (sleeper.about, true),
            None => (Known { origin: self.texts.unknown, labels: 0 }, false),
        }
    }

    fn create(&mut self, thread: At, task: u64, about: Known, stack: Global, time: u64) -> At {
        let at = self.add_task(task, State::Runnable, about);
        let outside = self.enter_processor(thread, time);
        let arguments = [task, self.stack(about.origin), self.stack(stack)];
        self.write(Some(thread), time, go::GO_CREATE, arguments);
        self.leave_processor(thread, outside, time);
        at
    }

    #[inline]
    fn unblock(&mut self, thread: At, at: At, stack: Global, time: u64) {
        let stack = self.stack(stack);
        let task = &mut self.tasks[at as usize];
        task.sequence += 1;
        task.state = State::Runnable;
        let arguments = [task.id, task.sequence, stack];
        self.write_often(thread, time, go::GO_UNBLOCK, arguments);
    }

    /// Makes up what must have made a task runnable.
    fn make_runnable(&mut self, thread: At, at: At, time: u64) {
        self.repaired += 1;
        self.tasks[at as usize].is_guessed = true;
        match self.tasks[at as usize].state {
            State::Waiting => self.unblock(thread, at, 0, time),
            State::Runnable => {}
            State::Running(on) | State::Blocking(on) => self.vacate(on, time),
        }
    }

    /// The task is the one that the thread runs; if it was not known to be, that is made up.
    #[inline]
    fn bring(&mut self, thread: At, task: u64, time: u64) -> At {
        match self.threads[thread as usize].task {
            Some(at) if self.tasks[at as usize].id == task => at,
            _ => self.bring_other(thread, task, time),
        }
    }

    #[cold]
    fn bring_other(&mut self, thread: At, task: u64, time: u64) -> At {
        if !self.threads[thread as usize].attached && self.first && !self.index.contains_key(&task) {
            return self.attach_running(thread, task, time);
        }
        self.repaired += 1;
        let at = match self.index.get(&task) {
            Some(at) => *at,
            None => self.appear(thread, task, State::Runnable, time),
        };
        if self.tasks[at as usize].state != State::Runnable {
            self.make_runnable(thread, at, time);
        }
        self.run(thread, at, time);
        at
    }

    /// The thread's first event is one of a task that has been running since before the start.
    fn attach_running(&mut self, thread: At, task: u64, time: u64) -> At {
        self.attach(thread, true, time);
        let (about, _) = self.meet(task);
        let at = self.add_task(task, State::Running(thread), about);
        self.tasks[at as usize].is_guessed = true;
        self.threads[thread as usize].task = Some(at);
        self.write_status(Some(thread), at, time);
        at
    }

    /// Introduces the processor of a worker of which nothing was heard so far.
    fn attach(&mut self, thread: At, running: bool, time: u64) {
        if std::mem::replace(&mut self.threads[thread as usize].attached, true) {
            return;
        }
        let at = self.processor(thread);
        let running = running && self.first;
        self.threads[thread as usize].running = running;
        let processor = &mut self.processors[at as usize];
        processor.running = running;
        if !std::mem::replace(&mut processor.known, true) {
            let status = if running { proc_status::RUNNING } else { proc_status::IDLE };
            self.write(Some(thread), time, go::PROC_STATUS, [u64::from(at), status]);
        }
    }

    /// The number of a worker's processor, taken if it has none.
    fn processor(&mut self, thread: At) -> At {
        if let Some(at) = self.threads[thread as usize].processor {
            return at;
        }
        let at = self.new_processor();
        self.processors[at as usize].thread = Some(thread);
        self.threads[thread as usize].processor = Some(at);
        at
    }

    /// The lowest number that is free, for readers make a lane for each up to the highest.
    fn new_processor(&mut self) -> At {
        let lowest = self.free_processors.iter().enumerate().min_by_key(|(_, at)| **at).map(|(i, _)| i);
        if let Some(i) = lowest {
            return self.free_processors.swap_remove(i);
        }
        self.processors.push(Processor { sequence: 0, thread: None, known: false, running: false });
        (self.processors.len() - 1) as At
    }

    fn give_processor(&mut self, thread: At) {
        let thread = &mut self.threads[thread as usize];
        thread.worker = None;
        if let Some(at) = thread.processor.take() {
            self.processors[at as usize].thread = None;
            self.free_processors.push(at);
        }
        // The kernel may give the id to another thread.
        thread.attached = false;
        thread.assumed = 0;
    }

    #[inline]
    fn hold_processor(&mut self, thread: At, time: u64) {
        if !self.threads[thread as usize].running {
            self.start_processor(thread, time);
        }
    }

    #[cold]
    fn start_processor(&mut self, thread: At, time: u64) {
        // A first event that needs a processor: it has had it since before the start, with the task that it ran.
        let Thread { attached, assumed, .. } = self.threads[thread as usize];
        if !attached && self.first && self.sleepers.contains_key(&assumed) {
            self.attach_running(thread, assumed, time);
        }
        self.attach(thread, true, time);
        if self.threads[thread as usize].running {
            return;
        }
        let at = self.processor(thread);
        self.start_this(thread, at, time);
        self.threads[thread as usize].running = true;
    }

    fn start_this(&mut self, thread: At, at: At, time: u64) {
        let processor = &mut self.processors[at as usize];
        if !std::mem::replace(&mut processor.known, true) {
            self.write(Some(thread), time, go::PROC_STATUS, [u64::from(at), proc_status::IDLE]);
        }
        let processor = &mut self.processors[at as usize];
        processor.sequence += 1;
        processor.running = true;
        processor.thread = Some(thread);
        let arguments = [u64::from(at), processor.sequence];
        self.write(Some(thread), time, go::PROC_START, arguments);
    }

    fn stop_processor(&mut self, thread: At, time: u64) {
        if !self.threads[thread as usize].attached {
            self.attach(thread, true, time);
        }
        let on = &mut self.threads[thread as usize];
        if std::mem::replace(&mut on.running, false)
            && let Some(at) = on.processor
        {
            self.processors[at as usize].running = false;
            self.write(Some(thread), time, go::PROC_STOP, []);
        }
    }

    /// The task starts on the thread.
    #[inline]
    fn run(&mut self, thread: At, at: At, time: u64) {
        self.vacate(thread, time);
        if !self.threads[thread as usize].running {
            // Nothing ran here before.
            self.attach(thread, true, time);
            self.hold_processor(thread, time);
        }
        let task = &mut self.tasks[at as usize];
        task.sequence += 1;
        task.state = State::Running(thread);
        let arguments = [task.id, task.sequence];
        self.threads[thread as usize].task = Some(at);
        self.write_often(thread, time, go::GO_START, arguments);
        if self.processors_written != self.generation.number {
            self.processors_written = self.generation.number;
            let running = self.processors.iter().filter(|processor| processor.thread.is_some()).count();
            self.write(Some(thread), time, go::PROCS_CHANGE, [running as u64, 0]);
        }
    }

    #[inline]
    fn leave(&mut self, thread: At, at: At, state: State) {
        self.tasks[at as usize].state = state;
        self.threads[thread as usize].task = None;
    }

    /// If the thread is known to run a task that it cannot run any more, the task's departure was lost.
    #[inline]
    fn vacate(&mut self, thread: At, time: u64) {
        if let Some(at) = self.threads[thread as usize].task {
            self.vacate_lost(thread, at, time);
        }
    }

    #[cold]
    fn vacate_lost(&mut self, thread: At, at: At, time: u64) {
        self.repaired += 1;
        self.tasks[at as usize].is_guessed = true;
        self.leave_section(thread, at, time);
        let arguments = [self.name(self.texts.lost), 0];
        self.write(Some(thread), time, go::GO_STOP, arguments);
        self.leave(thread, at, State::Runnable);
    }

    /// Ends the blocking section of a task, if it is in one.
    #[inline]
    fn leave_section(&mut self, thread: At, at: At, time: u64) {
        if self.tasks[at as usize].state == State::Blocking(thread) {
            self.write(Some(thread), time, go::GO_SYSCALL_END, []);
            self.tasks[at as usize].state = State::Running(thread);
        }
    }

    /// Writes a running task's labels, unless they are in the generation already.
    #[inline]
    fn write_labels(&mut self, thread: At, at: At, time: u64) {
        let task = &self.tasks[at as usize];
        // Of a task without labels only the change to none is written.
        let nothing_to_say = task.labels == 0 && task.labels_written != 0;
        if task.labels_written != self.generation.number && !nothing_to_say {
            self.write_new_labels(thread, at, time);
        }
    }

    #[cold]
    fn write_new_labels(&mut self, thread: At, at: At, time: u64) {
        let task = &mut self.tasks[at as usize];
        task.labels_written = self.generation.number;
        let labels = task.labels;
        self.leave_section(thread, at, time);
        let text = match self.labels_text.get(&u64::from(labels)) {
            Some(text) => *text,
            None => {
                let text = self.names.number(&super::labels_text(labels));
                self.labels_text.insert(u64::from(labels), text);
                text
            }
        };
        let text = self.name(text);
        self.write(Some(thread), time, go::GO_LABEL, [text]);
    }

    /// Does something for which the format wants a running task: in the task, or for a thread outside in one that stands for it.
    fn in_task(&mut self, thread: At, task: u64, time: u64, work: impl FnOnce(&mut Self)) {
        if task != 0 {
            let at = self.bring(thread, task, time);
            self.leave_section(thread, at, time);
            return work(self);
        }
        if self.threads[thread as usize].worker.is_some() {
            return; // a worker between two tasks does nothing of the kind
        }
        let place = self.enter_outside(thread, time);
        work(self);
        self.leave_outside(thread, place, time);
    }

    /// Gives a thread a processor for an event that needs one; to be left with what this returns.
    fn enter_processor(&mut self, thread: At, time: u64) -> Option<usize> {
        if self.threads[thread as usize].worker.is_some() {
            self.hold_processor(thread, time);
            if let Some(at) = self.threads[thread as usize].task {
                self.leave_section(thread, at, time);
            }
            return None;
        }
        if self.threads[thread as usize].stopping.is_some_and(|place| place.is_some()) {
            return None; // it has one already
        }
        let place = self.take_outside();
        self.start_this(thread, self.outside[place].processor, time);
        Some(place)
    }

    fn leave_processor(&mut self, thread: At, place: Option<usize>, time: u64) {
        if let Some(place) = place {
            self.write(Some(thread), time, go::PROC_STOP, []);
            self.give_outside(place);
        }
    }

    fn take_outside(&mut self) -> usize {
        let place = match self.outside.iter().position(|outside| !outside.busy) {
            Some(place) => place,
            None => {
                let processor = self.new_processor();
                self.outside.push(Outside { processor, task: None, busy: false });
                self.outside.len() - 1
            }
        };
        self.outside[place].busy = true;
        place
    }

    fn give_outside(&mut self, place: usize) {
        let outside = &mut self.outside[place];
        outside.busy = false;
        let processor = &mut self.processors[outside.processor as usize];
        processor.running = false;
        processor.thread = None;
    }

    fn enter_outside(&mut self, thread: At, time: u64) -> Option<usize> {
        if self.threads[thread as usize].stopping.is_some_and(|place| place.is_some()) {
            return None;
        }
        let place = self.take_outside();
        self.start_this(thread, self.outside[place].processor, time);
        let at = match self.outside[place].task {
            Some(at) => {
                self.unblock(thread, at, 0, time);
                at
            }
            None => {
                // What begins with "runtime." does not count as a task of the program.
                let name = Some("runtime.outside".into());
                let origin = self.stacks.origin(Origin { name, closure: "".into(), site: None });
                let about = Known { origin, labels: 0 };
                let at = self.add_task(LAST_ID - place as u64, State::Runnable, about);
                self.outside[place].task = Some(at);
                let arguments = [self.tasks[at as usize].id, self.stack(origin), 0];
                self.write(Some(thread), time, go::GO_CREATE, arguments);
                at
            }
        };
        let task = &mut self.tasks[at as usize];
        task.sequence += 1;
        task.state = State::Running(thread);
        let arguments = [task.id, task.sequence];
        self.write(Some(thread), time, go::GO_START, arguments);
        self.threads[thread as usize].task = Some(at);
        Some(place)
    }

    fn leave_outside(&mut self, thread: At, place: Option<usize>, time: u64) {
        let Some(place) = place else { return };
        let at = self.outside[place].task.expect("entered before");
        let arguments = [self.name(self.texts.outside), 0];
        self.write(Some(thread), time, go::GO_BLOCK, arguments);
        self.leave(thread, at, State::Waiting);
        self.write(Some(thread), time, go::PROC_STOP, []);
        self.give_outside(place);
    }

    fn stop_world(&mut self, thread: At, task: u64, stack: Global, time: u64) {
        self.release_world(thread, time);
        let place = if task != 0 {
            let at = self.bring(thread, task, time);
            self.leave_section(thread, at, time);
            None
        } else if self.threads[thread as usize].worker.is_none() {
            self.enter_outside(thread, time)
        } else {
            return;
        };
        self.threads[thread as usize].stopping = Some(place);
        let arguments = [self.name(self.texts.stop), self.stack(stack)];
        self.write(Some(thread), time, go::STW_BEGIN, arguments);
    }

    fn release_world(&mut self, thread: At, time: u64) {
        if let Some(place) = self.threads[thread as usize].stopping.take() {
            if self.threads[thread as usize].task.is_some() {
                self.write(Some(thread), time, go::STW_END, []);
            }
            self.leave_outside(thread, place, time);
        }
    }

    /// Several searches at a time are shown as one.
    fn begin_search(&mut self, stack: Global, time: u64) {
        self.searches += 1;
        if self.searches == 1 {
            self.show_search(stack, time);
        }
    }

    fn end_search(&mut self, time: u64) {
        // 0 if it has begun before the engine.
        self.searches = self.searches.saturating_sub(1);
        if self.searches == 0 {
            self.hide_search(time);
        }
    }

    fn show_search(&mut self, stack: Global, time: u64) {
        let collector = self.thread(COLLECTOR, None);
        self.in_task(collector, 0, time, |machine| {
            machine.search_shown = true;
            machine.search_events += 1;
            let arguments = [machine.search_events, machine.stack(stack)];
            machine.write(Some(collector), time, go::GC_BEGIN, arguments);
        });
    }

    fn hide_search(&mut self, time: u64) {
        if !self.search_shown {
            return;
        }
        let collector = self.thread(COLLECTOR, None);
        self.in_task(collector, 0, time, |machine| {
            machine.search_shown = false;
            machine.search_events += 1;
            let arguments = [machine.search_events];
            machine.write(Some(collector), time, go::GC_END, arguments);
        });
    }

    /// Writes how large the heap is, as seen by a thread outside.
    pub(super) fn heap(&mut self, thread: At, bytes: u64, time: u64) {
        let place = self.enter_processor(thread, time);
        self.write(Some(thread), time, go::HEAP_ALLOC, [bytes]);
        self.leave_processor(thread, place, time);
    }
}
