//! Leaked tasks: those that wait for something which no live task can bring about.
//!
//! [`detect`] stops the world, finds all that live tasks and threads can reach, and reports the tasks that nobody can
//! wake. A task that is reported is leaked; one that is leaked may be missed, because memory is read conservatively.
//! `docs/leak-detection.md` has the argument, and what it does not see.

mod assemble;
mod blocks;
mod caller;
mod copy;
mod deadlock;
mod detect;
mod endpoint;
mod external;
mod graph;
mod growth;
mod json;
mod mark;
mod memory;
mod passes;
mod population;
pub mod reclaim;
mod report;
mod roots;
mod suspects;
mod text;
mod verify;
mod view;
mod watch;
mod why;
mod why_page;

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use caller::Caller;
use greenprof_runtime::{heap, task::TaskId, world, world::Patience};

pub use endpoint::LeakProfile;
pub use external::{External, mark_external};
pub use graph::{Edge, Node, Relation, WaitGraph};
pub use growth::{Growth, SiteGrowth, Snapshot, Tasks};
pub use reclaim::reclaim;
pub use report::{Cost, Counts, Deadlock, DetectError, Incomplete, Leak, Mode, NotCopied, Primitive, Report, WaitsOn};
pub use suspects::{Suspects, blocked_longer_than};
pub use verify::verify_none;
pub use view::{Format, View};
pub use why::{Link, WhyAlive};
pub(crate) use why_page::WhyPage;

/// How to look.
///
/// ```
/// use std::time::Duration;
/// use greenprof_profiler::leak;
///
/// let mut options = leak::Options::default();
/// options.mode = leak::Mode::Fork; // a short pause, and the look at a copy
/// options.settle = Duration::from_millis(200);
/// options.passes = 3;
/// // In a program with another allocator than `Heap` the answer is one sentence that says what to add.
/// assert!(matches!(leak::detect_with(&options), Err(leak::DetectError::NoHeap)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How long threads may take to stop.
    pub patience: Patience,
    /// Only tasks of this runtime are reported; others are looked at all the same.
    pub runtime: Option<u32>,
    /// How long to wait at the most until no task is running or runnable, before looking: tasks that are about to block are
    /// not blocked yet.
    pub settle: Duration,
    /// How much of the detection the program stands still for.
    pub mode: Mode,
    /// How many detections are made, one after another; 0 counts as 1. What all of them say is reported.
    pub passes: u32,
    /// Takes every word that may be a handle for one, whatever its tag. A handle that was moved or dropped then counts as long as its
    /// word is still somewhere, so less is found: it is what tags are measured against.
    pub ignore_tags: bool,
}

/// Finds the leaked tasks of the process. May be called on a task or on a plain thread; stops all others meanwhile.
///
/// ```standalone_crate
/// use greenprof_profiler::leak;
/// use greenprof_runtime::{Runtime, heap::Heap, spawn, sync::Chan};
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// runtime.run(|| {
///     let answers = Chan::new();
///     // Nobody takes the answer, so this task waits for ever.
///     spawn(move || answers.send(7));
/// });
/// for leak in leak::detect()?.leaked() {
///     println!("task {} waits in {}", leak.id(), leak.reason());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`DetectError`].
#[inline(never)]
pub fn detect() -> Result<Box<Report>, DetectError> {
    let caller = Caller::here();
    run(&Options::default(), &caller)
}

/// As [`detect`], with options.
///
/// # Errors
/// See [`DetectError`].
#[inline(never)]
pub fn detect_with(options: &Options) -> Result<Box<Report>, DetectError> {
    let caller = Caller::here();
    run(options, &caller)
}

/// Not inlined, so that the frames from which the caller's registers are taken are small: they are scanned.
#[inline(never)]
fn run(options: &Options, caller: &Caller) -> Result<Box<Report>, DetectError> {
    if !heap::is_active() {
        return Err(DetectError::NoHeap);
    }
    let mut report = pass(options, caller)?;
    for _ in 1..passes::count(options) {
        let mut next = pass(options, caller)?;
        passes::agree(&report, &mut next);
        report = next;
    }
    // Relaxed: numbers to show.
    LAST.store(report.leaked().len(), Ordering::Relaxed);
    DETECTIONS.fetch_add(1, Ordering::Relaxed);
    Ok(report)
}

#[inline(never)]
fn pass(options: &Options, caller: &Caller) -> Result<Box<Report>, DetectError> {
    settle(options.settle);
    // Only now: while it waited, the caller may have come to another thread.
    let caller = Caller { thread: thread_id(), ..*caller };
    let reclaims = watch::reclaims();
    let raw = detect::on_own_thread(options, caller, None)?;
    Ok(assemble::report(raw, options, reclaims))
}

/// How many tasks the last detection has found.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// How many detections there were.
static DETECTIONS: AtomicU64 = AtomicU64::new(0);

fn last_count() -> usize {
    LAST.load(Ordering::Relaxed)
}

/// What is told of the detector.
pub(crate) struct Figures {
    pub(crate) last: usize,
    pub(crate) detections: u64,
    pub(crate) errors: u64,
    pub(crate) unwound: u64,
}

pub(crate) fn figures() -> Figures {
    // Relaxed: numbers to show.
    let detections = DETECTIONS.load(Ordering::Relaxed);
    Figures { last: last_count(), detections, errors: heap::untracked(watch::errors), unwound: reclaim::evicted() }
}

/// Why a task is alive: a chain from a root to what can wake it, found by a detection. `None` if it is leaked, has ended, or
/// belongs to a runtime that has. There may be other chains.
///
/// ```standalone_crate
/// use greenprof_profiler::leak;
/// use greenprof_runtime::{Runtime, sync::Chan};
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let (runtime, answers) = (Runtime::builder().workers(1).build()?, Chan::<u32>::new());
/// let waits = answers.clone();
/// let task = runtime.handle().spawn(move || waits.recv())?;
/// let why = leak::why_alive(task.id())?.expect("this example can still send");
/// for line in why.explain() {
///     println!("{line}");
/// }
/// answers.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`DetectError`].
#[inline(never)]
pub fn why_alive(task: TaskId) -> Result<Option<WhyAlive>, DetectError> {
    let caller = Caller::here();
    explain(task, &caller)
}

#[inline(never)]
fn explain(task: TaskId, caller: &Caller) -> Result<Option<WhyAlive>, DetectError> {
    if !heap::is_active() {
        return Err(DetectError::NoHeap);
    }
    let caller = Caller { thread: thread_id(), ..*caller };
    let raw = detect::on_own_thread(&Options::default(), caller, Some(task))?;
    Ok(raw.alive.then(|| WhyAlive { chain: raw.tables.links.iter().rev().copied().collect() }))
}

/// Waits until no task but the caller is running or runnable, for `most` at the most.
fn settle(most: Duration) {
    let (began, own) = (Instant::now(), usize::from(greenprof_runtime::task::current_id().is_some()));
    while began.elapsed() < most && world::tasks::count_active() > own {
        greenprof_runtime::sleep(SETTLING);
    }
}

/// How often it is looked whether tasks have settled.
const SETTLING: Duration = Duration::from_millis(1);

fn thread_id() -> i32 {
    // SAFETY: has no preconditions.
    unsafe { libc::gettid() }
}
