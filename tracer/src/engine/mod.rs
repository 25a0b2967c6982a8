//! The thread that reads what all others record, and makes generations of it.
//!
//! ```text
//!   threads ──rings──▶ merge ──▶ machine ──▶ generation ──▶ finisher ──▶ sinks
//!   (hooks)            one order  valid       events         stacks,      a trace's queue,
//!                                                            strings      the flight recorder
//! ```
//!
//! It runs while there is a [`Sink`]. All sinks get the same generations, each from the one that begins when it is added:
//! every generation can be the first of a file. Nobody waits for a sink: what does not fit is its own loss.
//!
//! While all sinks are content with what they are given when they ask ([`Bounds`]), records are only collected ([`behind`]).

mod behind;
mod finisher;
mod machine;
mod merge;
pub(crate) mod samples;
mod stream;
pub(crate) mod tables;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use greenprof_runtime::{
    heap,
    hooks::{InstallError, take_short_slices},
    labels::LabelSet,
    task::WaitReason,
    world::{self, TaskState},
};

use crate::record::{
    clock::{self, Scale},
    hooks,
};
use behind::Behind;
use machine::{Known, Machine, Sleeper, State};
use merge::Merge;
use tables::{Names, NumberMap, Origin, Stacks};

/// How long a generation is, in nanoseconds; Go's are as long.
const GENERATION: u64 = 1_000_000_000;

/// How large a generation may get before it is ended early.
const MAX_GENERATION: usize = 8 << 20;

/// How often the rings are read at least, and how often if nobody waits for it.
const PERIOD: Duration = Duration::from_millis(5);
const LONG_PERIOD: Duration = Duration::from_millis(50);

/// How often the size of the heap is written.
const HEAP_PERIOD: Duration = Duration::from_millis(50);

/// Bytes of generations that wait for their tables. Beyond that events are lost: the names of functions are looked up too slowly.
const MAX_BACKLOG: u64 = 64 << 20;

/// A generation as sinks get it.
#[derive(Debug)]
pub(crate) struct Block {
    /// Without the header of a file.
    pub(crate) bytes: Vec<u8>,
    /// When it began and ended, in nanoseconds of the monotonic clock.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) stats: Stats,
}

/// Figures of a stretch of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events written.
    pub events: u64,
    /// Events that threads could not record, because their buffers were full.
    pub lost: u64,
    /// Events that were made up, because those that must have happened were lost, or came before the recording had begun on
    /// all threads.
    pub repaired: u64,
    /// Events whose stacks are not there, because too many different ones were seen.
    pub without_stack: u64,
    /// Threads without a buffer, whose events are all lost.
    pub threads_without_buffer: u64,
}

impl Stats {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            lost: self.lost + other.lost,
            repaired: self.repaired + other.repaired,
            without_stack: self.without_stack + other.without_stack,
            threads_without_buffer: self.threads_without_buffer.max(other.threads_without_buffer),
        }
    }
}

/// Who gets generations. Called on the finisher's thread, and must not wait.
pub(crate) trait Sink: Send {
    /// Takes a generation. `false`: it wants no more.
    fn take(&mut self, block: &Arc<Block>) -> bool;

    /// What was given does not go on: something between it and the next generation is left out. Only for those with [`Bounds`].
    fn forget(&mut self) {}

    /// The generations that it keeps, for who calls [`cut`].
    fn kept(&self) -> Vec<Arc<Block>> {
        Vec::new()
    }
}

/// What a sink wants that needs generations only when it asks for them, by [`cut`].
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// How far back they are to go, in nanoseconds.
    pub(crate) window: u64,
    /// Bytes that may be kept for it, and those that it keeps itself.
    pub(crate) max_bytes: usize,
    pub(crate) kept: Arc<AtomicUsize>,
}

impl Bounds {
    fn kept(&self) -> usize {
        // Relaxed: an estimate is enough.
        self.kept.load(Ordering::Relaxed)
    }
}

/// A sink's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SinkId(u64);

enum Command {
    /// At a time in ticks: what happens from then on is for it.
    Add(u64, SinkId, Option<Bounds>, Box<dyn Sink>),
    /// Ends the generation; gives what a sink keeps when it has been delivered.
    Cut(SinkId, mpsc::Sender<Vec<Arc<Block>>>),
    Remove(SinkId, mpsc::Sender<()>),
}

/// What others tell the engine's thread. Guards the list and the wake-up.
struct Inbox {
    commands: Vec<Command>,
    woken: bool,
}

/// Whether events are recorded.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether events are recorded, so that what a program says of itself need not be prepared in vain. One load.
#[inline]
pub(crate) fn is_running() -> bool {
    // Relaxed: an event more or less at the edge of a trace.
    RUNNING.load(Ordering::Relaxed)
}

static INBOX: Mutex<Inbox> = Mutex::new(Inbox { commands: Vec::new(), woken: false });
static WAKE: Condvar = Condvar::new();

/// The engine, if it runs. Guards its start and its end.
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

struct Engine {
    thread: JoinHandle<()>,
    sinks: Vec<SinkId>,
}

/// What outlives a trace: which stack a slot of a thread's cache stands for. Guards nothing else; the engine's thread has it.
static KEPT: Mutex<Option<(Merge, Stacks, Names)>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No guard is held while anything can panic that would leave the value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the rings read soon. For threads that record.
#[cold]
#[inline(never)]
pub(crate) fn wake() {
    lock(&INBOX).woken = true;
    WAKE.notify_one();
}

fn send(command: Command) {
    let mut inbox = lock(&INBOX);
    inbox.commands.push(command);
    inbox.woken = true;
    WAKE.notify_one();
}

/// Waits for something to do, or for the period's end.
fn receive(period: Duration) -> Vec<Command> {
    let mut inbox = lock(&INBOX);
    if !inbox.woken {
        inbox = WAKE.wait_timeout(inbox, period).unwrap_or_else(PoisonError::into_inner).0;
    }
    inbox.woken = false;
    std::mem::take(&mut inbox.commands)
}

/// Why no trace could be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The runtime has no hooks for it.
    #[error(transparent)]
    Hooks(#[from] InstallError),
    /// The system gave no thread.
    #[error("no thread for the tracer: {0}")]
    Thread(Arc<std::io::Error>),
}

/// Adds a sink: from now on, all that happens is for it as well. Takes some milliseconds if it is the first.
pub(crate) fn add(sink: Box<dyn Sink>, bounds: Option<Bounds>) -> Result<SinkId, StartError> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = SinkId(NEXT.fetch_add(1, Ordering::Relaxed));
    let mut engine = lock(&ENGINE);
    match &mut *engine {
        Some(engine) => engine.sinks.push(id),
        None => *engine = Some(Engine { thread: start()?, sinks: vec![id] }),
    }
    send(Command::Add(clock::ticks(), id, bounds, sink));
    Ok(id)
}

/// Removes a sink, after it has got all that happened until now.
pub(crate) fn remove(id: SinkId) {
    let mut engine = lock(&ENGINE);
    let Some(running) = &mut *engine else { return };
    running.sinks.retain(|sink| *sink != id);
    let is_last = running.sinks.is_empty();
    let (done, delivered) = mpsc::channel();
    send(Command::Remove(id, done));
    let _ = delivered.recv();
    if is_last && let Some(ended) = engine.take() {
        // It ends by itself when it has no sink.
        let _ = ended.thread.join();
    }
}

/// Ends the generation now; returns what a sink keeps when it has it.
pub(crate) fn cut(sink: SinkId) -> Vec<Arc<Block>> {
    let engine = lock(&ENGINE);
    if engine.is_none() {
        return Vec::new();
    }
    let (done, kept) = mpsc::channel();
    send(Command::Cut(sink, done));
    drop(engine);
    kept.recv().unwrap_or_default()
}

fn start() -> Result<JoinHandle<()>, StartError> {
    clock::prepare();
    let (ready, started) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("greenprof-trace".into())
        .spawn(move || heap::untracked(|| run(&ready)))
        .map_err(|error| StartError::Thread(Arc::new(error)))?;
    match started.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error.into())
        }
        Err(_) => Err(StartError::Thread(Arc::new(std::io::Error::other("it has ended before it began")))),
    }
}

/// The engine's thread.
fn run(ready: &mpsc::Sender<Result<(), InstallError>>) {
    take_short_slices();
    let scale = Scale::measure();
    let (mut merge, stacks, names) = lock(&KEPT).take().unwrap_or((Merge::new(), Stacks::new(), Names::new()));
    let lost_before = stacks.lost;
    let mut machine = Machine::new(stacks, names, scale.nanoseconds(clock::ticks()));
    merge.skip(&mut machine);
    let hooks = match hooks::install() {
        Ok(hooks) => hooks,
        Err(error) => {
            let (stacks, names) = machine.into_tables();
            *lock(&KEPT) = Some((merge, stacks, names));
            let _ = ready.send(Err(error));
            return;
        }
    };
    RUNNING.store(true, Ordering::Relaxed);
    // After the installation: a task that is not in the snapshot will be seen to be created, or to end.
    introduce(&mut machine);
    let (finisher, jobs) = finisher::start();
    let _ = ready.send(Ok(()));
    let mut engine = Running {
        scale,
        merge,
        machine,
        behind: Behind::default(),
        jobs,
        eager: Vec::new(),
        bounded: Vec::new(),
        reached: clock::ticks(),
        stats: Stats::default(),
        lost_before,
    };
    let mut heap_at = Instant::now();
    'work: loop {
        let commands = receive(if engine.is_behind() { LONG_PERIOD } else { PERIOD });
        engine.scale.adjust();
        let now = clock::ticks();
        let heap = (heap_at.elapsed() >= HEAP_PERIOD && heap::is_active()).then(|| {
            heap_at = Instant::now();
            heap::stats().in_use.bytes
        });
        if engine.is_behind() {
            engine.merge.collect();
            engine.behind.mark(now, &engine.scale, heap);
        } else {
            engine.read();
            if let Some(bytes) = heap {
                engine.heap(bytes, engine.now());
            }
        }
        for command in commands {
            engine.obey(command);
            if engine.eager.is_empty() && engine.bounded.is_empty() {
                break 'work;
            }
        }
        if engine.is_behind() {
            engine.trim(now);
        } else {
            engine.cut_if_due(engine.now());
        }
    }
    RUNNING.store(false, Ordering::Relaxed);
    drop(hooks);
    let Running { mut merge, mut machine, jobs, .. } = engine;
    merge.skip(&mut machine);
    drop(jobs);
    let _ = finisher.join();
    let (stacks, names) = machine.into_tables();
    *lock(&KEPT) = Some((merge, stacks, names));
}

/// All tasks there are, with what they do.
fn tasks(stacks: &mut Stacks) -> NumberMap<Sleeper> {
    let all = world::tasks(0);
    all.iter()
        .map(|task| {
            let origin = stacks.origin(Origin {
                name: task.name.as_deref().map(Into::into),
                closure: task.closure_name.into(),
                site: task.spawn_site,
            });
            let state = if matches!(task.state, TaskState::Waiting(_)) { State::Waiting } else { State::Runnable };
            let about = Known { origin, labels: task.labels.index() };
            (task.id.get(), Sleeper { about, state: Some(state) })
        })
        .collect()
}

/// Tells the machine which tasks and workers exist.
fn introduce(machine: &mut Machine) {
    let sleepers = tasks(&mut machine.stacks);
    machine.introduce(sleepers, merge::workers());
}

struct Running {
    scale: Scale,
    merge: Merge,
    machine: Machine,
    behind: Behind,
    jobs: mpsc::Sender<finisher::Job>,
    /// The sinks that want generations when they are complete, and those that do only when they ask.
    eager: Vec<SinkId>,
    bounded: Vec<(SinkId, Bounds)>,
    /// Up to when all has been read, in ticks.
    reached: u64,
    /// Totals at the last cut.
    stats: Stats,
    lost_before: u64,
}

impl Running {
    /// Reads all that has happened until now, but for events that wait for others.
    fn read(&mut self) {
        self.catch_up(clock::ticks());
        // Not before: all that is collected is to be earlier.
        let now = clock::ticks();
        if !self.behind.is_empty() {
            self.read_behind(now);
        } else if finisher::backlog() < MAX_BACKLOG {
            self.reached = self.merge.run(&mut self.machine, &self.scale, now);
        } else {
            self.merge.discard(&mut self.machine);
            self.reached = now;
        }
    }

    /// The same, and tries twice.
    fn read_all(&mut self) {
        self.read();
        if self.merge.is_waiting() {
            self.read();
        }
    }

    fn obey(&mut self, command: Command) {
        // The receivers of the acknowledgements wait, so nobody minds if one of them is gone.
        match command {
            Command::Add(time, id, bounds, sink) => {
                if self.is_behind() {
                    self.read_behind(time);
                    self.cut(self.now());
                } else if !self.eager.is_empty() {
                    self.cut(self.now());
                }
                match bounds {
                    Some(bounds) => self.bounded.push((id, bounds)),
                    None => self.eager.push(id),
                }
                let _ = self.jobs.send(finisher::Job::Add(id, sink));
            }
            Command::Cut(sink, done) => {
                if self.is_behind() {
                    self.read_behind(clock::ticks());
                } else {
                    self.read_all();
                }
                self.cut(self.now());
                let _ = self.jobs.send(finisher::Job::Tell(sink, done));
            }
            Command::Remove(id, done) => {
                if self.eager.contains(&id) {
                    self.read_all();
                    self.cut(self.now());
                }
                self.eager.retain(|sink| *sink != id);
                self.bounded.retain(|(sink, _)| *sink != id);
                let _ = self.jobs.send(finisher::Job::Remove(id, done));
            }
        }
    }

    /// The time up to which all has been read, in nanoseconds. A generation that ended later would have the next one begin
    /// after its first events.
    fn now(&self) -> u64 {
        self.scale.nanoseconds(self.reached)
    }

    /// Writes how large the heap was.
    fn heap(&mut self, bytes: u64, time: u64) {
        // SAFETY: the calling thread's id.
        let own = self.machine.thread(unsafe { libc::gettid() } as u64, None);
        self.machine.heap(own, bytes, time);
    }

    /// Ends the generation if it is old or large enough at a time in nanoseconds.
    fn cut_if_due(&mut self, time: u64) {
        let generation = &self.machine.generation;
        if time.saturating_sub(generation.start) >= GENERATION || generation.body.len() >= MAX_GENERATION {
            self.cut(time);
        }
    }

    /// Ends the generation and hands it over.
    fn cut(&mut self, end: u64) {
        let samples = samples::take(end, |thread| self.machine.processor_of(thread));
        let ended = self.machine.cut(end);
        let total = self.totals();
        let stats = Stats {
            events: ended.events,
            lost: total.lost - self.stats.lost,
            repaired: total.repaired - self.stats.repaired,
            without_stack: total.without_stack - self.stats.without_stack,
            threads_without_buffer: total.threads_without_buffer,
        };
        self.stats = total;
        finisher::submit(&self.jobs, ended, samples, end, stats);
    }

    /// What was lost or made up since the engine's start. Without the events.
    fn totals(&self) -> Stats {
        Stats {
            events: 0,
            lost: self.merge.lost,
            repaired: self.machine.repaired,
            without_stack: self.machine.stacks.lost - self.lost_before,
            threads_without_buffer: self.merge.refused,
        }
    }
}

/// A wait's reason, as Go's tools know waits: they take what contains `sync`, `chan` or `select` for a wait that another task ends.
fn reason_text(reason: WaitReason) -> String {
    let text = reason.as_str();
    match reason {
        WaitReason::Semaphore | WaitReason::Join => format!("sync ({text})"),
        _ => text.to_owned(),
    }
}

fn labels_text(set: u32) -> String {
    let labels = LabelSet::from_index(set).labels();
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}
