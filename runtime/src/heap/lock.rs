//! The lock of the allocator, and of what is held across a fork: one word, spinning briefly, then a futex.
//!
//! The locks of parking_lot and std cannot serve here: they may allocate when they are contended, or keep state in
//! thread-locals with destructors. The three states are Drepper's ("Futexes are tricky", mutex 2).

use std::{
    cell::UnsafeCell,
    hint,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::sys::{errno, futex};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep.
const CONTENDED: u32 = 2;

/// Looks at the word before sleeping. What is done under these locks takes a fraction of a microsecond.
const SPINS: u32 = 100;

/// The lock without what it guards.
pub(crate) struct RawLock(AtomicU32);

impl RawLock {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        // Acquire: pairs with the Release in `unlock`.
        self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) {
        for _ in 0..SPINS {
            hint::spin_loop();
            if self.0.load(Ordering::Relaxed) == FREE && self.try_lock() {
                return;
            }
        }
        errno::preserved(|| {
            // Acquire: as in `try_lock`.
            while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
                futex::wait(&self.0, CONTENDED, None);
            }
        });
    }

    /// Only the holder may call it.
    #[inline]
    pub(crate) fn unlock(&self) {
        // Release: pairs with the Acquire of whoever locks next.
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            futex::wake_one(&self.0);
        }
    }
}

/// A value and the lock that guards it.
pub(crate) struct Locked<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, by one thread at a time.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { raw: RawLock::new(), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.raw.lock();
        Guard(self)
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.raw.try_lock().then(|| Guard(self))
    }

    /// The lock alone, for holding it across a fork.
    pub(crate) fn raw(&self) -> &RawLock {
        &self.raw
    }
}

pub(crate) struct Guard<'a, T>(&'a Locked<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, and it is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.raw.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_at_a_time() {
        static COUNT: Locked<u64> = Locked::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        *COUNT.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*COUNT.lock(), 80_000);
        let held = COUNT.try_lock();
        assert!(held.is_some() && COUNT.try_lock().is_none());
    }
}
