//! Building, entering and dropping a runtime.

use std::{
    fs,
    num::NonZero,
    panic::{Location, resume_unwind},
    sync::Arc,
    thread,
};

use super::{MAX_THREADS, MAX_WORKERS, Shared, current_worker, figures, sysmon};
use crate::{
    BuildError, SpawnError, heap,
    task::{
        self, JoinHandle,
        stack::{self, Class, overflow},
    },
};

/// The settings of a [`Runtime`].
#[derive(Clone, Debug)]
pub struct Builder {
    workers: Option<usize>,
    stack_size: usize,
    max_threads: usize,
}

impl Builder {
    /// The number of OS threads that run tasks; by default the number of processors of the machine.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The usable size in bytes of a task's stack, unless the task asks for another: 112 KiB by default, 240 KiB in
    /// builds with debug assertions. Only pages that are touched take memory.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = bytes;
        self
    }

    /// The most threads that run tasks, surplus workers included, which stand in for workers that a task blocks; 10 000
    /// by default. Beyond it, tasks wait until a blocked worker comes back; [`Handle::starved`] counts that.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = threads;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<Runtime, BuildError> {
        let workers = self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        match workers {
            0 => return Err(BuildError::NoWorkers),
            1..=MAX_WORKERS => {}
            asked => return Err(BuildError::TooManyWorkers { asked }),
        }
        if shadow_stacks_are_on() {
            return Err(BuildError::ShadowStack);
        }
        let class = Class::for_size(self.stack_size)?;
        overflow::install_handler();
        let most_threads = self.max_threads.clamp(workers, MAX_THREADS);
        let mut runtime = Runtime {
            shared: heap::untracked(|| Arc::new(Shared::new(workers, most_threads, class))),
            threads: Vec::new(),
        };
        figures::enter(&runtime.shared);
        for index in 0..workers {
            let thread = runtime.shared.start_worker(index).map_err(BuildError::Thread)?;
            runtime.threads.push(thread);
        }
        let shared = runtime.shared.clone();
        let monitor = || thread::Builder::new().name("greenprof-sysmon".into()).spawn(move || sysmon::monitor(&shared));
        let monitor = heap::untracked(monitor);
        runtime.threads.push(monitor.map_err(BuildError::Thread)?);
        Ok(runtime)
    }
}

/// Reads whether the kernel protects return addresses of this process with a shadow stack.
fn shadow_stacks_are_on() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("x86_Thread_features:") && line.contains("shstk"))
    })
}

/// A set of workers and the tasks that they run. Several may exist in a process, at once or one after another.
///
/// Dropping it stops the workers: each finishes the stretch of the task that it is in, so a task that never waits keeps
/// the drop waiting. [`Runtime::shutdown_timeout`] lets the tasks end first, and does not wait for ever.
///
/// Tasks that have not ended by then are *abandoned*: they never run again, their destructors do not run, and their
/// stacks stay allocated, because others may hold references into them. Who joins such a task from outside the runtime
/// gets [`task::Abandoned`] as the error. Nobody is told of what else it held: a thread that waits for a value that
/// only an abandoned task would send, or for a lock that it holds, waits for ever, and a `task::scope` of another
/// runtime with a task here does not return. Where that may happen, wait with a timeout, or have the tasks end before.
///
/// A runtime may be dropped or shut down by one of its own tasks. That does not wait for the workers; they leave when
/// their tasks do, and tasks count as abandoned when the last has left.
#[derive(Debug)]
pub struct Runtime {
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Vec<thread::JoinHandle<()>>,
}

impl Runtime {
    /// The settings to start from.
    pub fn builder() -> Builder {
        Builder { workers: None, stack_size: stack::DEFAULT_SIZE, max_threads: MAX_THREADS }
    }

    /// Runs `main` in a task, and waits for it. A panic in it continues in the caller.
    ///
    /// Other tasks may outlive it and go on until the runtime is dropped. `main` may borrow from the caller.
    ///
    /// # Panics
    /// If `main` panics, or if there is no memory for its stack.
    #[track_caller]
    pub fn run<T: Send>(&self, main: impl FnOnce() -> T + Send) -> T {
        let site = Location::caller();
        // SAFETY: the task has ended when `join_ended` returns, also by a panic, and nothing before the join can
        // unwind, so what `main` and the result borrow stays borrowed for as long as the task uses it.
        let spawned = unsafe { task::spawn_unchecked(&self.shared, task::Options::new(site).name("main"), main) };
        match spawned.map(JoinHandle::join_ended) {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(error) => panic!("{error}"),
        }
    }

    /// A handle with which other threads spawn tasks here.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }
}

/// A reference to a runtime, for threads that are not its workers.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Handle {
    /// The runtime of the calling task.
    pub fn current() -> Option<Self> {
        current_worker().map(|worker| Self(worker.shared_arc().clone()))
    }

    /// Spawns a task, from any thread.
    ///
    /// # Errors
    /// See [`SpawnError`].
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        self.spawn_with(task::Builder::new(), task)
    }

    /// Spawns a task with a name or a stack size of its own, from any thread.
    ///
    /// # Errors
    /// See [`SpawnError`].
    #[track_caller]
    pub fn spawn_with<T: Send + 'static>(
        &self,
        builder: task::Builder,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        let _inside = self.0.let_in()?;
        builder.spawn_on(&self.0, Location::caller(), task)
    }

    /// Tasks that were spawned and have not ended.
    pub fn alive_tasks(&self) -> u64 {
        self.0.alive()
    }

    /// Whether the runtime is being shut down, or has been: it takes no tasks from outside any more. For tasks that
    /// would go on for ever, such as one that accepts connections.
    pub fn is_shutting_down(&self) -> bool {
        self.0.door.is_closed()
    }

    /// The number that tells this runtime from the others of the process.
    pub fn runtime_id(&self) -> u32 {
        self.0.id
    }

    /// The number of workers that the runtime was built with.
    pub fn workers(&self) -> usize {
        self.0.processors.ordinary()
    }

    /// The threads that have run tasks: the workers, and the surplus workers that were ever needed at the same time.
    pub fn threads(&self) -> usize {
        self.0.processors.len()
    }

    /// How often a surplus worker was needed and could not be had, because of the bound on threads or of the system.
    pub fn starved(&self) -> u64 {
        self.0.surplus.starved()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .field("workers", &self.processors.ordinary())
            .finish_non_exhaustive()
    }
}
