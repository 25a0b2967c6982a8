//! Tasks that may borrow: they end before the scope does.
//!
//! The scope counts its tasks with a wait group. A task is counted off when its slot is dropped, which is after its
//! result has been: the result may borrow, too.

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::Result,
};

use super::{
    TaskId,
    join::JoinHandle,
    spawn::{Options, leave_nothing, spawn_from},
};
use crate::{SpawnError, scheduler::current_worker, sync::WaitGroup};

/// Where scoped tasks are spawned. See [`scope`].
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use greenprof_runtime::{Runtime, task::{self, Scope}};
///
/// /// Tasks of a scope may spawn others into it.
/// fn halve<'scope>(scope: &'scope Scope<'scope, '_>, depth: u32, leaves: &'scope AtomicU32) {
///     match depth {
///         0 => _ = leaves.fetch_add(1, Ordering::Relaxed),
///         _ => (0..2).for_each(|_| drop(scope.spawn(move || halve(scope, depth - 1, leaves)))),
///     }
/// }
///
/// let leaves = AtomicU32::new(0);
/// Runtime::builder().workers(2).build()?.run(|| task::scope(|scope| halve(scope, 4, &leaves)));
/// assert_eq!(leaves.into_inner(), 16);
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    tasks: Arc<Tasks>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// The tasks of a scope that have not ended.
#[derive(Debug)]
struct Tasks {
    running: WaitGroup,
    /// Set when a task has panicked and nobody has taken its panic.
    panicked: AtomicBool,
}

/// Counts a task of a scope off when it is dropped.
pub(super) struct Token {
    tasks: Arc<Tasks>,
    /// Whether the task's panic was left in its slot.
    pub(super) unhandled_panic: bool,
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.unhandled_panic {
            // Relaxed: the wait group orders it before the look in `scope`.
            self.tasks.panicked.store(true, Ordering::Relaxed);
        }
        self.tasks.running.done();
    }
}

/// Runs `body`, in which tasks can be spawned that borrow from the caller, and waits for them to end.
///
/// As [`std::thread::scope`] does for threads. May be called on a task only.
///
/// ```
/// use greenprof_runtime::{Runtime, task};
///
/// let mut numbers = vec![1, 2, 3];
/// Runtime::builder().workers(2).build()?.run(|| {
///     let sum = task::scope(|scope| {
///         let sum = scope.spawn(|| numbers.iter().sum::<i32>());
///         let length = scope.spawn(|| numbers.len());
///         sum.join().unwrap() + length.join().unwrap() as i32
///     });
///     numbers.push(sum);
/// });
/// assert_eq!(numbers, [1, 2, 3, 9]);
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
///
/// # Panics
/// If `body` panics, or if a task has panicked that was not joined; in both cases after all tasks have ended.
pub fn scope<'env, F, T>(body: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let tasks = Arc::new(Tasks { running: WaitGroup::new(), panicked: AtomicBool::new(false) });
    let scope = Scope { tasks, scope: PhantomData, env: PhantomData };
    let result = catch_unwind(AssertUnwindSafe(|| body(&scope)));
    // Whatever happens: the tasks use what was lent to them.
    scope.tasks.running.wait_lending();
    match result {
        Err(panic) => resume_unwind(panic),
        // Relaxed: see `Token::drop`.
        Ok(_) if scope.tasks.panicked.load(Ordering::Relaxed) => panic!("a scoped task has panicked"),
        Ok(value) => value,
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a task that may borrow what outlives the scope.
    ///
    /// # Panics
    /// Outside a runtime, or when there is no memory for another stack.
    #[inline(always)] // as `Builder::spawn`
    #[track_caller]
    pub fn spawn<T: Send + 'scope>(
        &'scope self,
        mut task: impl FnOnce() -> T + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, T> {
        let source = &raw mut task;
        let mut task = ManuallyDrop::new(task);
        // SAFETY: the closure is not used again if this succeeds.
        let spawned = unsafe { self.try_spawn(Location::caller(), &raw mut *task) };
        // SAFETY: as in `Builder::spawn`.
        unsafe { leave_nothing(source, &mut task, &spawned) };
        match spawned {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }

    /// # Safety
    /// The closure is valid, and not used again if this succeeds.
    unsafe fn try_spawn<T: Send + 'scope, F: FnOnce() -> T + Send + 'scope>(
        &'scope self,
        site: &'static Location<'static>,
        task: *mut F,
    ) -> std::result::Result<ScopedJoinHandle<'scope, T>, SpawnError> {
        let shared = current_worker().ok_or(SpawnError::NoRuntime)?.shared_arc();
        self.tasks.running.add(1);
        let token = Token { tasks: self.tasks.clone(), unhandled_panic: false };
        // SAFETY: `scope` returns only after the token has been dropped, which the slot does after the result; the
        // closure has ended by then. If nothing is spawned, the token is dropped here. The rest is the caller's promise.
        let inner = unsafe { spawn_from(shared, Options::new(site), task, Some(token)) }?;
        Ok(ScopedJoinHandle { inner, scope: PhantomData })
    }
}

/// Owns the right to wait for a scoped task.
///
/// ```
/// use greenprof_runtime::{Runtime, task};
///
/// let words = ["a", "bc"];
/// let lengths = Runtime::builder().workers(2).build()?.run(|| {
///     task::scope(|scope| {
///         let tasks = words.each_ref().map(|word| scope.spawn(|| word.len()));
///         tasks.map(|task| task.join().unwrap())
///     })
/// });
/// assert_eq!(lengths, [1, 2]);
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Debug)]
pub struct ScopedJoinHandle<'scope, T> {
    inner: JoinHandle<T>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the task to end and returns its result, or the payload of the panic that ended it.
    ///
    /// # Errors
    /// The payload of the task's panic.
    pub fn join(self) -> Result<T> {
        self.inner.join()
    }

    /// Whether the task has ended, so that `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.inner.id()
    }
}
