//! The leaf locks of the parts that are model-checked: parking_lot's, or loom's when built with `--cfg loom`.

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(loom)]
pub(crate) use mock::Mutex;

/// A lock without a value and without a guard.
pub(crate) struct RawLock(imp::Raw);

#[cfg(not(loom))]
use real as imp;

#[cfg(loom)]
use mock as imp;

impl RawLock {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(imp::Raw::new())
    }

    #[inline]
    pub(crate) fn lock(&self) {
        self.0.lock();
    }

    /// # Safety
    /// The caller must hold the lock.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.unlock() };
    }
}

#[cfg(not(loom))]
mod real {
    use parking_lot::{
        RawMutex,
        lock_api::{GuardNoSend, RawMutex as _},
    };

    pub(super) struct Raw(RawMutex);

    impl Raw {
        #[inline]
        pub(super) fn new() -> Self {
            Self(RawMutex::INIT)
        }

        #[inline]
        pub(super) fn lock(&self) {
            let GuardNoSend { .. } = self.0.lock();
        }

        /// # Safety
        /// As for [`super::RawLock::unlock`].
        #[inline]
        pub(super) unsafe fn unlock(&self) {
            // SAFETY: the caller's promise.
            unsafe { self.0.unlock(GuardNoSend::new()) };
        }
    }
}

#[cfg(loom)]
mod mock {
    use std::{cell::UnsafeCell, mem};

    use loom::sync::{Mutex as LoomMutex, MutexGuard};

    /// With parking_lot's names and results.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(LoomMutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(LoomMutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    pub(super) struct Raw {
        lock: LoomMutex<()>,
        /// Of who holds the lock, and guarded by it. It borrows from the field above.
        guard: UnsafeCell<Option<MutexGuard<'static, ()>>>,
    }

    impl Raw {
        pub(super) fn new() -> Self {
            Self { lock: LoomMutex::new(()), guard: UnsafeCell::new(None) }
        }

        pub(super) fn lock(&self) {
            let guard = self.lock.lock().unwrap();
            // SAFETY: the lock is held, so the cell is ours. The guard is dropped by `unlock`, before which nobody moves or
            // drops a lock that somebody holds.
            unsafe { *self.guard.get() = Some(mem::transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard)) };
        }

        /// # Safety
        /// As for [`super::RawLock::unlock`].
        pub(super) unsafe fn unlock(&self) {
            // SAFETY: the caller holds the lock, so the cell is its own. Taken out before it is dropped: then another
            // thread may be in `lock`.
            let guard = unsafe { (*self.guard.get()).take() };
            drop(guard);
        }
    }
}
