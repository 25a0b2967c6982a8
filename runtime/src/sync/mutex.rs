//! The mutual exclusion lock with a guard.
//!
//! Who gets the lock, and when, is told in `lock/exclusive.rs`. Memory for the state is taken on the first lock, which is
//! what lets `new` be `const`.

use std::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use super::{
    core::{Body, Kind, LazyCore},
    handle::exclusive::{Exclusive, ExclusiveWord, Generations},
    lock::ExclusiveLock,
};
use crate::sys::atomic::const_unless_loom;

/// A lock around a value. Waiting parks the task; on a plain OS thread it blocks the thread.
///
/// A panic while the lock is held does not poison it. Waiters get the lock in the order of their coming, but a task that
/// is running may overtake those that have waited for less than a millisecond.
///
/// ```
/// use greenprof_runtime::{Runtime, sync::Mutex, task};
///
/// static TOTAL: Mutex<u32> = Mutex::new(0);
///
/// Runtime::builder().workers(2).build()?.run(|| {
///     task::scope(|scope| {
///         for n in 1..=10 {
///             scope.spawn(move || *TOTAL.lock() += n);
///         }
///     });
/// });
/// assert_eq!(*TOTAL.lock(), 55);
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub struct Mutex<T: ?Sized> {
    core: LazyCore<State>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives one thread at a time access to the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

#[derive(Default)]
pub(super) struct State {
    lock: ExclusiveLock,
    generations: Generations,
}

impl State {
    pub(super) fn lock(&self) -> &ExclusiveLock {
        &self.lock
    }
}

impl Body for State {
    const KIND: Kind = Kind::Mutex;
}

impl Exclusive for State {
    fn generations(&self) -> &Generations {
        &self.generations
    }

    fn is_held(&self) -> bool {
        self.lock.is_locked()
    }
}

impl<T> Mutex<T> {
    const_unless_loom! {
        /// An unlocked lock.
        pub const fn new(value: T) -> Self {
            Self { core: LazyCore::new(), value: UnsafeCell::new(value) }
        }
    }

    /// Takes the value out. No lock is needed: there is no other reference.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock and takes it.
    ///
    /// ```
    /// use greenprof_runtime::sync::Mutex;
    ///
    /// let names = Mutex::new(Vec::new());
    /// names.lock().push("a"); // the guard ends with the statement
    /// assert_eq!(names.lock().len(), 1);
    /// ```
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let (index, core) = self.core.get();
        // SAFETY: the core of a mutex holds a State, which is shared through atomics and the core's lock.
        let state = unsafe { &*core.body::<State>() };
        state.lock.lock(core);
        MutexGuard::new(self, index, state)
    }

    /// Takes the lock if it is free.
    ///
    /// ```
    /// use greenprof_runtime::sync::Mutex;
    ///
    /// let count = Mutex::new(0);
    /// let guard = count.lock();
    /// assert!(count.try_lock().is_none());
    /// drop(guard);
    /// *count.try_lock().expect("nobody holds it") += 1;
    /// assert_eq!(count.into_inner(), 1);
    /// ```
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let (index, core) = self.core.get();
        // SAFETY: as in `lock`.
        let state = unsafe { &*core.body::<State>() };
        state.lock.try_lock().then(|| MutexGuard::new(self, index, state))
    }

    /// The value, without locking: there is no other reference.
    ///
    /// ```
    /// use greenprof_runtime::sync::Mutex;
    ///
    /// let mut count = Mutex::new(0);
    /// *count.get_mut() += 1;
    /// assert_eq!(count.into_inner(), 1);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Holds a [`Mutex`]; dropping it unlocks. It may be dropped by another task or thread than the one that locked.
///
/// A guard is a word like a handle (see the module `handle` of this crate's source): the core's index and the lock's
/// generation, which changes when the guard is used at another address than before, or for the first time far from
/// where it was made.
///
/// ```
/// use greenprof_runtime::sync::{Mutex, MutexGuard};
///
/// fn add(mut total: MutexGuard<'_, u32>) {
///     *total += 1;
/// }
///
/// let total = Mutex::new(41);
/// add(total.lock());
/// assert_eq!(*total.lock(), 42);
/// ```
#[must_use = "dropping the guard unlocks at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    word: ExclusiveWord<State>,
    value: PhantomData<&'a mut T>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    #[inline]
    fn new(lock: &'a Mutex<T>, index: u32, state: &State) -> Self {
        Self { lock, word: ExclusiveWord::new(index, &state.generations), value: PhantomData }
    }

    /// The lock that it holds.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.lock
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.word.touch();
        // SAFETY: the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.word.touch_mut();
        // SAFETY: the lock is held, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let core = self.word.end();
        // SAFETY: the guard's core is that of a mutex.
        let state = unsafe { &*core.body::<State>() };
        // SAFETY: the guard holds the lock, and ends here.
        unsafe { state.lock.unlock_held(core) };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(guard) => text.field("value", &&*guard).finish(),
            None => text.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}
