//! What a trace says of how long tasks ran, waited and could run, beside the program's own clock.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use anyhow::Context;
use greenprof_runtime::{
    Runtime, sleep,
    sync::{Chan, Mutex},
    task, yield_now,
};
use greenprof_tracer::reader::{self, Kind, Summary, TaskState, TaskSummary};

use super::Estimates;
use crate::{case::Effort, values::Values};

/// How often the two tasks meet, where nothing else is asked.
pub const ROUNDS: u32 = 25;

/// How long the lock is held by a task that sleeps: so long that the fifth of a millisecond by which the kernel may end a sleep late is
/// little beside it.
const HELD: Duration = Duration::from_millis(24);
/// How long that task then keeps the processor from who can run: not so long that a stand-in comes.
const COMPUTED: Duration = Duration::from_millis(6);
/// How long a task computes that is alone: so long that what a debug build does between a task's start and its first look at the
/// clock, nearly 0.1 ms, is little beside it.
const ALONE: Duration = Duration::from_millis(25);
/// How long a thread is blocked.
const BLOCKED: Duration = Duration::from_millis(8);

/// The upper bound of what the program has no reading for: three years.
const UNKNOWN: u64 = 100_000_000_000_000_000;

/// The program's clock, which all tasks of a run read: nanoseconds since its start.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// A duration of a task as the program has measured it, in nanoseconds, and two that its own readings hold it between: whatever the kernel
/// does with the thread between a reading and the event beside it, the traced duration is not shorter and not longer than those.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    /// The task's number.
    task: u64,
    truth: u64,
    least: u64,
    most: u64,
}

/// What the program has measured in one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    slept: Measured,
    computed: Measured,
    blocked: Measured,
    waited: Measured,
    could_run: Measured,
}

/// What a trace says of one kind of time beside what the program's clock says, in nanoseconds, round by round.
#[derive(Debug)]
pub struct Beside {
    pub name: &'static str,
    pub traced: Vec<u64>,
    pub truth: Vec<u64>,
    /// What the trace may say at least, and at most, if each event lies between the readings before and after it.
    pub bounds: Vec<RangeInclusive<u64>>,
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

/// The thread that runs the caller. Not inlined, for a task may be on another one after each wait.
#[inline(never)]
fn thread_now() -> ThreadId {
    thread::current().id()
}

/// Readings of the task that holds the lock: before it sleeps, after that and before it lets go, after it has, at its end.
struct Holds {
    sleeps: u64,
    awake: u64,
    released: u64,
    ends: u64,
    /// The threads that it was on before the sleep, and after it.
    threads: [ThreadId; 2],
}

#[inline(never)]
fn holds(lock: &Mutex<()>, held: &Chan<()>, clock: Clock) -> Holds {
    let guard = lock.lock();
    held.send(()).expect("nobody closes it");
    let before = thread_now();
    let sleeps = clock.now();
    sleep(HELD);
    let awake = clock.now();
    drop(guard);
    let released = clock.now();
    compute(COMPUTED);
    Holds { sleeps, awake, released, ends: clock.now(), threads: [before, thread_now()] }
}

/// Readings of the task that waits for the lock: before and after, and the threads that it was on.
struct Waits {
    turn: u64,
    owns: u64,
    threads: [ThreadId; 2],
}

#[inline(never)]
fn waits(lock: &Mutex<()>, begun: &AtomicBool, clock: Clock) -> Waits {
    begun.store(true, Relaxed);
    let before = thread_now();
    let turn = clock.now();
    drop(lock.lock());
    Waits { turn, owns: clock.now(), threads: [before, thread_now()] }
}

/// What a task has computed that is alone, and the thread that it was on at its end.
struct Computes {
    computed: u64,
    thread: ThreadId,
}

#[inline(never)]
fn computes(clock: Clock) -> Computes {
    let start = clock.now();
    compute(ALONE);
    Computes { computed: clock.now() - start, thread: thread_now() }
}

/// Time around the blocking call, and in it.
#[inline(never)]
fn blocks(clock: Clock) -> (u64, u64) {
    let start = clock.now();
    let inside = task::blocking(|| {
        let start = clock.now();
        thread::sleep(BLOCKED);
        clock.now() - start
    });
    (clock.now() - start, inside)
}

/// Runs the tasks, and gives their trace, and what they have measured. One worker, so that who can run has to wait for who computes.
/// A task that runs on knows that another has got to where it waits, if that was on the same thread: for a moment after a task has computed
/// or blocked its thread for long there is a second one, which stands in.
///
/// # Panics
/// If there is no trace, or no runtime.
pub fn program(rounds: u32) -> (Vec<u8>, Vec<Round>) {
    let trace = greenprof_tracer::start(Vec::new()).expect("a trace");
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let clock = Clock(Instant::now());
    let measured = runtime.run(|| (0..rounds).map(|_| round(clock)).collect());
    drop(runtime);
    (trace.stop().expect("a whole trace").0, measured)
}

fn round(clock: Clock) -> Round {
    let lock = Arc::new(Mutex::new(()));
    let named = |name: &str| task::Builder::new().name(name);
    let held = Chan::with_capacity(1);
    let (theirs, tells) = (lock.clone(), held.clone());
    let holder = named("holder").spawn(move || holds(&theirs, &tells, clock)).expect("memory");
    // Whoever comes second has to wait.
    held.recv();
    let (sleeps, at_sleep) = (clock.now(), thread_now());
    let begun = Arc::new(AtomicBool::new(false));
    let begins = begun.clone();
    let waiter = named("waiter").spawn(move || waits(&lock, &begins, clock)).expect("memory");
    while !begun.load(Relaxed) {
        yield_now();
    }
    let (waits, at_wait) = (clock.now(), thread_now());
    let [holds, waiting] = [&holder.id(), &waiter.id()].map(|id| id.get());
    let holder = holder.join().expect("no panic");
    let waiter = waiter.join().expect("no panic");
    let blocker = named("blocker").spawn(move || blocks(clock)).expect("memory");
    let blocking = blocker.id().get();
    let (around, inside) = blocker.join().expect("no panic");
    let spawns = clock.now();
    let computer = named("computer").spawn(move || computes(clock)).expect("memory");
    let computing = computer.id().get();
    let computer = computer.join().expect("no panic");
    // Who joins is woken before the task's end is recorded, and if both are on one thread it runs after that. On another it may come first.
    let end_is_before = thread_now() == computer.thread;
    let joined = clock.now();
    let known = |is_sure: bool, least: u64| if is_sure { least } else { 0 };
    // The lock may be free again before the waiter's turn comes.
    let made_runnable = holder.awake.max(waiter.turn);
    let surely_waits = waiter.threads[0] == at_wait && waits <= holder.awake;
    Round {
        slept: Measured {
            task: holds,
            truth: holder.awake - holder.sleeps,
            // A sleep does not end before it should.
            least: known(
                holder.threads[0] == at_sleep,
                (holder.sleeps + HELD.as_nanos() as u64).saturating_sub(sleeps),
            ),
            most: holder.awake - holder.sleeps,
        },
        computed: Measured {
            task: computing,
            truth: computer.computed,
            least: computer.computed,
            most: if end_is_before { joined - spawns } else { UNKNOWN },
        },
        blocked: Measured { task: blocking, truth: around, least: inside, most: around },
        waited: Measured {
            task: waiting,
            truth: holder.awake.saturating_sub(waiter.turn),
            least: known(waiter.threads[0] == at_wait, holder.awake.saturating_sub(waits)),
            most: holder.released.saturating_sub(waiter.turn),
        },
        could_run: Measured {
            task: waiting,
            truth: waiter.owns - made_runnable,
            least: known(surely_waits && waiter.threads[1] == holder.threads[1], holder.ends - holder.released),
            most: waiter.owns - made_runnable,
        },
    }
}

/// Time that each task could run and did not, by the tasks' ids, without that before its first start: Go's tool leaves it out.
///
/// # Panics
/// If it is no trace.
fn runnable_after_first_start(file: &[u8]) -> BTreeMap<u64, u64> {
    let mut tasks = BTreeMap::new();
    reader::read(file, |event| {
        let Kind::Task { id, state, .. } = &event.kind else { return };
        let (has_started, since, sum) = tasks.entry(*id).or_insert((false, None, 0));
        if let Some(since) = since.take()
            && *has_started
        {
            *sum += event.time - since;
        }
        *has_started |= *state == TaskState::Running;
        *since = (*state == TaskState::Runnable).then_some(event.time);
    })
    .expect("valid");
    tasks.into_iter().map(|(id, (_, _, sum))| (id, sum)).collect()
}

/// What a trace says, beside the clocks that the program has read.
///
/// # Panics
/// If the trace is not that of [`program`].
pub fn beside_clocks(bytes: &[u8], rounds: &[Round]) -> [Beside; 5] {
    let summary = Summary::read(bytes).expect("valid");
    let tasks: BTreeMap<u64, &TaskSummary> = summary.tasks().into_iter().map(|task| (task.id, task)).collect();
    let runnable = runnable_after_first_start(bytes);
    let blocked = |id, reason: &str| tasks[&id].blocked.get(reason).map_or(0, |(time, _)| *time);
    let beside = |name, measured: fn(&Round) -> Measured, traced: &dyn Fn(u64) -> u64| {
        let measured: Vec<Measured> = rounds.iter().map(measured).collect();
        Beside {
            name,
            traced: measured.iter().map(|of| traced(of.task)).collect(),
            truth: measured.iter().map(|of| of.truth).collect(),
            bounds: measured.iter().map(|of| of.least..=of.most).collect(),
        }
    };
    [
        // The program cannot tell a sleep from the wait for a processor after it.
        beside("sleeping", |round| round.slept, &|id| blocked(id, "sleep") + runnable[&id]),
        beside("computing", |round| round.computed, &|id| tasks[&id].running),
        beside("waiting for the lock", |round| round.waited, &|id| blocked(id, "sync.Mutex.Lock")),
        beside("runnable", |round| round.could_run, &|id| runnable[&id]),
        beside("blocking", |round| round.blocked, &|id| tasks[&id].syscall),
    ]
}

/// Milliseconds of each state. `effort.operations` are the rounds of a program, `effort.batches` how often it runs.
pub(super) fn times(effort: Effort) -> anyhow::Result<Values> {
    greenprof_profiler::trace::name_functions();
    let rounds = u32::try_from(effort.operations).context("that many rounds take too long")?;
    let mut estimates: [Estimates; 5] = Default::default();
    let mut names = [""; 5];
    for _ in 0..effort.batches {
        let (bytes, measured) = program(rounds);
        for (at, times) in beside_clocks(&bytes, &measured).iter().enumerate() {
            names[at] = times.name;
            let (traced, truth) = times.sums();
            estimates[at].add(traced as f64 / 1e6, truth as f64 / 1e6);
        }
    }
    let mut values = Values::new();
    names.iter().zip(&estimates).for_each(|(name, estimates)| estimates.put(name, &mut values));
    Ok(values)
}
