//! What a trace says of how long tasks ran, waited and could run, beside the program's own clock.

use std::{
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

/// Durations as the program has measured them, in nanoseconds, and the moment of the last release.
#[derive(Debug, Default)]
pub struct Clock {
    pub slept: AtomicU64,
    pub computed: AtomicU64,
    pub blocked: AtomicU64,
    pub waited: AtomicU64,
    pub could_run: AtomicU64,
    released: AtomicU64,
}

fn add(sum: &AtomicU64, duration: Duration) {
    // Relaxed: numbers, read when the tasks have been joined.
    sum.fetch_add(duration.as_nanos() as u64, Relaxed);
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
    add(&clock.slept, before_sleep.elapsed());
    clock.released.store(start.elapsed().as_nanos() as u64, Relaxed);
    drop(guard);
    compute(COMPUTED);
}

#[inline(never)]
fn computes(clock: &Clock) {
    let start = Instant::now();
    compute(ALONE);
    add(&clock.computed, start.elapsed());
}

#[inline(never)]
fn waits(lock: &Mutex<()>, clock: &Clock, start: Instant) {
    let turn = start.elapsed();
    drop(lock.lock());
    let now = start.elapsed();
    let released = Duration::from_nanos(clock.released.load(Relaxed));
    add(&clock.waited, released.saturating_sub(turn));
    add(&clock.could_run, now.saturating_sub(released));
}

#[inline(never)]
fn blocks(clock: &Clock) {
    let start = Instant::now();
    task::blocking(|| thread::sleep(BLOCKED));
    add(&clock.blocked, start.elapsed());
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

/// What tasks of one name did.
///
/// # Panics
/// If the trace has none.
pub fn group(summary: &Summary, name: &str) -> TaskSummary {
    summary.by_name().into_iter().find(|group| &*group.name == name).expect("it is in the trace")
}

/// Time that tasks of a name could run and did not, without that before each one's first start: Go's tool leaves it out.
///
/// # Panics
/// If it is no trace.
pub fn runnable_after_first_start(file: &[u8], name: &str) -> u64 {
    let mut tasks = std::collections::HashMap::new();
    let mut sum = 0;
    reader::read(file, |event| {
        let Kind::Task { id, state, origin, .. } = &event.kind else { return };
        let is_it = origin.last().is_some_and(|frame| &*frame.function == name);
        let (has_started, since, is_known) = tasks.entry(*id).or_insert((false, None, is_it));
        if let Some(since) = since.take()
            && *is_known
            && *has_started
        {
            sum += event.time - since;
        }
        *has_started |= *state == TaskState::Running;
        *since = (*state == TaskState::Runnable).then_some(event.time);
    })
    .expect("valid");
    sum
}

/// What a trace says, beside the clocks that the program has read: names, and nanoseconds of both.
///
/// # Panics
/// If the trace is not that of [`program`].
pub fn beside_clocks(bytes: &[u8], clock: &Clock) -> [(&'static str, u64, u64); 5] {
    let summary = Summary::read(bytes).expect("valid");
    let [holder, waiter, blocker, computer] =
        ["holder", "waiter", "blocker", "computer"].map(|name| group(&summary, name));
    let of = |sum: &AtomicU64| sum.load(Relaxed);
    let blocked = |task: &TaskSummary, reason: &str| task.blocked.get(reason).map_or(0, |(time, _)| *time);
    // The program cannot tell a sleep from the wait for a processor after it.
    let slept = blocked(&holder, "sleep") + runnable_after_first_start(bytes, "holder");
    [
        ("sleeping", slept, of(&clock.slept)),
        ("computing", computer.running, of(&clock.computed)),
        ("waiting for the lock", blocked(&waiter, "sync.Mutex.Lock"), of(&clock.waited)),
        ("runnable", runnable_after_first_start(bytes, "waiter"), of(&clock.could_run)),
        ("blocking", blocker.syscall, of(&clock.blocked)),
    ]
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
        for (at, (name, ours, truth)) in beside_clocks(&bytes, &clock).into_iter().enumerate() {
            names[at] = name;
            estimates[at].add(ours as f64 / 1e6, truth as f64 / 1e6);
        }
    }
    let mut values = Values::new();
    names.iter().zip(&estimates).for_each(|(name, estimates)| estimates.put(name, &mut values));
    Ok(values)
}
