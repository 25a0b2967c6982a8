//! The detector watches itself: a task that was reported as leaked must never run again.

use std::sync::atomic::{AtomicU64, Ordering};

use greenprof_runtime::world::stop::TaskMark;
use parking_lot::Mutex;

/// The most tasks that are remembered; a program with more leaked ones has been told often enough.
const MOST: usize = 1 << 20;

/// Tasks of earlier reports that have not run since. In the untracked arena.
static REPORTED: Mutex<Vec<TaskMark>> = Mutex::new(Vec::new());
/// Tasks of earlier reports that have.
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// Remembers tasks that are being reported. Called in an untracked scope.
pub(super) fn remember(marks: impl Iterator<Item = TaskMark>) {
    check();
    let mut reported = REPORTED.lock();
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
