//! A lock for instruments.

use std::{
    cell::UnsafeCell,
    fmt,
    ops::{Deref, DerefMut},
};

use crate::sys::{atomic::const_unless_loom, lock::RawLock};

/// A lock around what an instrument adds up, for a fraction of a microsecond at a time.
///
/// An instrument is called in the middle of the scheduler and of the allocator, and on threads that are about to end. This lock
/// may be taken there: it does not allocate, keeps nothing in thread-locals, and does not wait on the scheduler. Who finds it held
/// spins, then yields the processor, then sleeps for moments; nobody is woken, so it is no lock for what takes long. It costs one
/// locked instruction, since unlocking is a store: half of what other locks cost. It does not know of panics, is held for ever in
/// a forked child if another thread held it, and a thread that takes it twice waits for itself.
///
/// ```
/// use greenprof_runtime::hooks::Lock;
///
/// static TIMES: Lock<Vec<u64>> = Lock::new(Vec::new());
///
/// TIMES.lock().push(17);
/// assert_eq!(TIMES.lock().len(), 1);
/// ```
pub struct Lock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives one thread at a time access to the value.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    const_unless_loom! {
        /// An unlocked lock.
        pub const fn new(value: T) -> Self {
            Self { raw: RawLock::new(), value: UnsafeCell::new(value) }
        }
    }

    /// Takes the lock, until the guard is dropped.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_, T> {
        self.raw.lock();
        LockGuard(self)
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// The right to use what is in a [`Lock`].
#[must_use = "dropping it unlocks"]
pub struct LockGuard<'a, T>(&'a Lock<T>);

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and this guard is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: locked when the guard was made.
        unsafe { self.0.raw.unlock() };
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{panic, thread};

    #[test]
    fn one_at_a_time_and_open_again_after_a_panic() {
        let sum = Lock::new(0_u64);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *sum.lock() += 1));
            }
        });
        let in_vain = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            let _held = sum.lock();
            panic::resume_unwind(Box::new("with the lock held"));
        }));
        assert!(in_vain.is_err());
        assert_eq!(*sum.lock(), 40_000);
    }
}
