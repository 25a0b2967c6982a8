//! Task-locals: a value of its own for each task.
//!
//! A task's values are in a list on the heap that its control block points to; few programs have more than a handful, so a
//! value is found by looking through the list for the address of its key. Each value is in a box of its own, so that
//! it stays where it is while others are added. Threads that run no task have such a list in a thread-local.
//!
//! # When values are destroyed
//!
//! The values of a task are destroyed when its closure has returned or unwound: by the task, on its own stack, before its
//! result can be joined, the last made first. A destructor may wait, spawn, and use the values that were made before its
//! own; the destroyed ones are gone. A panic in one ends the task as a panic of its closure would, after all others have
//! been destroyed. Values of tasks that are abandoned with their runtime are never destroyed, nor is anything else of
//! theirs.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
    sync::atomic::Ordering,
};

use thiserror::Error;

use super::control::Control;
use crate::scheduler::current_worker;

/// Declares task-locals: statics of type [`LocalKey`], whose values are made when a task first uses them.
///
/// ```
/// use std::cell::Cell;
/// use greenprof_runtime::{Runtime, spawn, task_local};
///
/// task_local! {
///     /// How many requests this task has served.
///     static SERVED: Cell<u32> = const { Cell::new(0) };
/// }
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     SERVED.with(|served| served.set(3));
///     let other = spawn(|| SERVED.with(Cell::get));
///     assert_eq!(other.join().unwrap(), 0, "another task has another value");
///     assert_eq!(SERVED.with(Cell::get), 3);
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $value:expr $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::task::LocalKey<$type> = $crate::task::LocalKey::new(|| $value);
        $($crate::task_local! { $($rest)* })?
    };
}

/// A task-local, declared by [`task_local!`](crate::task_local).
///
/// On a thread that runs no task it is a thread-local.
///
/// ```
/// use greenprof_runtime::task_local;
///
/// task_local! {
///     static NAME: String = "nobody".to_owned();
/// }
///
/// assert_eq!(NAME.with(String::len), 6);
/// assert_eq!(NAME.try_with(|name| name.clone()).as_deref(), Ok("nobody"));
/// ```
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

/// The value has been destroyed: the task, or the thread, is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("task-local used when the task's values had been destroyed")]
pub struct AccessError;

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> Self {
        Self { init }
    }

    /// Calls `body` with the calling task's value, which is made if this is its first use.
    ///
    /// # Panics
    /// If the value has been destroyed: in destructors of other task-locals.
    #[track_caller]
    pub fn with<R>(&'static self, body: impl FnOnce(&T) -> R) -> R {
        match self.try_with(body) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// Like [`LocalKey::with`].
    ///
    /// # Errors
    /// If the value has been destroyed.
    pub fn try_with<R>(&'static self, body: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = match with_values(|values| self.find(values))?? {
            Some(value) => value,
            None => {
                // With no list borrowed: the user's code may use other task-locals, or this one, or wait.
                let value = Box::new((self.init)());
                with_values(|values| self.insert(values, value))??
            }
        };
        // SAFETY: a value stays where it is until its task or thread ends, which is after `body`: both are on this stack.
        Ok(body(unsafe { value.as_ref() }))
    }

    /// The key's address: statics of this type are not zero-sized, so no two share one.
    fn address(&'static self) -> usize {
        ptr::from_ref(self) as usize
    }

    fn find(&'static self, values: &Values) -> Result<Option<NonNull<T>>, AccessError> {
        let list = values.list.borrow();
        match list.iter().find(|value| value.key == self.address()) {
            // The list has values of this key's type only under its address.
            Some(value) => Ok(Some(value.at.cast())),
            None if values.ending.get() => Err(AccessError),
            None => Ok(None),
        }
    }

    /// Adds the value, unless the initialiser has used its own key: then the value that was made inside counts, which others
    /// may have seen.
    fn insert(&'static self, values: &Values, value: Box<T>) -> Result<NonNull<T>, AccessError> {
        if let Some(earlier) = self.find(values)? {
            return Ok(earlier);
        }
        let at = NonNull::from(Box::leak(value));
        values.list.borrow_mut().push(Value { key: self.address(), at: at.cast(), destroy: destroy::<T> });
        Ok(at)
    }
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalKey(..)")
    }
}

/// The values of a task or a thread.
pub(crate) struct Values {
    list: RefCell<Vec<Value>>,
    /// Set when they are being destroyed: no others are made.
    ending: Cell<bool>,
}

struct Value {
    key: usize,
    at: NonNull<()>,
    destroy: unsafe fn(NonNull<()>),
}

/// # Safety
/// `at` must be a `Box<T>` that was leaked, and not be used afterwards.
unsafe fn destroy<T>(at: NonNull<()>) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(at.cast::<T>().as_ptr()) });
}

impl Values {
    const fn new() -> Self {
        Self { list: RefCell::new(Vec::new()), ending: Cell::new(false) }
    }

    /// Destroys all values, the last first. Returns the payload of the first panic.
    fn end(&self) -> Option<Box<dyn Any + Send>> {
        self.ending.set(true);
        let mut panic = None;
        loop {
            let Some(value) = self.list.borrow_mut().pop() else { return panic };
            // SAFETY: made by `insert` for this type; it has just left the list, so nobody finds it any more.
            let destroyed = catch_unwind(AssertUnwindSafe(|| unsafe { (value.destroy)(value.at) }));
            if let Err(payload) = destroyed {
                match panic {
                    None => panic = Some(payload),
                    // Its own destructor might panic again.
                    Some(_) => mem::forget(payload),
                }
            }
        }
    }
}

/// Calls `body` with the values of the calling task or thread. It must not wait or run the user's code.
fn with_values<R>(body: impl FnOnce(&Values) -> R) -> Result<R, AccessError> {
    match current_worker().and_then(|worker| worker.task()) {
        Some(task) => Ok(body(of_task(task.control()))),
        None => with_thread_values(body),
    }
}

/// The running task's values; the list is made here if it has none.
fn of_task(control: &Control) -> &Values {
    // Relaxed: only the task itself touches it, wherever it runs.
    let mut values = control.locals.load(Ordering::Relaxed);
    if values.is_null() {
        values = Box::into_raw(Box::new(Values::new()));
        control.locals.store(values, Ordering::Relaxed);
    }
    // SAFETY: not null, and freed by `end_task` only, when the task's closure has ended.
    unsafe { &*values }
}

/// Destroys the values of a task whose closure has ended. Called by the task; returns the payload of the first panic.
#[inline]
pub(crate) fn end_task(control: &Control) -> Option<Box<dyn Any + Send>> {
    // Relaxed: only the task itself touches it.
    let values = control.locals.load(Ordering::Relaxed);
    if values.is_null() { None } else { end_values(control, values) }
}

#[cold]
fn end_values(control: &Control, values: *mut Values) -> Option<Box<dyn Any + Send>> {
    // SAFETY: made by `of_task`, and used by this task only.
    let panic = unsafe { &*values }.end();
    control.locals.store(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: as above, and the task has forgotten it.
    drop(unsafe { Box::from_raw(values) });
    panic
}

/// Destroys the values when the thread ends. As in std, they are all out of reach then, and a panic aborts the process.
struct ThreadValues(Values);

impl Drop for ThreadValues {
    fn drop(&mut self) {
        if let Some(payload) = self.0.end() {
            std::panic::resume_unwind(payload);
        }
    }
}

/// Never inlined, like everything that touches a thread-local and may be called near a switch.
#[inline(never)]
fn with_thread_values<R>(body: impl FnOnce(&Values) -> R) -> Result<R, AccessError> {
    thread_local! {
        static THREAD: ThreadValues = const { ThreadValues(Values::new()) };
    }
    THREAD.try_with(|thread| body(&thread.0)).map_err(|_| AccessError)
}
