//! The condition variable: waits, with a lock released meanwhile, until somebody says that things have changed.
//!
//! A wait enters the queue before it releases the lock. So a notification that comes after the lock was released finds the
//! waiter, and whoever changes the condition under the lock and notifies then, or later, wakes it.
//!
//! The object contains a word as a handle does: everybody who reaches it can notify. There is no other word, for the
//! object is not cloned but shared, in an `Arc` or a `static`.

use std::{fmt, mem, ops::DerefMut, ptr};

use super::{
    broadcast::wake_all,
    core::{Body, Kind},
    handle::lazy::LazyHandle,
    mutex::{Mutex, MutexGuard},
    rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{sys::atomic::const_unless_loom, task::WaitReason};

/// Lets tasks and threads wait until a condition holds that a lock protects.
///
/// Waiters are notified first come, first served, and a wait ends only when it was notified. Still a wait belongs into a
/// loop, or [`Condvar::wait_while`]: before the waiter has its lock again, somebody else may have changed the
/// condition back. Different waits may use different locks.
///
/// ```
/// use std::sync::Arc;
/// use greenprof_runtime::{Runtime, spawn, sync::{Condvar, Mutex}};
///
/// Runtime::builder().workers(2).build()?.run(|| {
///     let ready = Arc::new((Mutex::new(false), Condvar::new()));
///     let setter = ready.clone();
///     spawn(move || {
///         *setter.0.lock() = true;
///         setter.1.notify_one();
///     });
///     let guard = ready.1.wait_while(ready.0.lock(), |ready| !*ready);
///     assert!(*guard);
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub struct Condvar {
    handle: LazyHandle<State>,
}

// SAFETY: the state is only reached through the core's lock.
unsafe impl Send for Condvar {}
// SAFETY: as above.
unsafe impl Sync for Condvar {}

/// Guarded by the core's lock.
struct State {
    waiters: WaitQueue,
}

impl Body for State {
    const KIND: Kind = Kind::Condvar;
}

impl Default for State {
    fn default() -> Self {
        Self { waiters: WaitQueue::new() }
    }
}

/// A guard that a [`Condvar`] can release and take again: those of [`Mutex`] and [`RwLock`].
pub trait WaitGuard: sealed::Relock {}

impl<T: ?Sized> WaitGuard for MutexGuard<'_, T> {}
impl<T: ?Sized> WaitGuard for RwLockReadGuard<'_, T> {}
impl<T: ?Sized> WaitGuard for RwLockWriteGuard<'_, T> {}

mod sealed {
    pub trait Relock: Sized {
        type Lock;
        /// Unlocks. It must not panic.
        fn release(self) -> Self::Lock;
        fn take(lock: Self::Lock) -> Self;
    }
}

impl<'a, T: ?Sized> sealed::Relock for MutexGuard<'a, T> {
    type Lock = &'a Mutex<T>;

    fn release(self) -> Self::Lock {
        self.mutex()
    }

    #[track_caller]
    fn take(lock: Self::Lock) -> Self {
        lock.lock()
    }
}

impl<'a, T: ?Sized> sealed::Relock for RwLockReadGuard<'a, T> {
    type Lock = &'a RwLock<T>;

    fn release(self) -> Self::Lock {
        self.rwlock()
    }

    #[track_caller]
    fn take(lock: Self::Lock) -> Self {
        lock.read()
    }
}

impl<'a, T: ?Sized> sealed::Relock for RwLockWriteGuard<'a, T> {
    type Lock = &'a RwLock<T>;

    fn release(self) -> Self::Lock {
        self.rwlock()
    }

    #[track_caller]
    fn take(lock: Self::Lock) -> Self {
        lock.write()
    }
}

impl Condvar {
    const_unless_loom! {
        /// A condition variable that nobody waits on.
        pub const fn new() -> Self {
            Self { handle: LazyHandle::new() }
        }
    }

    /// Releases the guard's lock, waits to be notified, and takes the lock again.
    #[track_caller]
    pub fn wait<G: WaitGuard>(&self, guard: G) -> G {
        let waiter = Waiter::new(ptr::null_mut());
        // SAFETY: the waiter stays here until it is finished: nothing between here and the wait panics.
        unsafe { self.handle.core().lock().waiters.push_back(&waiter) };
        let lock = guard.release();
        waiter.wait(WaitReason::CondvarWait);
        G::take(lock)
    }

    /// Waits as long as `condition` says so. It is asked with the lock held, for the first time before any wait.
    #[track_caller]
    pub fn wait_while<G>(&self, mut guard: G, mut condition: impl FnMut(&mut G::Target) -> bool) -> G
    where
        G: WaitGuard + DerefMut,
    {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// Wakes the one that has waited longest, if somebody waits. The lock may be held or not.
    pub fn notify_one(&self) {
        let Some(core) = self.handle.existing() else { return };
        let mut state = core.lock();
        // SAFETY: taken from its queue just now.
        let parker = state.waiters.pop_front().map(|waiter| unsafe { waiter::finish(waiter, Outcome::Done) });
        drop(state);
        if let Some(parker) = parker {
            parker.unpark();
        }
    }

    /// Wakes all who wait. The lock may be held or not.
    pub fn notify_all(&self) {
        let Some(core) = self.handle.existing() else { return };
        let waiters = mem::replace(&mut core.lock().waiters, WaitQueue::new());
        wake_all(waiters);
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
