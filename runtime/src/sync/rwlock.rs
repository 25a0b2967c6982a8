//! The reader-writer lock with guards.
//!
//! Who gets the lock, and when, is told in `lock/shared.rs`. Memory for the state is taken on the first use, which is what
//! lets `new` be `const`.
//!
//! # The words of guards
//!
//! There is one writer's guard at a time, and its word is like that of a [`super::Mutex`]'s. Readers' guards exist
//! several at once and end in any order, so a generation cannot tell the live ones. Their words have tags from the
//! core's table instead, which a lock that is no handle does not need otherwise: a guard's tag is allocated after the
//! lock is taken and freed after it is released, and a guard that is used at another address than before takes a fresh
//! one, by the handles' protocol; a first use near where the guard was made takes none. That costs a reader two atomic
//! instructions more; the first dozen readers of a lock need no memory for it.

use std::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use super::{
    core::{Body, Core, Kind, LazyCore},
    handle::{
        exclusive::{Exclusive, ExclusiveWord, Generations},
        tagged::Tagged,
        word::Word,
    },
    lock::SharedLock,
};
use crate::sys::atomic::const_unless_loom;

/// A lock around a value that many may read at once, or one may write.
///
/// Waiting parks the task; on a plain OS thread it blocks the thread. A panic while the lock is held does not poison it.
///
/// A writer that waits keeps new readers out. So a task that holds the lock for reading and wants it for reading once
/// more deadlocks if a writer comes in between. Readers and writers take turns: when a writer unlocks, all readers that
/// wait are let in, then the next writer. Among writers the lock goes to who came first, and nobody overtakes.
///
/// A task that waits for its turn to write shows `sync.RWMutex.Lock`, whether it waits for readers or for another writer. (Go
/// shows the lock inside its lock in the latter case.)
///
/// ```
/// use greenprof_runtime::sync::RwLock;
///
/// static PRICES: RwLock<Vec<u32>> = RwLock::new(Vec::new());
///
/// PRICES.write().push(12);
/// let (first, second) = (PRICES.read(), PRICES.read());
/// assert_eq!(first.len() + second.len(), 2);
/// assert!(PRICES.try_write().is_none());
/// ```
pub struct RwLock<T: ?Sized> {
    core: LazyCore<State>,
    value: UnsafeCell<T>,
}

// SAFETY: the lock moves with its value.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: the lock gives threads shared access to the value, or one of them exclusive access.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

#[derive(Default)]
pub(super) struct State {
    lock: SharedLock,
    /// Of the writers' guards.
    generations: Generations,
}

impl State {
    pub(super) fn lock(&self) -> &SharedLock {
        &self.lock
    }
}

impl Body for State {
    const KIND: Kind = Kind::RwLock;
}

impl Exclusive for State {
    fn generations(&self) -> &Generations {
        &self.generations
    }

    fn is_held(&self) -> bool {
        self.lock.has_writer()
    }
}

impl<T> RwLock<T> {
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

impl<T: ?Sized> RwLock<T> {
    #[inline]
    #[track_caller]
    fn state(&self) -> (u32, &'static Core, &State) {
        let (index, core) = self.core.get();
        // SAFETY: the core of a reader-writer lock holds a State, which is shared through atomics and the core's lock.
        (index, core, unsafe { &*core.body::<State>() })
    }

    /// Waits until no writer holds the lock or waits for it, and takes it for reading.
    ///
    /// ```
    /// use greenprof_runtime::sync::RwLock;
    ///
    /// let prices = RwLock::new([12, 30]);
    /// let (one, other) = (prices.read(), prices.read());
    /// assert_eq!(one[0] + other[1], 42);
    /// ```
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let (index, core, state) = self.state();
        state.lock.read(core);
        RwLockReadGuard::new(self, index, core)
    }

    /// Takes the lock for reading if no writer holds it or waits for it.
    ///
    /// ```
    /// use greenprof_runtime::sync::RwLock;
    ///
    /// let price = RwLock::new(12);
    /// let writer = price.write();
    /// assert!(price.try_read().is_none());
    /// drop(writer);
    /// assert_eq!(price.try_read().as_deref(), Some(&12));
    /// ```
    #[track_caller]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let (index, core, state) = self.state();
        state.lock.try_read().then(|| RwLockReadGuard::new(self, index, core))
    }

    /// Waits until nobody holds the lock, and takes it for writing.
    ///
    /// ```
    /// use greenprof_runtime::sync::RwLock;
    ///
    /// let price = RwLock::new(12);
    /// *price.write() += 1;
    /// assert_eq!(price.into_inner(), 13);
    /// ```
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let (index, core, state) = self.state();
        state.lock.write(core);
        RwLockWriteGuard::new(self, index, state)
    }

    /// Takes the lock for writing if it is free.
    #[track_caller]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let (index, _, state) = self.state();
        state.lock.try_write().then(|| RwLockWriteGuard::new(self, index, state))
    }

    /// The value, without locking: there is no other reference.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Holds a [`RwLock`] for reading; dropping it unlocks. It may be dropped by another task or thread than the one that
/// locked.
///
/// ```
/// use greenprof_runtime::sync::RwLock;
///
/// let names = RwLock::new(vec!["a", "b"]);
/// let guard = names.read();
/// assert_eq!(guard.len(), 2);
/// assert!(names.try_read().is_some() && names.try_write().is_none());
/// ```
#[must_use = "dropping the guard unlocks at once"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    word: Tagged,
    value: PhantomData<&'a T>,
}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    #[inline]
    fn new(lock: &'a RwLock<T>, index: u32, core: &Core) -> Self {
        Self { lock, word: Tagged::new(Word::new(index, core.tags.allocate()), core), value: PhantomData }
    }

    /// The lock that it holds.
    pub(super) fn rwlock(&self) -> &'a RwLock<T> {
        self.lock
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.word.touch_early();
        // SAFETY: the lock is held for reading.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        let (word, core) = self.word.end_at().expect("a guard has a core");
        // SAFETY: the guard's core is that of a reader-writer lock.
        let state = unsafe { &*core.body::<State>() };
        let held = state.lock.unlock_read(core);
        debug_assert!(held, "a guard holds its lock");
        // Last, so that the lock is never held by nobody. The guard borrows the lock, so its core is still there.
        core.tags.release(word.tag());
    }
}

/// Holds a [`RwLock`] for writing; dropping it unlocks. It may be dropped by another task or thread than the one that
/// locked.
///
/// ```
/// use greenprof_runtime::sync::RwLock;
///
/// let names = RwLock::new(vec!["a"]);
/// let mut guard = names.write();
/// guard.push("b");
/// assert!(names.try_read().is_none());
/// drop(guard);
/// assert_eq!(names.read().concat(), "ab");
/// ```
#[must_use = "dropping the guard unlocks at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    word: ExclusiveWord<State>,
    value: PhantomData<&'a mut T>,
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    #[inline]
    fn new(lock: &'a RwLock<T>, index: u32, state: &State) -> Self {
        Self { lock, word: ExclusiveWord::new(index, &state.generations), value: PhantomData }
    }

    /// The lock that it holds.
    pub(super) fn rwlock(&self) -> &'a RwLock<T> {
        self.lock
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.word.touch();
        // SAFETY: the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.word.touch_mut();
        // SAFETY: the lock is held, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        let core = self.word.end();
        // SAFETY: the guard's core is that of a reader-writer lock.
        let state = unsafe { &*core.body::<State>() };
        let held = state.lock.unlock_write(core);
        debug_assert!(held, "a guard holds its lock");
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("RwLock");
        match self.try_read() {
            Some(guard) => text.field("value", &&*guard).finish(),
            None => text.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{core, live_words};

    fn live(bits: u64) -> bool {
        live_words().contains(&bits)
    }

    #[test]
    fn the_words_of_read_guards_live_as_long_as_they() {
        let lock = RwLock::new(5);
        let guards: Vec<_> = (0..40).map(|_| lock.read()).collect();
        let words: Vec<_> = guards.iter().map(|guard| guard.word.word().bits()).collect();
        let mut distinct = words.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), words.len());
        let now = live_words();
        assert!(words.iter().all(|word| now.contains(word)));
        assert!(guards.iter().all(|guard| **guard == 5)); // moved into the vector: retagged
        let now = live_words();
        assert!(guards.iter().all(|guard| now.contains(&guard.word.word().bits())));
        assert!(words.iter().all(|word| !now.contains(word)), "the copies left behind are dead");
        drop(guards);
        assert_eq!(core::core(Word::from_bits(words[0]).index()).tags.count(), 0);
        assert!(lock.try_write().is_some());
    }

    #[test]
    fn the_word_of_a_write_guard_is_its_own() {
        let lock = RwLock::new(5);
        drop(lock.read());
        let mut guard = lock.write();
        let word = guard.word.bits();
        assert!(live(word));
        let mut moved = Box::new({
            *guard += 1;
            guard
        });
        **moved += 1;
        assert!(!live(word) && live(moved.word.bits()));
        let word = moved.word.bits();
        drop(moved);
        assert!(!live(word));
        let reader = lock.read();
        assert_eq!(*reader, 7);
        assert!(!live(word) && live(reader.word.word().bits()));
    }

    #[test]
    fn one_read_guard_used_by_several_threads_has_one_word() {
        for _ in 0..200 {
            let lock = RwLock::new(5);
            let guard = Box::new(lock.read());
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| assert_eq!(**guard, 5));
                }
            });
            let word = guard.word.word();
            let core = core::core(word.index());
            assert!(core.tags.is_live(word.tag()));
            assert_eq!(core.tags.count(), 1);
        }
    }
}
