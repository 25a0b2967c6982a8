//! The state of a mutual exclusion lock.
//!
//! A word says whether the lock is held, whether somebody waits, and whether somebody who waited has been woken to try
//! again:
//!
//! - An unlock with waiters frees the lock and wakes the first of them. A running task may take the lock before it: that
//!   saves a switch for each time the lock changes hands. Only one woken waiter is under way at a time, and if it finds
//!   the lock taken it queues in front.
//! - A waiter that has waited for a millisecond is given the lock directly, so nobody starves. Go's mutex does the same.
//!
//! LOCKED may change at any time; QUEUED and WOKEN change only while the core's lock is held.

use std::cell::UnsafeCell;

use super::super::{
    core::Core,
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{
    sys::{
        atomic::{AtomicU32, Ordering},
        clock,
    },
    task::WaitReason,
};

const LOCKED: u32 = 1;
/// Somebody is in the queue.
const QUEUED: u32 = 2;
/// A waiter has been taken from the queue and told to try again.
const WOKEN: u32 = 4;

/// Nanoseconds after which a waiter is given the lock.
const STARVATION: u64 = 1_000_000;

/// Looks at the lock before a waiter queues: about as long as a short critical section.
const SPINS: u32 = if cfg!(loom) { 1 } else { 30 };

pub(in crate::sync) struct ExclusiveLock {
    word: AtomicU32,
    /// Guarded by the core's lock.
    queue: UnsafeCell<WaitQueue>,
}

impl Default for ExclusiveLock {
    fn default() -> Self {
        Self { word: AtomicU32::new(0), queue: UnsafeCell::new(WaitQueue::new()) }
    }
}

impl ExclusiveLock {
    pub(in crate::sync) fn is_locked(&self) -> bool {
        // Acquire: pairs with the Release in `unlock`.
        self.word.load(Ordering::Acquire) & LOCKED != 0
    }

    /// Whether it is free, and nobody waits or has been woken.
    #[cfg(all(test, loom))]
    pub(super) fn is_unused(&self) -> bool {
        self.word.load(Ordering::Relaxed) == 0
    }

    #[inline]
    pub(in crate::sync) fn lock(&self, core: &Core) {
        // Acquire: pairs with the Release in `unlock`.
        if self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow(core);
        }
    }

    #[inline]
    pub(in crate::sync) fn try_lock(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        // Acquire: pairs with the Release in `unlock`.
        word & LOCKED == 0
            && self.word.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn lock_slow(&self, core: &Core) {
        for _ in 0..SPINS {
            if self.try_lock() {
                return;
            }
            if self.word.load(Ordering::Relaxed) & QUEUED != 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let waiter = Waiter::since_now();
        let mut woken = false;
        loop {
            if self.acquire_or_queue(core, &waiter, woken) || waiter.wait(WaitReason::MutexLock) == Outcome::Done {
                return;
            }
            waiter.reset();
            woken = true;
        }
    }

    /// Takes the lock, or enters the queue: at its end, or in front if the waiter was woken from there.
    fn acquire_or_queue(&self, core: &Core, waiter: &Waiter, woken: bool) -> bool {
        core.lock();
        let mut word = self.word.load(Ordering::Relaxed);
        let acquired = loop {
            let wanted = if word & LOCKED == 0 { word | LOCKED } else { word | QUEUED };
            let wanted = if woken { wanted & !WOKEN } else { wanted };
            // Acquire: pairs with the Release in `unlock`.
            match self.word.compare_exchange_weak(word, wanted, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break word & LOCKED == 0,
                Err(now) => word = now,
            }
        };
        // SAFETY: the core's lock is held for the queue; the waiter stays until it is finished.
        unsafe {
            if !acquired {
                let queue = &mut *self.queue.get();
                if woken { queue.push_front(waiter) } else { queue.push_back(waiter) }
            }
            core.unlock();
        }
        acquired
    }

    /// Unlocks, and wakes a waiter. `false`: it is not locked, and nothing has changed.
    #[inline]
    pub(in crate::sync) fn unlock(&self, core: &Core) -> bool {
        // Release: pairs with the Acquire of the next taker.
        self.word.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_ok() || self.unlock_slow(core)
    }

    #[cold]
    #[inline(never)]
    fn unlock_slow(&self, core: &Core) -> bool {
        core.lock();
        // All but LOCKED stays as it is while the core's lock is held.
        let others = self.word.load(Ordering::Relaxed) & !LOCKED;
        // SAFETY: the core's lock is held.
        let queue = unsafe { &mut *self.queue.get() };
        let waiter = if others & WOKEN == 0 { queue.pop_front() } else { None };
        let queued = if queue.is_empty() { 0 } else { QUEUED };
        // SAFETY: a waiter that was in the queue is alive until it is finished.
        let starving = |waiter: *const Waiter| clock::now().saturating_sub(unsafe { (*waiter).since }) > STARVATION;
        let (next, outcome) = match waiter {
            None => (others & WOKEN | queued, Outcome::Retry),
            Some(waiter) if starving(waiter) => (LOCKED | queued, Outcome::Done),
            Some(_) => (WOKEN | queued, Outcome::Retry),
        };
        // Release: pairs with the Acquire of the next taker. It fails only if the caller does not hold the lock.
        let held = self.word.compare_exchange(LOCKED | others, next, Ordering::Release, Ordering::Relaxed).is_ok();
        // SAFETY: a waiter is taken from the queue above, and goes back or is finished. The core is locked above.
        let parker = unsafe {
            let parker = match waiter {
                Some(waiter) if held => Some(waiter::finish(waiter, outcome)),
                Some(waiter) => {
                    queue.push_front(&*waiter);
                    None
                }
                None => None,
            };
            core.unlock();
            parker
        };
        if let Some(parker) = parker {
            parker.unpark();
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::core::{Body, Kind, LazyCore};
    use std::{ptr, thread, time::Duration};

    #[derive(Default)]
    struct Probe(ExclusiveLock);

    impl Body for Probe {
        const KIND: Kind = Kind::RawMutex;
    }

    fn with_lock(test: impl FnOnce(&ExclusiveLock, &Core)) {
        let lazy = LazyCore::<Probe>::new();
        let (_, core) = lazy.get();
        // SAFETY: the core holds a probe.
        test(unsafe { &(*core.body::<Probe>()).0 }, core);
    }

    #[test]
    fn unlocking_what_is_not_locked_changes_nothing() {
        with_lock(|lock, core| {
            assert!(!lock.unlock(core));
            let waiters = [(); 2].map(|()| Waiter::since_now());
            lock.lock(core);
            assert!(waiters.iter().all(|waiter| !lock.acquire_or_queue(core, waiter, false)));
            assert!(lock.unlock(core));
            assert_eq!(waiters.each_ref().map(Waiter::outcome), [Some(Outcome::Retry), None]);
            assert!(!lock.unlock(core), "free, the first is on its way, the second waits");
            assert!(lock.acquire_or_queue(core, &waiters[0], true));
            assert!(lock.unlock(core));
            assert!(!lock.unlock(core));
            assert!(lock.acquire_or_queue(core, &waiters[1], true));
            assert!(lock.unlock(core));
            assert_eq!(lock.word.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn who_was_overtaken_queues_in_front_and_is_given_the_lock_in_the_end() {
        with_lock(|lock, core| {
            let (first, second) = (Waiter::since_now(), Waiter::new(ptr::null_mut()));
            lock.lock(core);
            assert!(!lock.acquire_or_queue(core, &first, false));
            assert!(lock.unlock(core));
            assert_eq!(first.outcome(), Some(Outcome::Retry));
            assert!(lock.try_lock(), "free for a newcomer");
            assert!(!lock.acquire_or_queue(core, &second, false));
            first.reset();
            assert!(!lock.acquire_or_queue(core, &first, true));
            thread::sleep(Duration::from_nanos(2 * STARVATION));
            assert!(lock.unlock(core));
            assert_eq!((first.outcome(), second.outcome()), (Some(Outcome::Done), None));
            assert!(!lock.try_lock() && lock.is_locked());
            assert!(lock.unlock(core)); // the second's `since` is long ago
            assert_eq!(second.outcome(), Some(Outcome::Done));
            assert!(lock.unlock(core));
            assert_eq!(lock.word.load(Ordering::Relaxed), 0);
        });
    }
}
