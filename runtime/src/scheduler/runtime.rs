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
    sys::thread::keep_main_signal_stack,
    task::{
        self, JoinHandle,
        stack::{self, Class, overflow},
    },
};

/// The settings of a [`Runtime`].
///
/// ```
/// use greenprof_runtime::Runtime;
///
/// let runtime = Runtime::builder().workers(2).stack_size(64 << 10).max_threads(100).build()?;
/// assert_eq!(runtime.run(|| 6 * 7), 42);
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    workers: Option<usize>,
    stack_size: usize,
    max_threads: usize,
}

impl Builder {
    /// The number of OS threads that run tasks; by default the number of processors of the machine.
    ///
    /// ```
    /// use greenprof_runtime::{BuildError, Runtime};
    ///
    /// assert_eq!(Runtime::builder().workers(3).build()?.handle().workers(), 3);
    /// assert!(matches!(Runtime::builder().workers(0).build(), Err(BuildError::NoWorkers)));
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
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
        keep_main_signal_stack();
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
///
/// ```
/// use greenprof_runtime::{Runtime, spawn};
///
/// let runtime = Runtime::builder().workers(2).build()?;
/// let words = ["two", "tasks"];
/// let letters = runtime.run(|| spawn(move || words.concat()).join().unwrap().len());
/// assert_eq!(letters, 8);
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
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
    /// ```
    /// use greenprof_runtime::Runtime;
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// let mut numbers = vec![3, 1, 2];
    /// runtime.run(|| numbers.sort()); // borrowed until it returns
    /// assert_eq!(numbers, [1, 2, 3]);
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
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
///
/// ```
/// use greenprof_runtime::Runtime;
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let handle = runtime.handle();
/// // A thread that is not the runtime's, of a server for example.
/// let answer = std::thread::spawn(move || handle.spawn(|| 42).unwrap().join().unwrap());
/// assert_eq!(answer.join().unwrap(), 42);
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Handle {
    /// The runtime of the calling task.
    ///
    /// ```
    /// use greenprof_runtime::{Handle, Runtime};
    ///
    /// assert!(Handle::current().is_none(), "a plain thread");
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// let inside = runtime.run(|| Handle::current().expect("a task").runtime_id());
    /// assert_eq!(inside, runtime.handle().runtime_id());
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    pub fn current() -> Option<Self> {
        current_worker().map(|worker| Self(worker.shared_arc().clone()))
    }

    /// Spawns a task, from any thread.
    ///
    /// ```
    /// use greenprof_runtime::Runtime;
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// let task = runtime.handle().spawn(|| "from a plain thread")?;
    /// assert_eq!(task.join().unwrap(), "from a plain thread");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// use greenprof_runtime::{Runtime, task};
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// let deep = task::Builder::new().name("parser").stack_size(1 << 20);
    /// let task = runtime.handle().spawn_with(deep, || "parsed")?;
    /// assert_eq!(task.join().unwrap(), "parsed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// use greenprof_runtime::{Runtime, sync::Chan};
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// let (gate, task_gate) = { let gate = Chan::<()>::new(); (gate.clone(), gate) };
    /// let task = runtime.handle().spawn(move || task_gate.recv())?;
    /// assert_eq!(runtime.handle().alive_tasks(), 1);
    /// gate.close();
    /// task.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn alive_tasks(&self) -> u64 {
        self.0.alive()
    }

    /// Whether the runtime is being shut down, or has been: it takes no tasks from outside any more. For tasks that
    /// would go on for ever, such as one that accepts connections.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::{Handle, Runtime, sleep};
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// runtime.handle().spawn(|| {
    ///     let own = Handle::current().expect("a task");
    ///     while !own.is_shutting_down() {
    ///         sleep(Duration::from_millis(1)); // work
    ///     }
    /// })?;
    /// assert_eq!(runtime.shutdown_timeout(Duration::from_secs(60)).abandoned, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
