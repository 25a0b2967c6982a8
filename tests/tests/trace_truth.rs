//! What a trace says of how long tasks ran, waited and could run, against the program's own clock, and against what Go's tool makes of
//! the same file.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::trace::name_functions;
use greenprof_runtime::{
    Runtime, sleep,
    sync::{Chan, Mutex},
    task,
};
use greenprof_tests::{go, pprof, trace};
use greenprof_tracer::reader::{Kind, Summary, TaskState, TaskSummary};

/// How often the two tasks meet.
const ROUNDS: u32 = 25;

/// How long the lock is held by a task that sleeps, how long that one then keeps the processor from who can run (not so long that a
/// stand-in comes), how long a thread is blocked.
const HELD: Duration = Duration::from_millis(12);
const COMPUTED: Duration = Duration::from_millis(6);
/// How long a task computes that is alone: so long that what a debug build does between a task's start and its first look at the
/// clock, nearly 0.1 ms, is little beside it.
const ALONE: Duration = Duration::from_millis(25);
const BLOCKED: Duration = Duration::from_millis(8);

/// Durations as the program has measured them, in nanoseconds, and the moment of the last release.
#[derive(Default)]
struct Clock {
    slept: AtomicU64,
    computed: AtomicU64,
    blocked: AtomicU64,
    waited: AtomicU64,
    could_run: AtomicU64,
    released: AtomicU64,
}

fn add(sum: &AtomicU64, duration: Duration) {
    sum.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
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
    clock.released.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
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
    let released = Duration::from_nanos(clock.released.load(Ordering::Relaxed));
    add(&clock.waited, released.saturating_sub(turn));
    add(&clock.could_run, now.saturating_sub(released));
}

#[inline(never)]
fn blocks(clock: &Clock) {
    let start = Instant::now();
    task::blocking(|| thread::sleep(BLOCKED));
    add(&clock.blocked, start.elapsed());
}

/// One worker, so that who can run has to wait for who computes.
fn program(clock: &Arc<Clock>) -> Vec<u8> {
    let trace = greenprof_tracer::start(Vec::new()).expect("a trace");
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    let start = Instant::now();
    runtime.run(|| {
        for _ in 0..ROUNDS {
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

fn assert_close(what: &str, ours: u64, theirs: u64) {
    let difference = ours.abs_diff(theirs) as f64 / theirs.max(1) as f64;
    assert!(difference <= 0.01, "{what}: {ours} ns and {theirs} ns differ by {:.2} %", difference * 100.0);
}

fn group(summary: &Summary, name: &str) -> TaskSummary {
    summary.by_name().into_iter().find(|group| &*group.name == name).expect("it is in the trace")
}

/// Time that tasks could run and did not, without that before each one's first start: Go's tool leaves it out.
fn runnable_after_first_start(file: &[u8], name: &str) -> u64 {
    let mut tasks = std::collections::HashMap::new();
    let mut sum = 0;
    greenprof_tracer::reader::read(file, |event| {
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

#[test]
fn times_of_a_trace_are_those_of_the_programs_clock_and_of_gos_tool() {
    name_functions();
    let clock = Arc::new(Clock::default());
    let bytes = program(&clock);
    let summary = Summary::read(&bytes[..]).expect("valid");
    let [holder, waiter, blocker, computer] =
        ["holder", "waiter", "blocker", "computer"].map(|name| group(&summary, name));
    let of = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
    let blocked = |task: &TaskSummary, reason: &str| task.blocked.get(reason).map_or(0, |(time, _)| *time);
    // The program cannot tell a sleep from the wait for a processor after it.
    assert_close(
        "sleeping",
        blocked(&holder, "sleep") + runnable_after_first_start(&bytes, "holder"),
        of(&clock.slept),
    );
    assert_close("computing", computer.running, of(&clock.computed));
    assert_close("waiting for the lock", blocked(&waiter, "sync.Mutex.Lock"), of(&clock.waited));
    assert_close("runnable", runnable_after_first_start(&bytes, "waiter"), of(&clock.could_run));
    assert_close("blocking", blocker.syscall, of(&clock.blocked));
    assert_eq!(u64::from(ROUNDS), waiter.tasks);

    if !go::available("times_of_a_trace_are_those_of_the_programs_clock_and_of_gos_tool") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("truth.trace");
    fs::write(&file, &bytes).expect("written");
    let profile = |kind: &str, function: &str| -> u64 {
        let samples = pprof::samples(&trace::profile_bytes(&file, kind));
        samples.iter().filter(|sample| sample.calls(function)).map(|sample| sample.values[1] as u64).sum()
    };
    assert_close("Go: waiting", profile("sync", "waits"), of(&clock.waited));
    assert_close("Go: blocking", profile("syscall", "blocks"), of(&clock.blocked));
    // By the stack of who has made it runnable.
    assert_close("Go: runnable", profile("sched", "holds"), of(&clock.could_run));
}
