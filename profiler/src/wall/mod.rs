//! The wall-clock profile: where tasks spend their time, on a processor or off it.
//!
//! A CPU profile shows what computes. This one shows every task at every moment: who waits for a lock, a channel or a
//! timer has its stack in it, too, with what it waits for. A request that takes 200 ms, of which 5 are computed, has 200.
//!
//! A thread looks at the tasks at random moments, one in each period. The stacks of tasks that wait or are queued are read
//! without waking or stopping anybody; those that run are asked by signal, as for the task profile ([`crate::tasks`]).
//!
//! # What the numbers mean
//! - `wall/nanoseconds` of all tasks together is the number of tasks times the length of the profile, less the periods in
//!   which the thread got no processor to look: nobody knows what was then. The comments state how many those were.
//! - The moment within a period is random, so a task that does something every 10 ms is not always met doing the same.
//! - With more than some hundred tasks, a random choice of them is looked at each time, and each stands for as many as the
//!   choice says. Totals are right on average; the comments state how many looks at tasks they come from.
//! - Labels: those of the task, `state` (`running`, `runnable`, `waiting`) and, of those that wait, `wait_reason`. A task
//!   in a blocking system call is running.
//!
//! # Cost
//! Per look at a task some 300 ns and 20 ns a frame, at most some 250 tasks in a period; a running task is interrupted
//! for a few microseconds. That is below one hundredth of a processor, whatever the number of tasks.

mod collector;
mod report;

use std::time::Duration;

use thiserror::Error;

pub use report::Summary;

use crate::{
    http::{self, CaptureError, CaptureSession, Length, Query},
    profile::{Profile, ProfileError, encode},
    signal, symbolize,
};
use collector::Collector;
use greenprof_runtime::heap;

/// Time between two looks when nothing else is said.
pub const DEFAULT_PERIOD: Duration = Duration::from_millis(10);

/// The shortest time between two looks.
pub const MIN_PERIOD: Duration = Duration::from_millis(1);

/// Why no wall-clock profile could be started.
///
/// ```
/// use std::time::Duration;
/// use greenprof_profiler::wall::{self, StartError};
///
/// assert!(matches!(wall::start(Duration::from_secs(2)), Err(StartError::Period(_))));
/// let first = wall::start(wall::DEFAULT_PERIOD)?;
/// assert!(matches!(wall::start(wall::DEFAULT_PERIOD), Err(StartError::Busy)));
/// drop(first);
/// # Ok::<(), StartError>(())
/// ```
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is one wall-clock profiler per process, and it is busy.
    #[error("wall profiling already in use")]
    Busy,
    /// A period outside the range.
    #[error("a period of {0:?} was asked for: choose between 1 ms and 1 s")]
    Period(Duration),
    /// The thread cannot be had.
    #[error("{0}")]
    Unavailable(String),
}

/// A wall-clock profile being taken. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    collector: Collector,
}

/// A finished wall-clock profile.
///
/// ```
/// use std::time::Duration;
/// use greenprof_profiler::wall;
/// use greenprof_runtime::{Runtime, sleep};
///
/// let session = wall::start(Duration::from_millis(1))?;
/// Runtime::builder().workers(1).build()?.run(|| sleep(Duration::from_millis(200)));
/// let wall::Capture { profile, summary, .. } = session.stop();
/// assert_eq!(profile.sample_types[1].kind, "wall");
/// println!("{} looks, {} missed", summary.looks, summary.missed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Capture {
    /// The samples, with a summary in the comments.
    pub profile: Profile,
    /// What the samples come from, and what was missed.
    pub summary: Summary,
}

/// Starts looking at all tasks of the process, once in each `period`.
///
/// # Errors
/// See [`StartError`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use greenprof_profiler::wall;
/// use greenprof_runtime::{Runtime, sleep};
///
/// let session = wall::start(wall::DEFAULT_PERIOD)?;
/// Runtime::builder().workers(1).build()?.run(|| sleep(Duration::from_millis(100)));
/// // A task that slept is in it, which a CPU profile would not show.
/// println!("{} stacks", session.stop().profile.samples.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn start(period: Duration) -> Result<Session, StartError> {
    if !(MIN_PERIOD..=Duration::from_secs(1)).contains(&period) {
        return Err(StartError::Period(period));
    }
    // Without the signal running tasks have no stack; the profile says so.
    let can_ask = signal::install().is_ok();
    Ok(Session { collector: Collector::start(period, can_ask)? })
}

impl Session {
    /// Stops and gives the profile.
    pub fn stop(self) -> Capture {
        heap::untracked(|| report::build(self.collector.stop()))
    }
}

/// The wall-clock profile as the port offers it.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallProfile;

impl http::Capture for WallProfile {
    fn name(&self) -> &str {
        "wall"
    }

    fn description(&self) -> &str {
        "Where tasks spend the next 30 seconds, on a processor or waiting; seconds=N takes another length."
    }

    fn length(&self) -> Length {
        Length::Whole(30)
    }

    fn activity(&self) -> &str {
        "wall profiling"
    }

    fn start(&self, _query: &Query) -> Result<Box<dyn CaptureSession>, CaptureError> {
        match start(DEFAULT_PERIOD) {
            Ok(session) => Ok(Box::new(session)),
            Err(StartError::Busy) => Err(CaptureError::Busy("wall profiling already in use")),
            Err(error) => Err(CaptureError::Failed(error.to_string())),
        }
    }
}

impl CaptureSession for Session {
    fn finish(self: Box<Self>) -> Result<Vec<u8>, ProfileError> {
        heap::untracked(|| encode::encode(&self.stop().profile, &mut symbolize::shared().lock()))
    }
}
