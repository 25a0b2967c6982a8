//! Leaked tasks: those that wait for something which no live task can bring about.
//!
//! [`detect`] stops the world, finds all that live tasks and threads can reach, and reports the tasks that nobody can
//! wake. A task that is reported is leaked; one that is leaked may be missed, because memory is read conservatively.
//! `docs/leak-detection.md` has the argument, and what it does not see.

mod assemble;
mod blocks;
mod detect;
mod mark;
mod memory;
mod population;
mod report;
mod roots;
mod why;

use std::time::{Duration, Instant};

use greenprof_runtime::{heap, task::TaskId, world, world::Patience};

pub use report::{Cost, Counts, Deadlock, DetectError, Incomplete, Leak, Primitive, Report, WaitsOn};
pub use why::{Link, WhyAlive};

/// How to look.
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
}

/// Finds the leaked tasks of the process. May be called on a task or on a plain thread; stops all others meanwhile.
///
/// # Errors
/// See [`DetectError`].
pub fn detect() -> Result<Report, DetectError> {
    detect_with(&Options::default())
}

/// As [`detect`], with options.
///
/// # Errors
/// See [`DetectError`].
pub fn detect_with(options: &Options) -> Result<Report, DetectError> {
    if !heap::is_active() {
        return Err(DetectError::NoHeap);
    }
    settle(options.settle);
    scrub();
    let raw = detect::on_own_thread(options, thread_id(), None)?;
    Ok(assemble::report(raw, options))
}

/// Why a task is alive: a chain from a root to what can wake it, found by a detection. `None` if it is leaked, has ended, or
/// belongs to a runtime that has. There may be other chains.
///
/// # Errors
/// See [`DetectError`].
pub fn why_alive(task: TaskId) -> Result<Option<WhyAlive>, DetectError> {
    if !heap::is_active() {
        return Err(DetectError::NoHeap);
    }
    let raw = detect::on_own_thread(&Options::default(), thread_id(), Some(task))?;
    Ok(raw.alive.then(|| WhyAlive { chain: raw.tables.links.iter().rev().copied().collect() }))
}

/// Waits until no task but the caller is running or runnable, for `most` at the most.
fn settle(most: Duration) {
    let (began, own) = (Instant::now(), usize::from(greenprof_runtime::task::current_id().is_some()));
    while began.elapsed() < most && world::tasks::count_active() > own {
        greenprof_runtime::sleep(SETTLING);
    }
}

/// Wipes what functions that have returned have left below the caller's frame, where the next frames will be: those have gaps
/// that are never written, and what is in them is scanned.
#[inline(never)]
fn scrub() {
    let mut below = [0_usize; SCRUBBED / size_of::<usize>()];
    std::hint::black_box(&mut below);
}

/// More than the frames below have, and less than the smallest task's stack leaves.
const SCRUBBED: usize = 4 << 10;

/// How often it is looked whether tasks have settled.
const SETTLING: Duration = Duration::from_millis(1);

fn thread_id() -> i32 {
    // SAFETY: has no preconditions.
    unsafe { libc::gettid() }
}
