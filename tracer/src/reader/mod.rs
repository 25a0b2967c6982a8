//! Reads execution traces in Go's format (of Go 1.26 and 1.27, and our own), checks them, and gives their events in one order.
//!
//! What a trace must keep is enforced: who may do what in which state, and the sequence numbers by which events of several
//! threads are ordered. Any bytes may be given; what is wrong is an error with the place where it was found.
//!
//! ```
//! use greenprof_runtime::{Runtime, spawn};
//! use greenprof_tracer::reader::Summary;
//!
//! let trace = greenprof_tracer::start(Vec::new())?;
//! Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
//! let (file, _) = trace.stop()?;
//! let summary = Summary::read(&file[..])?; // or of a file
//! for task in summary.tasks() {
//!     println!("{} ran for {} ns and waited for a processor for {} ns", task.name, task.running, task.runnable);
//! }
//! assert!(summary.tasks().iter().any(|task| task.ended));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod container;
mod order;
mod stream;
mod summary;
#[cfg(test)]
mod tests;

use std::{io::Read, sync::Arc};

use thiserror::Error;

use container::Container;
pub use container::Frame;
use order::Order;
pub(crate) use stream::{Item, Stream};
pub use summary::{Histogram, Summary, TaskSummary};

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Could run, and waits for a processor.
    Runnable,
    /// Runs.
    Running,
    /// In a system call, or a blocking section.
    Syscall,
    /// Waits.
    Waiting,
    /// Has ended.
    Ended,
}

/// What an event tells. Texts and stacks are empty where the trace has none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A task has changed its state, or was first seen in one.
    Task {
        /// The task.
        id: u64,
        /// Its state from now on.
        state: TaskState,
        /// Whether it is introduced by this event as one that existed before, in a state that it has had for some time.
        status: bool,
        /// Why, for those that wait or have stopped.
        reason: Arc<str>,
        /// The stack of who did it: of the task itself if it waits or stops, of the waker if it was woken, of the spawner if it is new.
        stack: Arc<[Frame]>,
        /// The stack on which a new task begins, or that of an introduced one.
        origin: Arc<[Frame]>,
    },
    /// A processor is running from now on, or not.
    Processor {
        /// The processor.
        id: u64,
        /// Whether it runs.
        running: bool,
    },
    /// The heap's size in bytes.
    Heap(u64),
    /// A label of the running task.
    Label(Arc<str>),
    /// A user task begins.
    UserTaskBegin {
        /// Its number.
        id: u64,
        /// The number of that which it is a part of; 0 for none.
        parent: u64,
        /// Its name.
        name: Arc<str>,
    },
    /// A user task ends.
    UserTaskEnd {
        /// Its number.
        id: u64,
    },
    /// A region of the running task begins or ends.
    Region {
        /// The user task that it belongs to; 0 for none.
        task: u64,
        /// Its name.
        name: Arc<str>,
        /// Whether it begins.
        begins: bool,
    },
    /// A message of the running task.
    Log {
        /// The user task that it belongs to; 0 for none.
        task: u64,
        /// Its category.
        category: Arc<str>,
        /// The message.
        message: Arc<str>,
    },
    /// A sample of the CPU profiler.
    CpuSample(Arc<[Frame]>),
    /// The world is being stopped from now on, or runs again.
    StopWorld {
        /// What for; empty at the end.
        reason: Arc<str>,
        /// Whether it begins.
        begins: bool,
    },
    /// A garbage collection, or a search for leaked tasks, begins or ends.
    Collection {
        /// Whether it begins.
        begins: bool,
    },
    /// Anything else: sweeping, counters.
    Other,
}

impl Kind {
    /// The name of the task that the event is about, if it tells it: the function on which the task has begun.
    pub(crate) fn task_name(&self) -> Option<Arc<str>> {
        let Self::Task { state, reason, stack, origin, .. } = self else { return None };
        // A waker's or spawner's stack says nothing about the task.
        let is_own = matches!(state, TaskState::Waiting | TaskState::Syscall) || !reason.is_empty();
        let named_by = if origin.is_empty() && is_own { stack } else { origin };
        named_by.last().map(|frame| frame.function.clone())
    }
}

/// An event, in the order of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds; never less than that of the event before.
    pub time: u64,
    /// The kernel's id of the thread; nothing for what happens on none.
    pub thread: Option<u64>,
    /// The processor on which it happens.
    pub processor: Option<u64>,
    /// The task in which it happens.
    pub task: Option<u64>,
    /// The number of the event's kind in the format.
    pub code: u8,
    /// What it tells.
    pub kind: Kind,
}

/// How much a trace has of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Generations.
    pub generations: u64,
    /// Events by the number of their kind, CPU samples included.
    pub by_code: [u64; 256],
}

impl Default for Totals {
    fn default() -> Self {
        Self { generations: 0, by_code: [0; 256] }
    }
}

impl Totals {
    /// All events.
    pub fn events(&self) -> u64 {
        self.by_code.iter().sum()
    }
}

/// Why a trace could not be read to its end.
///
/// ```
/// use greenprof_tracer::reader::{self, ReadError};
///
/// let error = reader::read(&b"<html>not found</html>"[..], |_| ()).unwrap_err();
/// assert!(matches!(error, ReadError::Version(_)), "{error}");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source has failed.
    #[error("the trace could not be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is no trace, or one of another version.
    #[error("this is no trace of Go 1.26 or 1.27 or of greenprof: it begins with {0:?}")]
    Version(String),
    /// The bytes have not the shape of a trace.
    #[error("the trace is damaged at byte {at} (generation {generation}): {what}")]
    Format {
        /// Bytes from the beginning, as far as they had been read.
        at: u64,
        /// The number of the generation.
        generation: u64,
        /// What is wrong.
        what: String,
    },
    /// The events do not fit together.
    #[error("generation {generation}: {what}")]
    Order {
        /// The number of the generation.
        generation: u64,
        /// What is wrong.
        what: String,
    },
}

/// Reads a trace to its end and gives each event to `each`. Keeps one generation in memory.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn};
/// use greenprof_tracer::reader::{self, Kind, TaskState};
///
/// let trace = greenprof_tracer::start(Vec::new())?;
/// Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
/// let mut ended = 0;
/// let totals = reader::read(&trace.stop()?.0[..], |event| {
///     ended += u32::from(matches!(event.kind, Kind::Task { state: TaskState::Ended, .. }));
/// })?;
/// assert!(ended >= 2 && totals.events() > 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`ReadError`]. The events before the damage have been given.
pub fn read(source: impl Read, mut each: impl FnMut(&Event)) -> Result<Totals, ReadError> {
    let mut container = Container::open(source)?;
    let mut order = Order::new();
    let mut totals = Totals::default();
    while let Some(generation) = container.next_generation()? {
        totals.generations += 1;
        let by_code = &mut totals.by_code;
        order.run(&generation, |event| {
            by_code[usize::from(event.code)] += 1;
            each(event);
        })?;
    }
    Ok(totals)
}
