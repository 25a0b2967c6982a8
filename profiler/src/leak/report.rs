//! What a detection has found, in types.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use greenprof_runtime::{
    sync::PrimitiveKind,
    task::{TaskId, WaitReason},
    world::{TaskState, stop::TaskMark},
};
use thiserror::Error;

use crate::tasks;

/// Why there is no report at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DetectError {
    /// The program has an allocator of its own, in which the detector cannot look.
    #[error(
        "leaks can only be found if the span heap is the program's allocator: add \
         `#[global_allocator] static HEAP: greenprof_runtime::heap::Heap = greenprof_runtime::heap::Heap::new();`"
    )]
    NoHeap,
    /// The world could not be stopped.
    #[error(transparent)]
    Stop(#[from] greenprof_runtime::world::stop::StopError),
    /// No memory for the detector's tables, or no thread for it.
    #[error("no memory or no thread for the leak detector: {0}")]
    Memory(#[source] std::io::Error),
}

/// A task that waits for something which no live task can bring about.
///
/// ```standalone_crate
/// use greenprof_profiler::leak::{self, WaitsOn};
/// use greenprof_runtime::{Runtime, sync::Chan, task};
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let forgotten = task::Builder::new().name("forgotten");
/// runtime.handle().spawn_with(forgotten, || Chan::<u32>::new().recv())?;
/// for leak in leak::detect()?.leaked() {
///     println!("{:?} waits in {}, spawned at {:?}", leak.task.name, leak.reason(), leak.task.spawned_at);
///     for on in &leak.waits_on {
///         if let WaitsOn::Primitive(primitive) = on {
///             println!("  for {:?} {}, made at {:?}", primitive.kind, primitive.number, primitive.created_at);
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leak {
    /// The task: its number, name, labels, stack, where it was spawned, for how long it has waited.
    pub task: tasks::Task,
    /// What it waits for; empty for waits that nothing can end, as that on a nil channel.
    pub waits_on: Vec<WaitsOn>,
    /// Whether all that it needs is another leaked task to go on: it would not be leaked if that one was not.
    pub hostage: bool,
    pub(super) mark: TaskMark,
}

impl Leak {
    /// Its number.
    pub fn id(&self) -> TaskId {
        self.task.id
    }

    /// What it waits for, in a word.
    pub fn reason(&self) -> WaitReason {
        match self.task.state {
            TaskState::Waiting(reason) => reason,
            _ => unreachable!("a leaked task waits"),
        }
    }

    /// The primitives that it waits on.
    pub(super) fn primitives(&self) -> impl Iterator<Item = &Primitive> {
        self.waits_on.iter().filter_map(|on| match on {
            WaitsOn::Primitive(primitive) => Some(primitive),
            WaitsOn::Task(_) => None,
        })
    }
}

/// What a task waits on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsOn {
    /// A channel, a lock, or another primitive.
    Primitive(Primitive),
    /// The end of a task.
    Task(TaskId),
}

/// A primitive, as far as it was known when the world was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Primitive {
    /// Tells the primitives of one report from each other.
    pub number: u32,
    /// What it is.
    pub kind: PrimitiveKind,
    /// Where it was made; of what can be made in a `const`, where it was first used.
    pub created_at: Option<&'static Location<'static>>,
    /// The leaked tasks that have what could wake those who wait for it: of a lock, its guard. In the order of their numbers;
    /// shared with all others of the report that wait for it.
    pub held_by: Arc<[TaskId]>,
}

/// How much of a detection the program stands still for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// All of it. Needs no memory but the detector's tables.
    #[default]
    Stop,
    /// Only while a copy of the process is made (`fork`), which is then looked at: the pause does not depend on how long the look
    /// takes. Each page of memory that the program writes to meanwhile is there twice, and each costs it a fault. Where it
    /// does not work the answer is that of [`Mode::Stop`], and says so.
    Fork,
}

/// Why no copy of the process was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCopied {
    /// The system does not make one: the number of the error.
    Refused(i32),
    /// It ended before it had looked at everything.
    Died,
    /// It took too long.
    Slow,
    /// Memory that matters is not as it was in the process: shared with others, or kept from children.
    Differs,
}

impl fmt::Display for NotCopied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => {
                write!(f, "the process cannot be copied: {}", std::io::Error::from_raw_os_error(*error))
            }
            Self::Died => f.write_str("the copy of the process ended before it had looked at everything"),
            Self::Slow => f.write_str("the copy of the process took too long"),
            Self::Differs => f.write_str("memory of the program is shared with other processes or kept from children"),
        }
    }
}

/// What a detection cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// From the first signal until all threads were stopped.
    pub stopping: Duration,
    /// How long they were stopped, with `stopping`: the pause that the program noticed.
    pub stopped: Duration,
    /// Of that, copying the process; zero if it was not.
    pub cloning: Duration,
    /// Collecting tasks and primitives: of the pause, or in the copy.
    pub collecting: Duration,
    /// Looking at memory: of the pause, or in the copy.
    pub marking: Duration,
    /// Page faults of the program from the copying until the copy had ended, for any reason: at the most so many pages were copied. What
    /// is written to only later costs a fault, too, but no copy.
    pub faults: u64,
    /// All of it, with what comes after the release.
    pub total: Duration,
    /// Words that were looked at.
    pub words: u64,
    /// Blocks of the heap that were reached.
    pub blocks: u64,
    /// Bytes of the heap that were looked at.
    pub bytes: u64,
}

/// How many tasks there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Tasks that had not ended, of runtimes that had not either.
    pub tasks: usize,
    /// Those of them that waited for something which only others can bring about.
    pub blocked: usize,
    /// Tasks that waited on primitives of which a handle was copied by unsafe code: about those nothing is said.
    pub suppressed: usize,
}

/// What a detection has found.
///
/// ```standalone_crate
/// use greenprof_profiler::leak;
/// use greenprof_runtime::{Runtime, spawn};
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let report = Runtime::builder().workers(1).build()?.run(|| {
///     spawn(|| ()).join().unwrap();
///     leak::detect()
/// })?;
/// // Nothing is reported of a scan that was not complete.
/// assert!(report.leaked().is_empty() && report.deadlocks.is_empty());
/// assert_eq!(report.counts.tasks, 1, "the one that asks");
/// println!("the program stood still for {:?}", report.cost.stopped);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    pub(super) tasks: Vec<Leak>,
    pub(super) incomplete: Option<Incomplete>,
    /// How many reclaims had begun when the detection began: what it says is true until the next.
    pub(super) reclaims: u64,
    /// Locks whose holders wait for each other.
    pub deadlocks: Vec<Deadlock>,
    /// How many tasks were looked at.
    pub counts: Counts,
    /// What it cost.
    pub cost: Cost,
    /// What was looked at: the stopped process, or a copy.
    pub mode: Mode,
    /// Why it was not a copy, if one was asked for.
    pub not_copied: Option<NotCopied>,
    /// How many detections agree on this.
    pub passes: u32,
    /// Tasks of earlier reports that have run since, in the whole process: each is a fault of the detector.
    pub errors: u64,
}

impl Report {
    /// The leaked tasks, in the order of their spawning; empty if the scan was not complete.
    pub fn leaked(&self) -> &[Leak] {
        if self.incomplete.is_none() { &self.tasks } else { &[] }
    }

    /// What may be leaked, if the scan was not complete; otherwise empty.
    pub fn candidates(&self) -> &[Leak] {
        if self.incomplete.is_some() { &self.tasks } else { &[] }
    }

    /// Why nothing is reported, if so.
    pub fn incomplete(&self) -> Option<&Incomplete> {
        self.incomplete.as_ref()
    }

    /// Whether a task is reported as leaked.
    pub fn is_leaked(&self, task: TaskId) -> bool {
        self.leaked().iter().any(|leak| leak.id() == task)
    }
}

/// Why a scan was not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incomplete {
    /// So many threads could not be stopped.
    Threads(usize),
    /// Thread-local variables of a library were not found.
    ThreadLocals,
    /// A thread was stopped while it changed the runtime's timers, in every attempt.
    Busy,
    /// A table of the detector was full.
    Table,
    /// The memory map could not be read.
    Mappings,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => write!(f, "{count} threads could not be stopped; what they hold was not seen"),
            Self::ThreadLocals => f.write_str("the thread-local variables of a library were not found"),
            Self::Busy => f.write_str("a thread was changing timers whenever it was stopped: ask again"),
            Self::Table => f.write_str("a table of the detector was full"),
            Self::Mappings => f.write_str("the memory map of the process could not be read"),
        }
    }
}

/// Tasks that wait for locks of each other, in a circle: each waits for a lock that the next one holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlock {
    /// The tasks, each with the number of the lock that it waits for.
    pub tasks: Vec<(TaskId, u32)>,
}
