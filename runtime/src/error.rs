//! The errors that building a runtime and spawning a task can give.

use std::io;

use thiserror::Error;

/// Why [`Builder::build`](crate::Builder::build) could not make a runtime.
///
/// ```
/// use greenprof_runtime::{BuildError, Runtime};
///
/// let error = Runtime::builder().workers(0).build().unwrap_err();
/// assert!(matches!(error, BuildError::NoWorkers));
/// assert!(error.to_string().contains("call `workers(n)`"), "it says what to do: {error}");
/// ```
#[derive(Debug, Error)]
pub enum BuildError {
    /// `workers(0)`.
    #[error("a runtime needs at least one worker: call `workers(n)` with n from 1 to {max}", max = crate::scheduler::MAX_WORKERS)]
    NoWorkers,
    /// More workers than a runtime supports.
    #[error("{asked} workers were asked for; a runtime has at most {max}", max = crate::scheduler::MAX_WORKERS)]
    TooManyWorkers {
        /// The number that was asked for.
        asked: usize,
    },
    /// A default stack size outside the supported range.
    #[error(transparent)]
    Stack(#[from] SpawnError),
    /// The system refused a worker thread.
    #[error(
        "could not start a worker thread: {0}; ask for fewer workers, or raise the limits on threads (ulimit -u) and on \
         address space (ulimit -v)"
    )]
    Thread(#[source] io::Error),
    /// The kernel runs this process with hardware shadow stacks, which a user-space context switch would violate.
    #[error(
        "this process runs with hardware shadow stacks (SHSTK), on which green threads cannot switch: start it without \
         them, for example with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK"
    )]
    ShadowStack,
}

/// Why a task could not be spawned. Nothing was started, and the closure has been dropped.
///
/// ```
/// use greenprof_runtime::{Runtime, SpawnError, task};
///
/// // A thread that is not of a runtime.
/// assert!(matches!(task::Builder::new().spawn(|| ()), Err(SpawnError::NoRuntime)));
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let handle = runtime.handle();
/// drop(runtime);
/// assert!(matches!(handle.spawn(|| ()), Err(SpawnError::ShutDown)));
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Debug, Error)]
pub enum SpawnError {
    /// Called on a thread that runs no task, so it is not clear which runtime is meant.
    #[error("`spawn` was called outside a runtime: call it from a task, or use `Handle::spawn`")]
    NoRuntime,
    /// The runtime is being shut down, or has been dropped.
    #[error("the runtime has shut down and takes no new tasks")]
    ShutDown,
    /// A stack size outside the supported range.
    #[error(
        "a stack of {asked} bytes was asked for: choose between {min} and {max}",
        min = crate::task::stack::MIN_SIZE,
        max = crate::task::stack::MAX_SIZE
    )]
    StackSize {
        /// The number of bytes that was asked for.
        asked: usize,
    },
    /// A task was pinned to a worker that the runtime has not.
    #[error("a task was pinned to worker {asked}; the runtime's workers are 0 to {last}", last = workers - 1)]
    NoWorker {
        /// The index that was asked for.
        asked: usize,
        /// How many workers the runtime was built with.
        workers: usize,
    },
    /// The system gave no address space for more stacks: the process has reached its limit (`RLIMIT_AS`), or has as
    /// many mappings as it may have.
    #[error(
        "no address space for another task stack: {0}; raise the limit on it (ulimit -v) or the sysctl \
         vm.max_map_count, or run fewer tasks"
    )]
    OutOfMemory(#[source] io::Error),
    /// The system gave no guard page: without `MADV_GUARD_INSTALL` (Linux 6.13) each guard is a mapping of its own.
    #[error(
        "no guard page for another task stack: {0}; this kernel needs two mappings per task, so raise the sysctl \
         vm.max_map_count or run fewer tasks"
    )]
    OutOfMappings(#[source] io::Error),
}
