//! The condition variable: waits, with a lock released meanwhile, until somebody says that things have changed.
//!
//! A wait enters the queue before it releases the lock. So a notification that comes after the lock was released finds the
//! waiter, and whoever changes the condition under the lock and notifies then, or later, wakes it.
//!
//! A wait whose time is over leaves the queue under the core's lock. If it is not there any more, a notification has
//! chosen it already, and the wait counts as notified: a notification is never spent on somebody who has given up.
//!
//! The object contains a word as a handle does: everybody who reaches it can notify. There is no other word, for the
//! object is not cloned but shared, in an `Arc` or a `static`.

use std::{fmt, mem, ops::DerefMut, ptr, time::Duration};

use super::{
    broadcast::wake_all,
    core::{Body, Kind},
    handle::lazy::LazyHandle,
    mutex::{Mutex, MutexGuard},
    rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{
    sys::{atomic::const_unless_loom, clock},
    task::WaitReason,
};

/// Lets tasks and threads wait until a condition holds that a lock protects.
///
/// Waiters are notified first come, first served, and a wait ends only when it was notified or its time is over. Still
/// a wait belongs into a loop, or [`Condvar::wait_while`]: before the waiter has its lock again, somebody else may have
/// changed the condition back. Different waits may use different locks.
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
    /// How often all were notified at once. Their queue has been taken away then: who waits since an earlier round is
    /// in no queue that it may touch.
    rounds: u64,
}

impl Body for State {
    const KIND: Kind = Kind::Condvar;
}

impl Default for State {
    fn default() -> Self {
        Self { waiters: WaitQueue::new(), rounds: 0 }
    }
}

/// Whether a wait with a timeout has ended because its time was over.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::sync::{Condvar, Mutex};
///
/// let (jobs, changed) = (Mutex::new(Vec::<u32>::new()), Condvar::new());
/// let (jobs, result) = changed.wait_timeout(jobs.lock(), Duration::from_millis(1));
/// assert!(result.timed_out() && jobs.is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// `true` if the time was over, `false` if the waiter was notified.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// A guard that a [`Condvar`] can release and take again: those of [`Mutex`] and [`RwLock`].
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::sync::{Condvar, RwLock};
///
/// // Readers can wait for a change, too.
/// let (prices, changed) = (RwLock::new(0), Condvar::new());
/// let (prices, result) = changed.wait_timeout(prices.read(), Duration::from_millis(1));
/// assert!(*prices == 0 && result.timed_out());
/// ```
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
    ///
    /// ```
    /// use greenprof_runtime::{Runtime, spawn, sync::{Condvar, Mutex}};
    ///
    /// static READY: Mutex<bool> = Mutex::new(false);
    /// static CHANGED: Condvar = Condvar::new();
    ///
    /// Runtime::builder().workers(1).build()?.run(|| {
    ///     spawn(|| {
    ///         *READY.lock() = true;
    ///         CHANGED.notify_one();
    ///     });
    ///     let mut ready = READY.lock();
    ///     while !*ready {
    ///         ready = CHANGED.wait(ready);
    ///     }
    /// });
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
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
    ///
    /// ```
    /// use greenprof_runtime::{Runtime, spawn, sync::{Condvar, Mutex}};
    ///
    /// static JOBS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    /// static CHANGED: Condvar = Condvar::new();
    ///
    /// Runtime::builder().workers(1).build()?.run(|| {
    ///     spawn(|| {
    ///         JOBS.lock().push(7);
    ///         CHANGED.notify_one();
    ///     });
    ///     let mut jobs = CHANGED.wait_while(JOBS.lock(), |jobs| jobs.is_empty());
    ///     assert_eq!(jobs.pop(), Some(7));
    /// });
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
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

    /// Like [`Condvar::wait`], for `timeout` at the most. The lock is taken again in any case, and that wait has no
    /// timeout.
    ///
    /// A notification and the end of the time may come together: then one of them counts. A waiter that a notification
    /// has chosen says that it was notified, however late it is; one that says that its time was over was not chosen,
    /// and the notification went to the next or found nobody.
    ///
    /// On a task this arms a timer of its runtime. When the runtime has no time any more, because it is being dropped,
    /// the task is abandoned in this wait as in any other.
    #[track_caller]
    pub fn wait_timeout<G: WaitGuard>(&self, guard: G, timeout: Duration) -> (G, WaitTimeoutResult) {
        self.wait_until(guard, clock::after(timeout))
    }

    /// Waits as long as `condition` says so, for `timeout` at the most. The condition is asked with the lock held, for
    /// the first time before any wait and for the last time after the timeout: the result says that the time was over
    /// only if the condition was `true` even then.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::sync::{Condvar, Mutex};
    ///
    /// let (ready, changed) = (Mutex::new(false), Condvar::new());
    /// let (guard, result) = changed.wait_timeout_while(ready.lock(), Duration::from_millis(1), |ready| !*ready);
    /// assert!(!*guard && result.timed_out(), "nobody sets it");
    /// ```
    #[track_caller]
    pub fn wait_timeout_while<G>(
        &self,
        mut guard: G,
        timeout: Duration,
        mut condition: impl FnMut(&mut G::Target) -> bool,
    ) -> (G, WaitTimeoutResult)
    where
        G: WaitGuard + DerefMut,
    {
        let deadline = clock::after(timeout);
        loop {
            if !condition(&mut guard) {
                return (guard, WaitTimeoutResult(false));
            }
            if clock::now() >= deadline {
                return (guard, WaitTimeoutResult(true));
            }
            guard = self.wait_until(guard, deadline).0;
        }
    }

    #[track_caller]
    fn wait_until<G: WaitGuard>(&self, guard: G, deadline: u64) -> (G, WaitTimeoutResult) {
        let waiter = Waiter::new(ptr::null_mut());
        let mut state = self.handle.core().lock();
        let round = state.rounds;
        // SAFETY: the waiter stays here until it is finished or withdrawn: nothing between here and the wait panics.
        unsafe { state.waiters.push_back(&waiter) };
        drop(state);
        let lock = guard.release();
        let outcome = waiter.wait_until(WaitReason::CondvarWait, deadline, &|| {
            let mut state = self.handle.core().lock();
            state.rounds == round && state.waiters.remove(&waiter)
        });
        (G::take(lock), WaitTimeoutResult(outcome.is_none()))
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
    ///
    /// ```
    /// use greenprof_runtime::{Runtime, sync::{Condvar, Mutex}, task};
    ///
    /// static OPEN: Mutex<bool> = Mutex::new(false);
    /// static CHANGED: Condvar = Condvar::new();
    ///
    /// Runtime::builder().workers(2).build()?.run(|| {
    ///     task::scope(|scope| {
    ///         for _ in 0..3 {
    ///             scope.spawn(|| assert!(*CHANGED.wait_while(OPEN.lock(), |open| !*open)));
    ///         }
    ///         *OPEN.lock() = true;
    ///         CHANGED.notify_all();
    ///     });
    /// });
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    pub fn notify_all(&self) {
        let Some(core) = self.handle.existing() else { return };
        let mut state = core.lock();
        state.rounds += 1;
        let waiters = mem::replace(&mut state.waiters, WaitQueue::new());
        drop(state);
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
