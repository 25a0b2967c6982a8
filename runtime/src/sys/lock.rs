//! The leaf locks of the parts that are model-checked: parking_lot's, or loom's when built with `--cfg loom`.

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(loom)]
pub(crate) use mock::Mutex;

use super::atomic::const_unless_loom;

/// A lock without a value and without a guard, for what is done in a fraction of a microsecond.
pub(crate) struct RawLock(imp::Raw);

#[cfg(not(loom))]
use real as imp;

#[cfg(loom)]
use mock as imp;

impl RawLock {
    const_unless_loom! {
        pub(crate) const fn new() -> Self {
            Self(imp::Raw::new())
        }
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
    use std::{
        hint,
        sync::atomic::{AtomicU8, Ordering},
        thread,
        time::Duration,
    };

    use crate::sys::errno;

    const FREE: u8 = 0;
    const HELD: u8 = 1;

    /// Who finds the lock held pauses 2^4 times before it looks again, then 2^5, and so on: with the 140 cycles that a pause takes on
    /// today's processors, from one microsecond to six. That is twenty times as long as the lock is held, on purpose: each look takes
    /// the cache line, and what it guards, away from who works there. Longer pauses let more through (`report --only scheduler`).
    const FIRST_PAUSE: u32 = 4;
    const LAST_PAUSE: u32 = 7;
    /// So often the processor is offered to others before the thread sleeps: the holder was interrupted, and is not next.
    const OFFERS: u32 = 20;
    const SHORTEST_NAP: Duration = Duration::from_micros(20);
    const LONGEST_NAP: Duration = Duration::from_millis(1);

    /// A lock that is unlocked by a store. One whose holder wakes those that sleep has to look for them while it unlocks, in
    /// one step, and such an instruction costs ten times a store: as much as all that is done while a channel is locked. So
    /// nobody is woken here; who has to wait looks again.
    pub(super) struct Raw(AtomicU8);

    impl Raw {
        pub(super) const fn new() -> Self {
            Self(AtomicU8::new(FREE))
        }

        #[inline]
        pub(super) fn lock(&self) {
            if !self.try_lock() {
                errno::preserved(|| self.wait()); // an instrument may lock while memory is allocated
            }
        }

        #[inline]
        fn try_lock(&self) -> bool {
            // Acquire: pairs with the Release in `unlock`.
            self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        #[cold]
        #[inline(never)]
        fn wait(&self) {
            let (mut offers, mut nap) = (0, SHORTEST_NAP);
            loop {
                for round in FIRST_PAUSE..=LAST_PAUSE {
                    (0..1 << round).for_each(|_| hint::spin_loop());
                    if self.0.load(Ordering::Relaxed) == FREE && self.try_lock() {
                        return;
                    }
                }
                if offers < OFFERS {
                    offers += 1;
                    thread::yield_now();
                } else {
                    thread::sleep(nap);
                    nap = (nap * 2).min(LONGEST_NAP);
                }
            }
        }

        /// # Safety
        /// As for [`super::RawLock::unlock`].
        #[inline]
        pub(super) unsafe fn unlock(&self) {
            // Release: pairs with the Acquire in `try_lock`.
            self.0.store(FREE, Ordering::Release);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::cell::UnsafeCell;

        struct Counter {
            lock: Raw,
            value: UnsafeCell<u64>,
        }

        // SAFETY: the value is used under the lock.
        unsafe impl Sync for Counter {}

        impl Counter {
            /// In two steps, with a pause between them now and then.
            fn add_one(&self, pauses: bool) {
                self.lock.lock();
                // SAFETY: the lock is held.
                let value = unsafe { &mut *self.value.get() };
                let before = *value;
                if pauses {
                    thread::sleep(Duration::from_millis(2));
                }
                *value = before + 1;
                // SAFETY: locked above.
                unsafe { self.lock.unlock() };
            }
        }

        #[test]
        fn holders_are_alone_also_when_one_sleeps_while_it_holds_the_lock() {
            let counter = Counter { lock: Raw::new(), value: UnsafeCell::new(0) };
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..5000).for_each(|round| counter.add_one(round % 1000 == 0)));
                }
            });
            assert_eq!(counter.value.into_inner(), 20_000);
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
