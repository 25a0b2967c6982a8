//! The detector watches itself: a task that was reported as leaked must never run again, unless leaked tasks are reclaimed.
//!
//! What reclaimed tasks do when they unwind may wake others that were leaked until then: with a reclaim, what was said of
//! tasks before it has served its time. So the watch over them ends, and what a detection says that began before a reclaim is
//! not watched at all.

use std::sync::atomic::{AtomicU64, Ordering};

use greenprof_runtime::world::stop::TaskMark;
use parking_lot::Mutex;

/// The most tasks that are remembered; a program with more leaked ones has been told often enough.
const MOST: usize = 1 << 20;

/// Tasks of earlier reports that have not run since. In the untracked arena.
static REPORTED: Mutex<Vec<TaskMark>> = Mutex::new(Vec::new());
/// Tasks of earlier reports that have.
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// How often tasks were reclaimed. Changes while `REPORTED` is locked.
static RECLAIMS: AtomicU64 = AtomicU64::new(0);

/// How many reclaims have begun.
pub(super) fn reclaims() -> u64 {
    // SeqCst, as in `forget`: before a detection looks at anything.
    RECLAIMS.load(Ordering::SeqCst)
}

/// A reclaim is about to let tasks run. Called in an untracked scope.
pub(super) fn forget() {
    check();
    let mut reported = REPORTED.lock();
    RECLAIMS.fetch_add(1, Ordering::SeqCst);
    reported.clear();
}

/// Remembers tasks that are being reported by a detection that began after so many reclaims. Called in an untracked scope.
pub(super) fn remember(marks: impl Iterator<Item = TaskMark>, reclaims: u64) {
    check();
    let mut reported = REPORTED.lock();
    if RECLAIMS.load(Ordering::SeqCst) != reclaims {
        return;
    }
    let known: std::collections::HashSet<TaskMark> = reported.iter().copied().collect();
    let room = MOST - reported.len();
    reported.extend(marks.filter(|mark| !known.contains(mark)).take(room));
}

/// How many tasks that were reported have run since. Each was said, once, on the standard error output.
pub(super) fn errors() -> u64 {
    check();
    ERRORS.load(Ordering::Relaxed)
}

fn check() {
    let mut reported = REPORTED.lock();
    let before = reported.len();
    reported.retain(|mark| !mark.has_run());
    let ran = (before - reported.len()) as u64;
    drop(reported);
    if ran > 0 {
        ERRORS.fetch_add(ran, Ordering::Relaxed);
        eprintln!("greenprof: {ran} tasks ran that had been reported as leaked: a fault of the detector, please tell");
    }
}
