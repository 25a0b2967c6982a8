//! Waiting for a task's result.
//!
//! When a task has ended is told by its control block (`completion.rs`). Its result lies elsewhere, so that a task that
//! nobody has joined yet keeps no stack:
//!
//! - in a [`Slot`] on the heap, which the task and its handle share;
//! - nowhere, if it is of a type without bytes and without a destructor, as `()`: that the task has ended is all there is to
//!   tell. The payload of such a task's panic is kept in a register of the process ([`PANICS`]) until its handle wants it.
//!
//! A joiner gives up when its time is over, or when the task was abandoned (see `abandon.rs`). If the task has been
//! faster, the joiner gets its result after all.

use std::{
    any::Any,
    cell::UnsafeCell,
    collections::BTreeMap,
    fmt, mem, ptr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::Result,
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Abandoned, TaskId,
    abandon::Lookout,
    completion::{Completion, End, Met},
    control::Control,
    parker::Parker,
    scope::Token,
};
use crate::sys::clock;

type Payload = Box<dyn Any + Send>;

/// Where a result lies that has bytes, or somebody who has to learn of its end.
pub(super) struct Slot<T> {
    /// Written by the task before it completes, taken by the joiner after.
    result: UnsafeCell<Option<Result<T>>>,
    /// Of a scoped task: dropped after the result.
    scope: Option<Token>,
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(token) = &mut self.scope {
            let result = self.result.get_mut();
            token.unhandled_panic = matches!(result, Some(Err(_)));
            // The result may borrow from outside the scope, so it goes before the scope learns of the end.
            *result = None;
        }
    }
}

// SAFETY: the completion word hands the cell from the task to the joiner, so the slot moves a T between threads and no more.
// The payload of a panic is Send.
unsafe impl<T: Send> Sync for Slot<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Slot<T> {}

impl<T> Slot<T> {
    /// A slot, if a result of the type needs one.
    #[inline]
    pub(super) fn for_result(scope: Option<Token>) -> Option<Arc<Self>> {
        let nothing_to_keep = const { size_of::<T>() == 0 && !mem::needs_drop::<T>() };
        if nothing_to_keep && scope.is_none() {
            return None;
        }
        // In zeroed memory, field by field: what is not written yet would be bytes of whatever was there or on the stack
        // before, which a leak scan takes for words.
        let mut slot = Arc::<Self>::new_zeroed();
        let at = Arc::get_mut(&mut slot).expect("made above").as_mut_ptr();
        // SAFETY: both fields of a fresh slot, each of them once.
        Some(unsafe {
            (&raw mut (*at).result).write(UnsafeCell::new(None));
            (&raw mut (*at).scope).write(scope);
            slot.assume_init()
        })
    }
}

/// The payloads of panics for which there is no slot, by the tasks' ids, until the handles are joined or dropped. The map is
/// in the program's heap, as are the payloads: for a scan, this static refers to them.
static PANICS: Mutex<BTreeMap<u64, Payload>> = Mutex::new(BTreeMap::new());

/// How many there are. Changes under the lock of `PANICS`.
static PANIC_COUNT: AtomicUsize = AtomicUsize::new(0);

fn keep_panic(id: u64, payload: Payload) {
    let mut panics = PANICS.lock();
    panics.insert(id, payload);
    // Relaxed: the completion word orders it before the look of the handle.
    PANIC_COUNT.fetch_add(1, Ordering::Relaxed);
}

/// The payload of the panic that has ended the task, if one has.
#[inline]
fn take_panic(id: u64) -> Option<Payload> {
    // Relaxed: who has seen the end of the task sees at least what the task has added.
    if PANIC_COUNT.load(Ordering::Relaxed) == 0 { None } else { search_panic(id) }
}

#[cold]
fn search_panic(id: u64) -> Option<Payload> {
    let mut panics = PANICS.lock();
    let payload = panics.remove(&id)?;
    PANIC_COUNT.fetch_sub(1, Ordering::Relaxed);
    Some(payload)
}

/// Delivers the result of the task that calls this, as the last thing that it does.
#[inline]
pub(super) fn deliver<T>(control: &Control, slot: Option<Arc<Slot<T>>>, result: Result<T>) {
    let id = control.about.id.load(Ordering::Relaxed);
    match &slot {
        // SAFETY: before the task completes the cell is the task's.
        Some(slot) => unsafe { *slot.result.get() = Some(result) },
        None => {
            if let Err(payload) = result {
                keep_panic(id, payload);
            }
        }
    }
    match control.completion.complete() {
        Met::Nobody => {}
        Met::Joiner(parker) => parker.unpark_last(),
        Met::Detached => drop(take_panic(id)),
    }
    // The slot, which may end a scope, is dropped last.
    drop(slot);
}

/// Owns the right to wait for a task. Dropping it lets the task go on by itself.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     assert_eq!(spawn(|| 6 * 7).join().unwrap(), 42);
///     // The payload of a panic comes to who joins, as with threads.
///     let payload = spawn(|| std::panic::resume_unwind(Box::new("on purpose"))).join().unwrap_err();
///     assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub struct JoinHandle<T> {
    control: &'static Control,
    id: TaskId,
    /// The number of the task's runtime.
    runtime: u32,
    slot: Option<Arc<Slot<T>>>,
}

impl<T> JoinHandle<T> {
    #[inline]
    pub(super) fn new(control: &'static Control, id: TaskId, runtime: u32, slot: Option<Arc<Slot<T>>>) -> Self {
        Self { control, id, runtime, slot }
    }

    /// Waits for the task to end and returns its result, or the payload of the panic that ended it.
    ///
    /// May be called from a task or from a plain OS thread, which then blocks.
    ///
    /// ```
    /// use greenprof_runtime::{Runtime, spawn};
    ///
    /// let doubled = Runtime::builder().workers(1).build()?.run(|| {
    ///     let tasks: Vec<_> = (1..=3).map(|n| spawn(move || 2 * n)).collect();
    ///     tasks.into_iter().map(|task| task.join().unwrap()).collect::<Vec<_>>()
    /// });
    /// assert_eq!(doubled, [2, 4, 6]);
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// The payload of the task's panic, as [`std::thread::JoinHandle::join`] gives it. If the runtime was shut down
    /// before the task ended, it is an [`Abandoned`], no matter whether that happened before or during the join. (On a
    /// task of that same runtime the join does not return, because that task is abandoned, too.)
    pub fn join(self) -> Result<T> {
        match self.wait(None) {
            End::Abandoned => Err(Box::new(Abandoned { task: self.id })),
            _ => self.take(),
        }
    }

    /// Waits for the task to end, for `timeout` at the most. Gives the handle back if it has not.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::{Runtime, spawn, sync::Chan};
    ///
    /// Runtime::builder().workers(1).build()?.run(|| {
    ///     let gate = Chan::new();
    ///     let waits = gate.clone();
    ///     let task = spawn(move || waits.recv());
    ///     let task = task.join_timeout(Duration::from_millis(1)).unwrap_err(); // the handle comes back
    ///     gate.send(7).unwrap();
    ///     assert_eq!(task.join().unwrap(), Some(7));
    /// });
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// The handle when the time was over; else as [`JoinHandle::join`] gives it.
    pub fn join_timeout(self, timeout: Duration) -> std::result::Result<Result<T>, Self> {
        match self.wait(Some(clock::after(timeout))) {
            End::TimedOut => Err(self),
            End::Abandoned => Ok(Err(Box::new(Abandoned { task: self.id }))),
            End::Done => Ok(self.take()),
        }
    }

    /// Like `join`, and returns only when the task has ended: for who has lent it something.
    pub(crate) fn join_ended(self) -> Result<T> {
        if !self.is_finished() {
            wait_lending(&self.control.completion, self.id);
        }
        self.take()
    }

    #[inline]
    fn wait(&self, deadline: Option<u64>) -> End {
        if self.is_finished() {
            return End::Done;
        }
        wait(&self.control.completion, self.id, deadline, self.runtime)
    }

    /// The result of a task that has ended.
    #[inline]
    fn take(mut self) -> Result<T> {
        debug_assert!(self.is_finished());
        let (slot, id) = (self.slot.take(), self.id.0);
        // Nothing is left that dropping the handle would have to look for.
        mem::forget(self);
        if let Some(slot) = slot {
            // SAFETY: the task has ended, so the result is ours.
            return unsafe { (*slot.result.get()).take() }.expect("a task completes once and is joined once");
        }
        match take_panic(id) {
            Some(payload) => Err(payload),
            // SAFETY: without a slot T has no bytes and no destructor. The task has made one and not dropped it, so this is
            // that one, moved.
            None => Ok(unsafe { ptr::NonNull::<T>::dangling().read() }),
        }
    }

    /// Whether the task has ended, so that `join` will not wait.
    pub fn is_finished(&self) -> bool {
        self.control.completion.is_over(self.id.0)
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.id
    }
}

#[inline(never)]
fn wait(completion: &Completion, id: TaskId, deadline: Option<u64>, runtime: u32) -> End {
    let parker = Parker::current();
    completion.wait(id.0, parker, deadline, Lookout::new(runtime, parker))
}

#[inline(never)]
fn wait_lending(completion: &Completion, id: TaskId) {
    completion.wait_lending(id.0, Parker::current());
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.slot.is_none() && !self.control.completion.detach(self.id.0) {
            drop(take_panic(self.id.0));
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("id", &self.id).field("finished", &self.is_finished()).finish()
    }
}

const _: fn() = || {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<JoinHandle<Payload>>();
};
