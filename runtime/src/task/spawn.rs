//! Making a task: a stack, a closure on it, and a place in a run queue.

use std::{
    hint,
    mem::{self, ManuallyDrop, MaybeUninit},
    panic::{AssertUnwindSafe, Location, catch_unwind},
    process, ptr,
    sync::{Arc, atomic::Ordering},
};

use super::{
    TaskId,
    control::{Control, TaskRef},
    join::{self, JoinHandle, Slot},
    local,
    name::Name,
    scope::Token,
    stack::{Class, pool},
    switch,
};
use crate::{
    SpawnError, hooks, labels,
    scheduler::{self, Departure, Place, Shared, Worker, current_worker},
    sys::preserved,
    world::unwind,
};

/// Closures larger than this go to the heap instead of the new stack, of which they might be most.
const LARGE_CLOSURE: usize = 4096;

/// Spawns a task on the runtime of the calling task.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn};
///
/// Runtime::builder().workers(2).build()?.run(|| {
///     let halves = [spawn(|| (1..=50).sum::<u32>()), spawn(|| (51..=100).sum())];
///     assert_eq!(halves.map(|half| half.join().unwrap()).iter().sum::<u32>(), 5050);
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
///
/// # Panics
/// Outside a runtime, or when there is no memory for another stack. [`Builder::spawn`] gives errors instead.
#[inline(always)] // as `Builder::spawn`
#[track_caller]
pub fn spawn<T: Send + 'static>(mut task: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let source = &raw mut task;
    let mut task = ManuallyDrop::new(task);
    // SAFETY: as in `Builder::spawn`.
    let spawned = unsafe { spawn_plain(Location::caller(), &raw mut *task) };
    // SAFETY: as in `Builder::spawn`.
    unsafe { leave_nothing(source, &mut task, &spawned) };
    match spawned {
        Ok(handle) => handle,
        Err(error) => panic!("{error}"),
    }
}

/// # Safety
/// As for [`spawn_from`].
unsafe fn spawn_plain<T: Send, F: FnOnce() -> T + Send>(
    site: &'static Location<'static>,
    task: *mut F,
) -> Result<JoinHandle<T>, SpawnError> {
    // SAFETY: the caller's promise.
    unsafe { spawn_here(Options::new(site), task) }
}

/// Spawns on the runtime of the calling task.
///
/// # Safety
/// As for [`spawn_from`].
#[inline(always)] // one frame less of the runtime's own on the spawner's stack
unsafe fn spawn_here<T: Send, F: FnOnce() -> T + Send>(
    options: Options<'_>,
    task: *mut F,
) -> Result<JoinHandle<T>, SpawnError> {
    // Not a reference of its own: spawning does not leave the worker, and workers that count up and down on one
    // word would be in each other's way.
    let shared = options.spawner.ok_or(SpawnError::NoRuntime)?.shared_arc();
    // SAFETY: the caller's promise.
    unsafe { spawn_from(shared, options, task, None) }
}

/// The name, the stack size and the place of a task to be spawned.
///
/// ```
/// use greenprof_runtime::{Runtime, sync::Chan, task, world};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let prices = Chan::new();
///     let feed = prices.clone();
///     let feed = task::Builder::new().name("price-feed").stack_size(32 << 10).spawn(move || feed.recv());
///     let names: Vec<_> = world::tasks(0).iter().filter_map(|task| task.name.clone()).collect();
///     assert!(names.iter().any(|name| name == "price-feed"), "{names:?}");
///     prices.send(7).unwrap();
///     assert_eq!(feed.expect("memory").join().unwrap(), Some(7));
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Name,
    stack_size: Option<usize>,
    pinned: Option<usize>,
}

impl Builder {
    /// A task without a name, with its runtime's stack size.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name under which the task appears in task profiles; the first 48 bytes are kept.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Name::cut(name.as_ref());
        self
    }

    /// The usable size of the task's stack in bytes, rounded up; from 16 KiB to a little under 1 GiB. Only pages that are
    /// touched take memory.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Keeps the task on one worker, so that it always runs on the same thread: for libraries that keep state in
    /// thread-local variables. The workers of a runtime have the indices from 0; two tasks pinned to one share its thread.
    ///
    /// A pinned task waits while its worker is busy with another task, however idle the others are, and while that task
    /// blocks the thread.
    ///
    /// ```
    /// use greenprof_runtime::{Runtime, task, yield_now};
    ///
    /// Runtime::builder().workers(2).build()?.run(|| {
    ///     let pinned = task::Builder::new().pinned(1).spawn(|| {
    ///         let thread = std::thread::current().id();
    ///         yield_now();
    ///         thread == std::thread::current().id()
    ///     });
    ///     assert!(pinned.expect("memory").join().unwrap());
    /// });
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    pub fn pinned(mut self, worker: usize) -> Self {
        self.pinned = Some(worker);
        self
    }

    /// Spawns the task on the runtime of the calling task.
    ///
    /// # Errors
    /// See [`SpawnError`].
    #[inline(always)] // for `forget`: the caller has given away what the task takes along
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        self,
        mut task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        let source = &raw mut task;
        let mut task = ManuallyDrop::new(task);
        // SAFETY: the task and its result borrow nothing, and the closure is not used again if this succeeds.
        let spawned = unsafe { self.spawn_with(Location::caller(), &raw mut *task) };
        // SAFETY: what was in the parameter was moved out, and its storage lasts until this returns.
        unsafe { leave_nothing(source, &mut task, &spawned) };
        spawned
    }

    /// # Safety
    /// As for [`spawn_from`].
    unsafe fn spawn_with<T: Send, F: FnOnce() -> T + Send>(
        self,
        site: &'static Location<'static>,
        task: *mut F,
    ) -> Result<JoinHandle<T>, SpawnError> {
        // SAFETY: the caller's promise.
        unsafe { spawn_here(self.options(site), task) }
    }

    pub(crate) fn spawn_on<T: Send + 'static>(
        self,
        shared: &Arc<Shared>,
        site: &'static Location<'static>,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        // SAFETY: the task and its result borrow nothing.
        unsafe { spawn_unchecked(shared, self.options(site), task) }
    }

    #[inline]
    fn options(&self, site: &'static Location<'static>) -> Options<'_> {
        let Self { name, stack_size, pinned } = self;
        Options { name: name.as_str(), stack_size: *stack_size, pinned: *pinned, ..Options::new(site) }
    }
}

/// What is known of a task before it exists.
pub(crate) struct Options<'a> {
    name: &'a str,
    stack_size: Option<usize>,
    pinned: Option<usize>,
    site: &'static Location<'static>,
    /// The worker that the spawner runs on, whichever runtime the task is for. Looked up once: spawning does not leave it.
    spawner: Option<&'a Worker>,
    /// Of the type of what the caller has given.
    closure_name: fn() -> &'static str,
}

impl<'a> Options<'a> {
    /// For a task that the caller spawns, at once.
    #[inline]
    pub(crate) fn new(site: &'static Location<'static>) -> Self {
        Self { name: "", stack_size: None, pinned: None, site, spawner: current_worker(), closure_name: || "" }
    }

    pub(crate) fn name(self, name: &'a str) -> Self {
        Self { name, ..self }
    }
}

/// A task's closure and where its result goes, as they lie on the new stack.
struct Start<F, T> {
    body: F,
    slot: Option<Arc<Slot<T>>>,
}

/// Spawns a task that may borrow.
///
/// # Safety
/// Whatever `body` and its result borrow must outlive the task.
#[inline(always)] // one frame less of the runtime's own on the spawner's stack
pub(crate) unsafe fn spawn_unchecked<T: Send, F: FnOnce() -> T + Send>(
    shared: &Arc<Shared>,
    options: Options<'_>,
    mut body: F,
) -> Result<JoinHandle<T>, SpawnError> {
    let source = &raw mut body;
    let mut body = ManuallyDrop::new(body);
    // SAFETY: the caller's promise, and the closure is not used again if this succeeds.
    let spawned = unsafe { spawn_from(shared, options, &raw mut *body, None) };
    // SAFETY: as in `Builder::spawn`.
    unsafe { leave_nothing(source, &mut body, &spawned) };
    spawned
}

/// Drops a closure that was not taken, and wipes the variable from which it was moved to `body`, and the registers: the bytes that are
/// left there count as references to a leak scan. Inlined into the function that has given the closure away.
///
/// # Safety
/// The value of `source` was moved out, and its storage is still there. `body` is valid unless it was taken, that is, `spawned` is `Ok`.
#[inline(always)]
pub(super) unsafe fn leave_nothing<F, T, E>(source: *mut F, body: &mut ManuallyDrop<F>, spawned: &Result<T, E>) {
    if spawned.is_err() {
        // SAFETY: the caller's promise; nobody uses it after this.
        unsafe { ManuallyDrop::drop(body) };
    }
    // SAFETY: the caller's promise; any bytes may lie where no value is.
    unsafe { source.write_bytes(0, 1) };
    hint::black_box(source); // or the compiler would leave that out
    preserved::forget();
}

/// Takes the closure out of the spawner's variable, if it succeeds, and wipes that: what the task does not use at once would count as
/// reachable from there. A pointer, because each function that a closure is moved through would have a copy. `scope` learns of the
/// task's end.
///
/// # Safety
/// `body` is valid, and not used again if this succeeds. Whatever it and its result borrow must outlive the task, or live until the token
/// is dropped.
#[inline(always)] // as above
pub(super) unsafe fn spawn_from<T: Send, F: FnOnce() -> T + Send>(
    shared: &Arc<Shared>,
    options: Options<'_>,
    body: *mut F,
    scope: Option<Token>,
) -> Result<JoinHandle<T>, SpawnError> {
    let options = Options { closure_name: std::any::type_name::<F>, ..options };
    if size_of::<F>() > LARGE_CLOSURE || align_of::<F>() > 64 {
        // SAFETY: the caller's promise.
        unsafe { spawn_boxed(shared, options, body, scope) }
    } else {
        // SAFETY: the caller's promise; the closure is small.
        unsafe { spawn_on_stack(shared, options, body, scope) }
    }
}

/// Spawns a task whose closure goes into a box.
///
/// # Safety
/// As for [`spawn_from`].
unsafe fn spawn_boxed<T: Send, F: FnOnce() -> T + Send>(
    shared: &Arc<Shared>,
    options: Options<'_>,
    body: *mut F,
    scope: Option<Token>,
) -> Result<JoinHandle<T>, SpawnError> {
    let mut boxed = Box::<F>::new_uninit();
    // SAFETY: as many bytes as `body` has; they are a value only if that is given up.
    unsafe { boxed.as_mut_ptr().copy_from_nonoverlapping(body, 1) };
    // SAFETY: it has just been written, and is called only if it was taken.
    let mut call = ManuallyDrop::new(move || call_boxed(unsafe { boxed.assume_init() }));
    // SAFETY: the caller's promise; this closure is the size of a pointer.
    let spawned = unsafe { spawn_on_stack(shared, options, &raw mut *call, scope) };
    match &spawned {
        // SAFETY: the caller does not use it any more.
        Ok(_) => unsafe { body.write_bytes(0, 1) },
        // SAFETY: it was not taken. Frees the box; the value is the caller's.
        Err(_) => unsafe { ManuallyDrop::drop(&mut call) },
    }
    spawned
}

/// Spawns a task whose closure goes onto the new stack.
///
/// # Safety
/// As for [`spawn_from`]; the closure must be small.
#[inline(never)] // what points into the new stack lies in a frame that has gone when the spawner goes on, for the sake of leak scans
unsafe fn spawn_on_stack<T: Send, F: FnOnce() -> T + Send>(
    shared: &Arc<Shared>,
    options: Options<'_>,
    body: *mut F,
    scope: Option<Token>,
) -> Result<JoinHandle<T>, SpawnError> {
    let control = allocate(shared, &options)?;
    // SAFETY: `allocate` gives a control block that only we use until it is started.
    let block = unsafe { control.as_ref() };
    let slot = Slot::for_result(scope);
    // SAFETY: the caller's promise: nothing that comes now can fail, and instruments must not panic.
    let start = Start { body: unsafe { body.read() }, slot: slot.clone() };
    let top = block.stack().end;
    let at = (top - size_of::<Start<F, T>>()) & !(align_of::<Start<F, T>>().max(16) - 1);
    let at = control.as_ptr().cast::<u8>().wrapping_sub(top - at);
    // SAFETY: the space below the control block belongs to the new task, and is larger than any closure put there.
    let sp = unsafe {
        at.cast::<Start<F, T>>().write(start);
        switch::prepare(at, first)
    };
    // SAFETY: the caller does not use it any more.
    unsafe { body.write_bytes(0, 1) };
    block.closure.store(at, Ordering::Relaxed);
    block.entry.store(run::<F, T> as *mut (), Ordering::Relaxed);
    block.sp.store(sp, Ordering::Relaxed);
    let id = TaskId(block.about.id.load(Ordering::Relaxed));
    start_task(shared, options.spawner, control);
    Ok(JoinHandle::new(block, id, shared.id, slot))
}

/// Out of line, so that the large closure passes through no frame of the spawner.
#[inline(never)]
fn call_boxed<T, F: FnOnce() -> T>(body: Box<F>) -> T {
    body()
}

/// A stack with the task's description filled in; everything of `spawn` that does not depend on the closure's type.
#[inline(never)]
fn allocate(shared: &Arc<Shared>, options: &Options<'_>) -> Result<ptr::NonNull<Control>, SpawnError> {
    if shared.shutdown.load(Ordering::Relaxed) {
        return Err(SpawnError::ShutDown);
    }
    let workers = shared.processors.ordinary();
    if let Some(asked) = options.pinned.filter(|worker| *worker >= workers) {
        return Err(SpawnError::NoWorker { asked, workers });
    }
    let class = options.stack_size.map_or(Ok(shared.stack), Class::for_size)?;
    let (control, id) = match options.spawner {
        Some(worker) => (worker.take_stack(class)?, worker.next_task_id()),
        None => (pool::take(class)?, scheduler::next_task_id()),
    };
    // SAFETY: control blocks are never unmapped.
    let block = unsafe { control.as_ref() };
    let about = &block.about;
    // All Relaxed: `start_task` publishes them.
    about.id.store(id, Ordering::Relaxed);
    block.completion.begin(id);
    let spawner = options.spawner.and_then(Worker::control);
    let (parent, labels) = match spawner {
        Some(task) => (task.about.id.load(Ordering::Relaxed), task.labels.load(Ordering::Relaxed)),
        None => (0, labels::current_set().index()),
    };
    about.parent.store(parent, Ordering::Relaxed);
    about.set_spawn_site(options.site);
    match spawner {
        Some(task) => unwind::store_callers(&task.stack(), &about.spawn_stack),
        None => about.spawn_stack[0].store(0, Ordering::Relaxed),
    }
    about.set_name(options.name);
    about.set_closure_name(options.closure_name);
    about.runtime_id.store(shared.id, Ordering::Relaxed);
    block.labels.store(labels, Ordering::Relaxed);
    block.runtime.store(Arc::as_ptr(shared).cast_mut(), Ordering::Relaxed);
    block.set_pinned(options.pinned);
    Ok(control)
}

#[inline(never)]
fn start_task(shared: &Arc<Shared>, spawner: Option<&Worker>, control: ptr::NonNull<Control>) {
    // SAFETY: control blocks are never unmapped.
    let block = unsafe { control.as_ref() };
    let generation = block.park.start();
    hooks::task_spawned(TaskRef { control, generation });
    match spawner.filter(|worker| ptr::eq(worker.shared(), &**shared)) {
        Some(worker) => worker.count_spawned(),
        None => {
            shared.spawned_outside.fetch_add(1, Ordering::Relaxed);
        }
    }
    scheduler::schedule_from(spawner, control, Place::Last);
}

/// Words in the frame of `first` that make it reach below the first context, which lies around its upper end.
const OWN_WORDS: usize = if cfg!(target_arch = "x86_64") { 2 } else { 24 };

/// The first Rust function of every task.
extern "C" fn first(_: usize) -> ! {
    let control = current_worker().and_then(Worker::control).expect("a worker has switched here");
    let closure = control.closure.load(Ordering::Relaxed);
    // The program's frames lie below this one. Pointers to it and what is above (where the closure and the first context
    // were) must not be taken for such to a value that the task lends, by a leak scan that finds what the spawner has left.
    let mut own = MaybeUninit::<[usize; OWN_WORDS]>::uninit();
    hint::black_box(&mut own);
    control.closure.store(unwind::stack_pointer() as *mut u8, Ordering::Relaxed);
    // SAFETY: `spawn_on_stack` has stored a `run` and the closure that it fits, and this is their only use.
    unsafe {
        let entry: unsafe fn(*mut u8, &Control) = mem::transmute(control.take_entry());
        entry(closure, control);
    }
    scheduler::leave(Departure::Exit);
    process::abort() // a task that has ended is never resumed
}

/// Runs the closure at `at`, destroys the task's task-locals, and delivers the result.
///
/// # Safety
/// `at` holds a `Start<F, T>`, which is used up.
unsafe fn run<F: FnOnce() -> T, T>(at: *mut u8, control: &Control) {
    let at = at.cast::<Start<F, T>>();
    // SAFETY: read once. The bytes are wiped, because a leak scan would take what was moved out for live references.
    let start = unsafe {
        let start = at.read();
        ptr::write_bytes(at.cast::<u8>(), 0, size_of::<Start<F, T>>());
        start
    };
    let Start { body, slot } = start;
    let mut result = catch_unwind(AssertUnwindSafe(body));
    if let Some(panic) = local::end_task(control)
        && result.is_ok()
    {
        let unwanted = mem::replace(&mut result, Err(panic));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(unwanted)));
    }
    join::deliver(control, slot, result);
}
