//! Locks as Go has them: without guards and values, and whoever reaches one may unlock it.
//!
//! They stand on the same states as [`super::Mutex`] and [`super::RwLock`]. What differs is who can wake a waiter: not the
//! owner of a guard, but everybody who reaches the lock. So a raw lock contains a word as a handle does, and has no
//! other.

use std::fmt;

use super::{
    core::{Body, Core, Kind},
    handle::lazy::LazyHandle,
    lock::{ExclusiveLock, SharedLock},
};
use crate::sys::atomic::const_unless_loom;

/// A mutual exclusion lock without a guard, for code that unlocks elsewhere than where it has locked.
///
/// Prefer [`super::Mutex`]. The order among waiters is the same.
///
/// ```
/// use greenprof_runtime::sync::RawMutex;
///
/// static TURN: RawMutex = RawMutex::new();
///
/// TURN.lock();
/// std::thread::spawn(|| TURN.unlock()).join().unwrap();
/// assert!(TURN.try_lock());
/// ```
pub struct RawMutex {
    handle: LazyHandle<Mutual>,
}

// SAFETY: the state is shared through atomics and the core's lock.
unsafe impl Send for RawMutex {}
// SAFETY: as above.
unsafe impl Sync for RawMutex {}

#[derive(Default)]
pub(super) struct Mutual(ExclusiveLock);

impl Mutual {
    pub(super) fn lock(&self) -> &ExclusiveLock {
        &self.0
    }
}

impl Body for Mutual {
    const KIND: Kind = Kind::RawMutex;
}

impl RawMutex {
    const_unless_loom! {
        /// An unlocked lock.
        pub const fn new() -> Self {
            Self { handle: LazyHandle::new() }
        }
    }

    #[inline]
    #[track_caller]
    fn state(&self) -> (&Core, &Mutual) {
        // SAFETY: the state guards itself, and nobody locks the core as a whole.
        unsafe { self.handle.core().shared() }
    }

    /// Waits for the lock and takes it.
    #[inline]
    #[track_caller]
    pub fn lock(&self) {
        let (core, state) = self.state();
        state.0.lock(core);
    }

    /// Takes the lock if it is free. Returns whether it was.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> bool {
        self.state().1.0.try_lock()
    }

    /// Unlocks. Any task or thread may do so.
    ///
    /// # Panics
    /// If the lock is not locked.
    #[inline]
    #[track_caller]
    pub fn unlock(&self) {
        let (core, state) = self.state();
        assert!(state.0.unlock(core), "a RawMutex that is not locked was unlocked");
    }

    fn is_locked(&self) -> bool {
        // SAFETY: as in `state`.
        self.handle.existing().is_some_and(|core| unsafe { core.shared() }.1.0.is_locked())
    }
}

/// A reader-writer lock without guards, for code that unlocks elsewhere than where it has locked.
///
/// Prefer [`super::RwLock`]. The order among waiters is the same.
///
/// ```
/// use greenprof_runtime::sync::RawRwLock;
///
/// static LOCK: RawRwLock = RawRwLock::new();
///
/// LOCK.read_lock();
/// assert!(LOCK.try_read_lock() && !LOCK.try_write_lock());
/// for _ in 0..2 {
///     std::thread::spawn(|| LOCK.read_unlock()).join().unwrap();
/// }
/// assert!(LOCK.try_write_lock());
/// LOCK.write_unlock();
/// ```
pub struct RawRwLock {
    handle: LazyHandle<ReadWrite>,
}

// SAFETY: the state is shared through atomics and the core's lock.
unsafe impl Send for RawRwLock {}
// SAFETY: as above.
unsafe impl Sync for RawRwLock {}

#[derive(Default)]
pub(super) struct ReadWrite(SharedLock);

impl ReadWrite {
    pub(super) fn lock(&self) -> &SharedLock {
        &self.0
    }
}

impl Body for ReadWrite {
    const KIND: Kind = Kind::RawRwLock;
}

impl RawRwLock {
    const_unless_loom! {
        /// An unlocked lock.
        pub const fn new() -> Self {
            Self { handle: LazyHandle::new() }
        }
    }

    #[inline]
    #[track_caller]
    fn state(&self) -> (&Core, &ReadWrite) {
        // SAFETY: the state guards itself, and nobody locks the core as a whole.
        unsafe { self.handle.core().shared() }
    }

    /// Waits until no writer holds the lock or waits for it, and takes it for reading.
    #[inline]
    #[track_caller]
    pub fn read_lock(&self) {
        let (core, state) = self.state();
        state.0.read(core);
    }

    /// Takes the lock for reading if no writer holds it or waits for it. Returns whether it did.
    #[inline]
    #[track_caller]
    pub fn try_read_lock(&self) -> bool {
        self.state().1.0.try_read()
    }

    /// Ends one reader's hold. Any task or thread may do so.
    ///
    /// # Panics
    /// If the lock is not locked for reading.
    #[inline]
    #[track_caller]
    pub fn read_unlock(&self) {
        let (core, state) = self.state();
        assert!(state.0.unlock_read(core), "a RawRwLock that is not locked for reading was unlocked by a reader");
    }

    /// Waits until nobody holds the lock, and takes it for writing.
    #[inline]
    #[track_caller]
    pub fn write_lock(&self) {
        let (core, state) = self.state();
        state.0.write(core);
    }

    /// Takes the lock for writing if it is free. Returns whether it was.
    #[inline]
    #[track_caller]
    pub fn try_write_lock(&self) -> bool {
        self.state().1.0.try_write()
    }

    /// Ends the writer's hold. Any task or thread may do so.
    ///
    /// # Panics
    /// If the lock is not locked for writing.
    #[inline]
    #[track_caller]
    pub fn write_unlock(&self) {
        let (core, state) = self.state();
        assert!(state.0.unlock_write(core), "a RawRwLock that is not locked for writing was unlocked by a writer");
    }
}

impl Default for RawMutex {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for RawRwLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RawMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMutex").field("locked", &self.is_locked()).finish()
    }
}

impl fmt::Debug for RawRwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: as in `state`.
        let holders = self.handle.existing().map(|core| unsafe { core.shared() }.1.0.holders());
        let (readers, writer) = holders.unwrap_or_default();
        f.debug_struct("RawRwLock").field("readers", &readers).field("writer", &writer).finish()
    }
}
