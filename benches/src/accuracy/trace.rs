//! What a trace says of how long tasks ran, waited and could run, beside the program's own clock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use greenprof_runtime::{
    Runtime, sleep,
    sync::{Chan, Mutex},
    task,
};
use greenprof_tracer::reader::{self, Kind, Summary, TaskState, TaskSummary};

use super::Estimates;
use crate::{case::Effort, values::Values};

/// How often the two tasks meet, where nothing else is asked.
pub const ROUNDS: u32 = 25;

/// How long the lock is held by a task that sleeps, how long that one then keeps the processor from who can run (not so long that a
/// stand-in comes), how long a thread is blocked.
const HELD: Duration = Duration::from_millis(12);
const COMPUTED: Duration = Duration::from_millis(6);
/// How long a task computes that is alone: so long that what a debug build does between a task's start and its first look at the
/// clock, nearly 0.1 ms, is little beside it.
const ALONE: Duration = Duration::from_millis(25);
const BLOCKED: Duration = Duration::from_millis(8);

/// Durations as the program has measured them, in nanoseconds, one a round, and the moment of the last release.
#[derive(Debug, Default)]
pub struct Clock {
    slept: Durations,
    computed: Durations,
    blocked: Durations,
    waited: Durations,
    could_run: Durations,
    released: AtomicU64,
}

/// Guards the list. Held for a push, so a task may take it.
#[derive(Debug, Default)]
struct Durations(std::sync::Mutex<Vec<u64>>);

impl Durations {
    fn add(&self, duration: Duration) {
        self.0.lock().expect("no panic").push(duration.as_nanos() as u64);
    }

    fn get(&self) -> Vec<u64> {
        self.0.lock().expect("no panic").clone()
    }
}

/// What a trace says of one kind of time beside what the program's clock says, in nanoseconds, round by round.
#[derive(Debug)]
pub struct Beside {
    pub name: &'static str,
    pub traced: Vec<u64>,
    pub truth: Vec<u64>,
}

impl Beside {
    /// The sums of both.
    pub fn sums(&self) -> (u64, u64) {
        (self.traced.iter().sum(), self.truth.iter().sum())
    }
}

fn compute(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

#[inline(never)]
fn holds(lock: &Mutex<()>, held: &Chan<()>, clock: &Clock, start: Instant) {
    let guard = lock.lock();
    held.send(()).expect("nobody closes it");
    let before_sleep = Instant::now();
    sleep(HELD);
    clock.slept.add(before_sleep.elapsed());
    clock.released.store(start.elapsed().as_nanos() as u64, Relaxed);
    drop(guard);
    compute(COMPUTED);
}

#[inline(never)]
fn computes(clock: &Clock) {
    let start = Instant::now();
    compute(ALONE);
    clock.computed.add(start.elapsed());
}

#[inline(never)]
fn waits(lock: &Mutex<()>, clock: &Clock, start: Instant) {
    let turn = start.elapsed();
    drop(lock.lock());
    let now = start.elapsed();
    let released = Duration::from_nanos(clock.released.load(Relaxed));
    clock.waited.add(released.saturating_sub(turn));
    clock.could_run.add(now.saturating_sub(released));
}

#[inline(never)]
fn blocks(clock: &Clock) {
    let start = Instant::now();
    task::blocking(|| thread::sleep(BLOCKED));
    clock.blocked.add(start.elapsed());
}

/// Runs the tasks, and gives their trace. One worker, so that who can run has to wait for who computes.
///
/// # Panics
/// If there is no trace, or no runtime.
pub fn program(clock: &Arc<Clock>, rounds: u32) -> Vec<u8> {
    let trace = greenprof_tracer::start(Vec::new()).expect("a trace");
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let start = Instant::now();
    runtime.run(|| {
        for _ in 0..rounds {
            let lock = Arc::new(Mutex::new(()));
            let named = |name: &str| task::Builder::new().name(name);
            let held = Chan::with_capacity(1);
            let (theirs, tells, times) = (lock.clone(), held.clone(), clock.clone());
            let holder = named("holder").spawn(move || holds(&theirs, &tells, &times, start)).expect("memory");
            // Whoever comes second has to wait.
            held.recv();
            let (theirs, times) = (lock.clone(), clock.clone());
            let waiter = named("waiter").spawn(move || waits(&theirs, &times, start)).expect("memory");
            holder.join().expect("no panic");
            waiter.join().expect("no panic");
            let times = clock.clone();
            let blocker = named("blocker").spawn(move || blocks(&times)).expect("memory");
            blocker.join().expect("no panic");
            let times = clock.clone();
            let computer = named("computer").spawn(move || computes(&times)).expect("memory");
            computer.join().expect("no panic");
        }
    });
    drop(runtime);
    trace.stop().expect("a whole trace").0
}

/// Time that each task of a name could run and did not, without that before its first start: Go's tool leaves it out. By the tasks'
/// ids.
///
/// # Panics
/// If it is no trace.
fn runnable_after_first_start(file: &[u8], name: &str) -> Vec<u64> {
    let mut tasks = BTreeMap::new();
    reader::read(file, |event| {
        let Kind::Task { id, state, origin, .. } = &event.kind else { return };
        let is_it = origin.last().is_some_and(|frame| &*frame.function == name);
        let (has_started, since, sum, _) = tasks.entry(*id).or_insert((false, None, 0, is_it));
        if let Some(since) = since.take()
            && *has_started
        {
            *sum += event.time - since;
        }
        *has_started |= *state == TaskState::Running;
        *since = (*state == TaskState::Runnable).then_some(event.time);
    })
    .expect("valid");
    tasks.into_values().filter(|(.., is_it)| *is_it).map(|(_, _, sum, _)| sum).collect()
}

/// What a trace says, beside the clocks that the program has read.
///
/// # Panics
/// If the trace is not that of [`program`].
pub fn beside_clocks(bytes: &[u8], clock: &Clock) -> [Beside; 5] {
    let summary = Summary::read(bytes).expect("valid");
    // A round makes one task of each name, so the order of their ids is that of the rounds.
    let of = |name: &str, time: &dyn Fn(&TaskSummary) -> u64| -> Vec<u64> {
        let mut tasks: Vec<_> = summary.tasks().into_iter().filter(|task| &*task.name == name).collect();
        tasks.sort_by_key(|task| task.id);
        tasks.into_iter().map(time).collect()
    };
    let blocked = |task: &TaskSummary, reason: &str| task.blocked.get(reason).map_or(0, |(time, _)| *time);
    let asleep = of("holder", &|task| blocked(task, "sleep"));
    // The program cannot tell a sleep from the wait for a processor after it.
    let slept = asleep.iter().zip(runnable_after_first_start(bytes, "holder")).map(|(a, b)| a + b).collect();
    [
        ("sleeping", slept, &clock.slept),
        ("computing", of("computer", &|task| task.running), &clock.computed),
        ("waiting for the lock", of("waiter", &|task| blocked(task, "sync.Mutex.Lock")), &clock.waited),
        ("runnable", runnable_after_first_start(bytes, "waiter"), &clock.could_run),
        ("blocking", of("blocker", &|task| task.syscall), &clock.blocked),
    ]
    .map(|(name, traced, truth)| Beside { name, traced, truth: truth.get() })
}

/// Milliseconds of each state. `effort.operations` are the rounds of a program, `effort.batches` how often it runs.
pub(super) fn times(effort: Effort) -> anyhow::Result<Values> {
    greenprof_profiler::trace::name_functions();
    let rounds = u32::try_from(effort.operations).context("that many rounds take too long")?;
    let mut estimates: [Estimates; 5] = Default::default();
    let mut names = [""; 5];
    for _ in 0..effort.batches {
        let clock = Arc::new(Clock::default());
        let bytes = program(&clock, rounds);
        for (at, times) in beside_clocks(&bytes, &clock).iter().enumerate() {
            names[at] = times.name;
            let (traced, truth) = times.sums();
            estimates[at].add(traced as f64 / 1e6, truth as f64 / 1e6);
        }
    }
    let mut values = Values::new();
    names.iter().zip(&estimates).for_each(|(name, estimates)| estimates.put(name, &mut values));
    Ok(values)
}
