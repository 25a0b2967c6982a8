//! The rules by which the events of several threads are put into one order.
//!
//! Of all threads whose next event can happen in the states that are known, the one with the earliest event goes first. An event
//! that cannot happen yet waits for others; if all wait, the trace is broken.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};

use super::{
    Event, Kind, ReadError, TaskState,
    container::{Batch, CpuSample, Cursor, Frame, Generation},
};
use crate::go::wire::{NO_THREAD, kind, proc_status, task_status};

/// How many arguments the events have, besides the time.
const ARGUMENTS: [u8; 49] = {
    let mut count = [u8::MAX; 49];
    let table: [(u8, u8); 40] = [
        (kind::PROCS_CHANGE, 2),
        (kind::PROC_START, 2),
        (kind::PROC_STOP, 0),
        (kind::PROC_STEAL, 3),
        (kind::PROC_STATUS, 2),
        (kind::GO_CREATE, 3),
        (kind::GO_CREATE_SYSCALL, 1),
        (kind::GO_START, 2),
        (kind::GO_DESTROY, 0),
        (kind::GO_DESTROY_SYSCALL, 0),
        (kind::GO_STOP, 2),
        (kind::GO_BLOCK, 2),
        (kind::GO_UNBLOCK, 3),
        (kind::GO_SYSCALL_BEGIN, 2),
        (kind::GO_SYSCALL_END, 0),
        (kind::GO_SYSCALL_END_BLOCKED, 0),
        (kind::GO_STATUS, 3),
        (kind::STW_BEGIN, 2),
        (kind::STW_END, 0),
        (kind::GC_ACTIVE, 1),
        (kind::GC_BEGIN, 2),
        (kind::GC_END, 1),
        (kind::GC_SWEEP_ACTIVE, 1),
        (kind::GC_SWEEP_BEGIN, 1),
        (kind::GC_SWEEP_END, 2),
        (kind::GC_ASSIST_ACTIVE, 1),
        (kind::GC_ASSIST_BEGIN, 1),
        (kind::GC_ASSIST_END, 0),
        (kind::HEAP_ALLOC, 1),
        (kind::HEAP_GOAL, 1),
        (kind::GO_LABEL, 1),
        (kind::USER_TASK_BEGIN, 4),
        (kind::USER_TASK_END, 2),
        (kind::USER_REGION_BEGIN, 3),
        (kind::USER_REGION_END, 3),
        (kind::USER_LOG, 4),
        (kind::GO_SWITCH, 2),
        (kind::GO_SWITCH_DESTROY, 2),
        (kind::GO_CREATE_BLOCKED, 3),
        (kind::GO_STATUS_STACK, 4),
    ];
    let mut i = 0;
    while i < table.len() {
        count[table[i].0 as usize] = table[i].1;
        i += 1;
    }
    count
};

/// Events of the allocation experiment, which Go writes only when asked.
const EXPERIMENTS: std::ops::RangeInclusive<u8> = 128..=136;

/// A sequence number: a generation and a count in it.
type Sequence = (u64, u64);

struct Task {
    state: TaskState,
    sequence: Sequence,
    regions: Vec<(u64, Arc<str>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ProcState {
    Idle,
    Running,
    Syscall,
    Abandoned,
}

struct Processor {
    state: ProcState,
    sequence: Sequence,
}

/// What a thread holds.
#[derive(Clone, Copy, Default)]
struct Thread {
    processor: Option<u64>,
    task: Option<u64>,
}

/// The states that are known; they outlive a generation.
pub(super) struct Order {
    tasks: HashMap<u64, Task>,
    processors: HashMap<u64, Processor>,
    threads: HashMap<u64, Thread>,
    user_tasks: HashMap<u64, ()>,
    first: bool,
    time: u64,
}

/// Why an event was not accepted.
enum Refusal {
    /// It can happen only after others.
    Wait,
    /// It cannot happen.
    Wrong(String),
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Wrong(what.into()))
}

/// What an event needs of its thread.
fn need(holds: bool, what: &str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { wrong(what) }
}

/// What has to become true.
fn when(holds: bool) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Wait) }
}

/// An event as it is in the bytes.
#[derive(Clone, Copy)]
struct Raw {
    time: u64,
    code: u8,
    arguments: [u64; 5],
}

/// The events of a thread that are still to come.
struct Stream<'a> {
    thread: u64,
    batches: std::slice::Iter<'a, Batch>,
    cursor: Cursor<'a>,
    time: u64,
    next: Option<Raw>,
}

impl<'a> Stream<'a> {
    /// Decodes the next event.
    fn advance(&mut self, generation: &Generation) -> Result<(), String> {
        self.next = None;
        while self.cursor.0.is_empty() {
            let Some(batch) = self.batches.next() else { return Ok(()) };
            self.cursor = Cursor(&batch.events);
            self.time = nanoseconds(batch.time, generation.frequency);
        }
        let code = self.cursor.byte().ok_or("an empty event")?;
        let count = match ARGUMENTS.get(usize::from(code)) {
            Some(&count) if count != u8::MAX => count,
            _ if EXPERIMENTS.contains(&code) => experiment_arguments(code),
            _ => return Err(format!("an event of the unknown kind {code}")),
        };
        let cut = || format!("an event of kind {code} does not end");
        let delta = self.cursor.number().ok_or_else(cut)?;
        self.time = self.time.saturating_add(nanoseconds(delta, generation.frequency));
        let mut arguments = [0; 5];
        for argument in &mut arguments[..usize::from(count)] {
            *argument = self.cursor.number().ok_or_else(cut)?;
        }
        self.next = Some(Raw { time: self.time, code, arguments });
        Ok(())
    }
}

fn experiment_arguments(code: u8) -> u8 {
    // Span, object and stack: each is active (2), allocated (2) or freed (1).
    if (code - EXPERIMENTS.start()) % 3 == 2 { 1 } else { 2 }
}

pub(super) fn nanoseconds(units: u64, frequency: u64) -> u64 {
    u64::try_from(u128::from(units) * 1_000_000_000 / u128::from(frequency)).unwrap_or(u64::MAX)
}

impl Order {
    pub(super) fn new() -> Self {
        Self {
            tasks: HashMap::new(),
            processors: HashMap::new(),
            threads: HashMap::new(),
            user_tasks: HashMap::new(),
            first: true,
            time: 0,
        }
    }

    /// Gives the events of a generation in order.
    pub(super) fn run(&mut self, generation: &Generation, mut each: impl FnMut(&Event)) -> Result<(), ReadError> {
        let error = |what: String| ReadError::Order { generation: generation.number, what };
        let mut streams: Vec<Stream<'_>> = Vec::new();
        for (thread, batches) in &generation.batches {
            let mut stream =
                Stream { thread: *thread, batches: batches.iter(), cursor: Cursor(&[]), time: 0, next: None };
            stream.advance(generation).map_err(error)?;
            streams.push(stream);
        }
        let mut samples = generation.samples.iter().peekable();
        // By the time of their next event, and by their place where that is the same.
        let of = |(at, stream): (usize, &Stream<'_>)| Some(Reverse((stream.next?.time, at)));
        let mut ready: BinaryHeap<_> = streams.iter().enumerate().filter_map(of).collect();
        // Those whose next event waits for others.
        let mut waiting = Vec::new();
        loop {
            let first = ready.peek().map(|Reverse(first)| *first);
            let sample_time = samples.peek().map(|sample| nanoseconds(sample.time, generation.frequency));
            if let Some(time) = sample_time
                && first.is_none_or(|(next, _)| time <= next)
            {
                let sample = samples.next().expect("it was seen");
                each(&self.sample(sample, time, generation));
                continue;
            }
            let Some((_, at)) = first else { break };
            let stream = &mut streams[at];
            let (raw, thread) = (stream.next.expect("it is the first"), stream.thread);
            match self.apply(thread, raw, generation, &mut each) {
                Ok(()) => {
                    stream.advance(generation).map_err(error)?;
                    match stream.next {
                        // In one step, for mostly the same stream goes on.
                        Some(next) => *ready.peek_mut().expect("it was there") = Reverse((next.time, at)),
                        None => _ = ready.pop(),
                    }
                    ready.extend(waiting.drain(..));
                }
                Err(Refusal::Wait) => waiting.extend(ready.pop()),
                Err(Refusal::Wrong(what)) => {
                    return Err(error(format!("thread {}, {}: {what}", thread as i64, name(raw))));
                }
            }
        }
        self.first = false;
        let stuck: Vec<_> = streams
            .iter()
            .filter_map(|stream| Some(format!("thread {}: {}", stream.thread as i64, name(stream.next?))))
            .collect();
        match stuck.len() {
            0 => Ok(()),
            _ => Err(error(format!("no event can be the next one; waiting are {}", stuck.join("; ")))),
        }
    }

    fn sample(&mut self, sample: &CpuSample, time: u64, generation: &Generation) -> Event {
        self.time = self.time.max(time);
        Event {
            time: self.time,
            thread: (sample.thread != NO_THREAD).then_some(sample.thread),
            processor: (sample.processor != NO_THREAD).then_some(sample.processor),
            task: (sample.task != 0).then_some(sample.task),
            code: kind::CPU_SAMPLE,
            kind: Kind::CpuSample(generation.stack(sample.stack).unwrap_or_default()),
        }
    }

    fn apply(
        &mut self,
        thread: u64,
        raw: Raw,
        generation: &Generation,
        each: &mut impl FnMut(&Event),
    ) -> Result<(), Refusal> {
        let held = self.threads.get(&thread).copied().unwrap_or_default();
        let mut now = held;
        let kinds = self.kinds(thread, held, &mut now, raw, generation)?;
        if thread != NO_THREAD {
            self.threads.insert(thread, now);
        }
        self.time = self.time.max(raw.time);
        for kind in kinds.into_iter().flatten() {
            each(&Event {
                time: self.time,
                thread: (thread != NO_THREAD).then_some(thread),
                processor: held.processor.or(now.processor),
                task: held.task,
                code: raw.code,
                kind,
            });
        }
        Ok(())
    }

    /// Checks an event and changes the states. Gives what it tells, mostly one thing.
    fn kinds(
        &mut self,
        thread: u64,
        held: Thread,
        now: &mut Thread,
        raw: Raw,
        generation: &Generation,
    ) -> Result<[Option<Kind>; 2], Refusal> {
        let [a, b, c, d, _] = raw.arguments;
        let number = generation.number;
        let text = |id: u64| generation.string(id).ok_or_else(|| Refusal::Wrong(format!("unknown string {id}")));
        let stack = |id: u64| generation.stack(id).ok_or_else(|| Refusal::Wrong(format!("unknown stack {id}")));
        let on_thread = || need(thread != NO_THREAD, "it happens on no thread");
        let processor = || held.processor.ok_or_else(|| Refusal::Wrong("its thread has no processor".into()));
        let task = || held.task.ok_or_else(|| Refusal::Wrong("its thread runs no task".into()));
        let both = || processor().and_then(|processor| Ok((processor, task()?)));
        let one = |kind: Kind| Ok([Some(kind), None]);
        let state = |id, state, reason, stack, origin| Kind::Task { id, state, status: false, reason, stack, origin };
        let none = || (Arc::<str>::from(""), Arc::<[Frame]>::from([]));
        match raw.code {
            kind::PROC_STATUS => {
                let state = match b {
                    proc_status::RUNNING => ProcState::Running,
                    proc_status::IDLE => ProcState::Idle,
                    proc_status::SYSCALL => ProcState::Syscall,
                    proc_status::SYSCALL_ABANDONED => ProcState::Abandoned,
                    _ => return wrong(format!("unknown status {b}")),
                };
                let bound = matches!(state, ProcState::Running | ProcState::Syscall);
                if let Some(known) = self.processors.get(&a) {
                    let same =
                        known.state == state || state == ProcState::Abandoned && known.state == ProcState::Syscall;
                    need(same, "the processor is in another state")?;
                }
                if bound {
                    on_thread()?;
                    need(held.processor.is_none_or(|processor| processor == a), "its thread has another processor")?;
                    now.processor = Some(a);
                }
                self.processors.insert(a, Processor { state, sequence: (number, 0) });
                one(Kind::Processor { id: a, running: bound })
            }
            kind::PROC_START => {
                on_thread()?;
                when(held.processor.is_none())?;
                let Some(known) = self.processors.get_mut(&a) else { return Err(Refusal::Wait) };
                when(known.state == ProcState::Idle && follows(known.sequence, number, b))?;
                *known = Processor { state: ProcState::Running, sequence: (number, b) };
                now.processor = Some(a);
                one(Kind::Processor { id: a, running: true })
            }
            kind::PROC_STOP => {
                let id = processor()?;
                let known = self.processors.get_mut(&id).ok_or(Refusal::Wait)?;
                need(matches!(known.state, ProcState::Running | ProcState::Syscall), "the processor does not run")?;
                known.state = ProcState::Idle;
                now.processor = None;
                one(Kind::Processor { id, running: false })
            }
            kind::PROC_STEAL => {
                on_thread()?;
                let Some(known) = self.processors.get_mut(&a) else { return Err(Refusal::Wait) };
                let is_syscall = matches!(known.state, ProcState::Syscall | ProcState::Abandoned);
                when(is_syscall && follows(known.sequence, number, b))?;
                let abandoned = known.state == ProcState::Abandoned;
                known.state = ProcState::Idle;
                known.sequence = (number, b);
                if !abandoned {
                    let loser = if c == thread { Some(now) } else { self.threads.get_mut(&c) };
                    match loser {
                        Some(loser) if loser.processor == Some(a) => loser.processor = None,
                        _ => return wrong("the processor is stolen from a thread that has not got it"),
                    }
                }
                one(Kind::Processor { id: a, running: false })
            }
            kind::GO_STATUS | kind::GO_STATUS_STACK => {
                let stack = if raw.code == kind::GO_STATUS_STACK { stack(d)? } else { none().1 };
                let status = match c {
                    task_status::RUNNABLE => TaskState::Runnable,
                    task_status::RUNNING => TaskState::Running,
                    task_status::SYSCALL => TaskState::Syscall,
                    task_status::WAITING => TaskState::Waiting,
                    _ => return wrong(format!("unknown status {c}")),
                };
                let known = self.tasks.get(&a).map(|task| task.state);
                need(known.is_some() || self.first, "a task is introduced after the first generation")?;
                need(known.is_none_or(|known| known == status), "the task is in another state")?;
                if status == TaskState::Running {
                    on_thread()?;
                    now.task = Some(a);
                } else if status == TaskState::Syscall {
                    if b == thread {
                        now.task = Some(a);
                    } else {
                        self.threads.entry(b).or_default().task = Some(a);
                    }
                }
                match self.tasks.get_mut(&a) {
                    Some(task) => {
                        task.sequence = (number, 0);
                        Ok([None, None])
                    }
                    None => {
                        self.add(a, status, number);
                        let (reason, empty) = none();
                        one(Kind::Task { id: a, state: status, status: true, reason, stack: empty, origin: stack })
                    }
                }
                .map(|kinds: [Option<Kind>; 2]| if kinds[0].is_none() { [Some(Kind::Other), None] } else { kinds })
            }
            kind::GO_CREATE | kind::GO_CREATE_BLOCKED => {
                processor()?;
                need(!self.tasks.contains_key(&a), "a task with this number exists")?;
                let begins = if raw.code == kind::GO_CREATE { TaskState::Runnable } else { TaskState::Waiting };
                self.add(a, begins, number);
                one(state(a, begins, none().0, stack(c)?, stack(b)?))
            }
            kind::GO_CREATE_SYSCALL => {
                on_thread()?;
                need(held.task.is_none(), "its thread runs a task")?;
                need(!self.tasks.contains_key(&a), "a task with this number exists")?;
                self.add(a, TaskState::Syscall, number);
                now.task = Some(a);
                let (reason, empty) = none();
                one(state(a, TaskState::Syscall, reason, empty.clone(), empty))
            }
            kind::GO_START => {
                processor()?;
                need(held.task.is_none(), "its thread runs a task")?;
                self.start(a, b, number, TaskState::Runnable)?;
                now.task = Some(a);
                let (reason, empty) = none();
                one(state(a, TaskState::Running, reason, empty.clone(), empty))
            }
            kind::GO_DESTROY => {
                let (_, id) = both()?;
                self.expect(id, TaskState::Running)?;
                self.tasks.remove(&id);
                now.task = None;
                let (reason, empty) = none();
                one(state(id, TaskState::Ended, reason, empty.clone(), empty))
            }
            kind::GO_DESTROY_SYSCALL => {
                let id = task()?;
                self.expect(id, TaskState::Syscall)?;
                self.tasks.remove(&id);
                now.task = None;
                if let Some(processor) = now.processor.take()
                    && let Some(known) = self.processors.get_mut(&processor)
                {
                    need(known.state == ProcState::Syscall, "its processor is in no system call")?;
                    known.state = ProcState::Abandoned;
                }
                let (reason, empty) = none();
                one(state(id, TaskState::Ended, reason, empty.clone(), empty))
            }
            kind::GO_STOP | kind::GO_BLOCK => {
                let (_, id) = both()?;
                let next = if raw.code == kind::GO_STOP { TaskState::Runnable } else { TaskState::Waiting };
                self.expect(id, TaskState::Running)?.state = next;
                now.task = None;
                one(state(id, next, text(a)?, stack(b)?, none().1))
            }
            kind::GO_UNBLOCK => {
                let Some(known) = self.tasks.get_mut(&a) else { return Err(Refusal::Wait) };
                when(known.state == TaskState::Waiting && follows(known.sequence, number, b))?;
                known.state = TaskState::Runnable;
                known.sequence = (number, b);
                one(state(a, TaskState::Runnable, none().0, stack(c)?, none().1))
            }
            kind::GO_SYSCALL_BEGIN => {
                let (processor, id) = both()?;
                let known = self.processors.get_mut(&processor).ok_or(Refusal::Wait)?;
                need(follows(known.sequence, number, a), "the processor's sequence number is wrong")?;
                known.sequence = (number, a);
                known.state = ProcState::Syscall;
                self.expect(id, TaskState::Running)?.state = TaskState::Syscall;
                one(state(id, TaskState::Syscall, none().0, stack(b)?, none().1))
            }
            kind::GO_SYSCALL_END => {
                let (processor, id) = both()?;
                let known = self.processors.get_mut(&processor).ok_or(Refusal::Wait)?;
                need(known.state == ProcState::Syscall, "its processor is in no system call")?;
                known.state = ProcState::Running;
                self.expect(id, TaskState::Syscall)?.state = TaskState::Running;
                let (reason, empty) = none();
                one(state(id, TaskState::Running, reason, empty.clone(), empty))
            }
            kind::GO_SYSCALL_END_BLOCKED => {
                let id = task()?;
                let in_syscall = |id: &u64| self.processors.get(id).is_some_and(|p| p.state == ProcState::Syscall);
                when(!held.processor.as_ref().is_some_and(in_syscall))?;
                self.expect(id, TaskState::Syscall)?.state = TaskState::Runnable;
                now.task = None;
                let (reason, empty) = none();
                one(state(id, TaskState::Runnable, reason, empty.clone(), empty))
            }
            kind::GO_SWITCH | kind::GO_SWITCH_DESTROY => {
                let (_, id) = both()?;
                self.start(a, b, number, TaskState::Waiting)?;
                let left = if raw.code == kind::GO_SWITCH { TaskState::Waiting } else { TaskState::Ended };
                self.expect(id, TaskState::Running)?.state = left;
                if left == TaskState::Ended {
                    self.tasks.remove(&id);
                }
                now.task = Some(a);
                let (reason, empty) = none();
                Ok([
                    Some(state(id, left, reason.clone(), empty.clone(), empty.clone())),
                    Some(state(a, TaskState::Running, reason, empty.clone(), empty)),
                ])
            }
            kind::HEAP_ALLOC => {
                processor()?;
                one(Kind::Heap(a))
            }
            kind::GO_LABEL => {
                both()?;
                one(Kind::Label(text(a)?))
            }
            kind::USER_TASK_BEGIN => {
                both()?;
                stack(d)?;
                need(self.user_tasks.insert(a, ()).is_none(), "a user task with this number is open")?;
                one(Kind::UserTaskBegin { id: a, parent: b, name: text(c)? })
            }
            kind::USER_TASK_END => {
                both()?;
                stack(b)?;
                self.user_tasks.remove(&a);
                one(Kind::UserTaskEnd { id: a })
            }
            kind::USER_REGION_BEGIN | kind::USER_REGION_END => {
                let (_, id) = both()?;
                stack(c)?;
                let name = text(b)?;
                let begins = raw.code == kind::USER_REGION_BEGIN;
                let Some(known) = self.tasks.get_mut(&id) else { return wrong("an unknown task") };
                if begins {
                    known.regions.push((a, name.clone()));
                } else if let Some((task, open)) = known.regions.pop() {
                    need(task == a && open == name, "a region ends that is not the innermost")?;
                }
                one(Kind::Region { task: a, name, begins })
            }
            kind::USER_LOG => {
                both()?;
                stack(d)?;
                one(Kind::Log { task: a, category: text(b)?, message: text(c)? })
            }
            kind::PROCS_CHANGE => {
                both()?;
                stack(b)?;
                one(Kind::Other)
            }
            kind::STW_BEGIN => {
                both()?;
                stack(b)?;
                one(Kind::StopWorld { reason: text(a)?, begins: true })
            }
            kind::STW_END => one(Kind::StopWorld { reason: none().0, begins: false }),
            kind::GC_ACTIVE => one(Kind::Collection { begins: true }),
            kind::GC_BEGIN => {
                both()?;
                stack(b)?;
                one(Kind::Collection { begins: true })
            }
            kind::GC_END => {
                both()?;
                one(Kind::Collection { begins: false })
            }
            _ => one(Kind::Other),
        }
    }

    fn add(&mut self, id: u64, state: TaskState, generation: u64) {
        self.tasks.insert(id, Task { state, sequence: (generation, 0), regions: Vec::new() });
    }

    fn expect(&mut self, id: u64, state: TaskState) -> Result<&mut Task, Refusal> {
        match self.tasks.get_mut(&id) {
            Some(task) if task.state == state => Ok(task),
            _ => wrong(format!("task {id} is not {state:?}")),
        }
    }

    fn start(&mut self, id: u64, sequence: u64, generation: u64, from: TaskState) -> Result<(), Refusal> {
        let Some(known) = self.tasks.get_mut(&id) else { return Err(Refusal::Wait) };
        when(known.state == from && follows(known.sequence, generation, sequence))?;
        known.state = TaskState::Running;
        known.sequence = (generation, sequence);
        Ok(())
    }
}

/// Whether a sequence number is the next one after what is known.
fn follows((generation, known): Sequence, in_generation: u64, number: u64) -> bool {
    generation == in_generation && known.checked_add(1) == Some(number)
}

fn name(raw: Raw) -> String {
    format!("event {} {:?} at {} ns", raw.code, raw.arguments, raw.time)
}
