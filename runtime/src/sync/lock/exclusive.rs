//! The state of a mutual exclusion lock.
//!
//! A word says whether the lock is held, whether somebody waits, whether somebody who waited has been woken to try
//! again, and whether the lock is kept for a waiter:
//!
//! - An unlock frees the lock, whatever else the word says, and if somebody waits it then wakes the first. A running
//!   task may take the lock before that one: it saves a switch for each time the lock changes hands. Only one woken
//!   waiter is under way at a time, and if it finds the lock taken it queues in front.
//! - A waiter that has waited for a millisecond is given the lock directly, so nobody starves. If the unlocker finds
//!   that somebody else has taken the lock meanwhile it keeps it for the waiter: nobody takes a lock that is kept, and
//!   the next unlocker gives it. Go's mutex does the same.
//!
//! LOCKED may change at any time. The other bits change only while the core's lock is held: QUEUED is set as long as
//! somebody is in the queue, and of KEPT and WOKEN one at most.
//!
//! Nobody who waits is forgotten: whoever holds the lock while QUEUED is set sees it when it unlocks, and goes on to
//! `wake_next`, which either finds a woken waiter under way, or another holder, who will see the same, or wakes
//! somebody.

use std::cell::UnsafeCell;

use super::super::{
    core::Core,
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{
    hooks::{self, Delays},
    scheduler::current_worker,
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
/// Whoever unlocks gives the lock to the first in the queue, and nobody else takes it before.
const KEPT: u32 = 8;

/// What of a word keeps everybody from taking the lock.
const TAKEN: u32 = LOCKED | KEPT;

/// Nanoseconds after which a waiter is given the lock.
const STARVATION: u64 = 1_000_000;

/// Looks at the lock before a waiter queues, and pauses between two of them: as in Go. Whoever looks takes the cache
/// line away from the holder, so few looks with long pauses let more tasks get through than many looks.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 4 };
const PAUSES: u32 = 30;

pub(in crate::sync) struct ExclusiveLock {
    word: AtomicU32,
    /// Guarded by the core's lock.
    queue: UnsafeCell<Queue>,
}

struct Queue {
    waiters: WaitQueue,
    delays: Delays,
}

impl Default for ExclusiveLock {
    fn default() -> Self {
        Self {
            word: AtomicU32::new(0),
            queue: UnsafeCell::new(Queue { waiters: WaitQueue::new(), delays: Delays::default() }),
        }
    }
}

impl ExclusiveLock {
    pub(in crate::sync) fn is_locked(&self) -> bool {
        // Acquire: pairs with the Release of who unlocks.
        self.word.load(Ordering::Acquire) & LOCKED != 0
    }

    /// Whether it is free, and nobody waits or has been woken.
    #[cfg(all(test, loom))]
    pub(super) fn is_unused(&self) -> bool {
        self.word.load(Ordering::Relaxed) == 0
    }

    #[inline]
    pub(in crate::sync) fn lock(&self, core: &Core) {
        // Acquire: pairs with the Release of who unlocks.
        if self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow(core);
        }
    }

    #[inline]
    pub(in crate::sync) fn try_lock(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        // Acquire: pairs with the Release of who unlocks.
        word & TAKEN == 0
            && self.word.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn lock_slow(&self, core: &Core) {
        let looks = if holder_may_run() { LOOKS } else { 0 };
        for _ in 0..looks {
            if self.try_lock() {
                return;
            }
            if self.word.load(Ordering::Relaxed) & QUEUED != 0 {
                break;
            }
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
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
        // Who comes back from the queue has not waited in between.
        waiter.queued_at.set(hooks::lock_clock(if woken { 0 } else { waiter.since }));
        core.lock();
        let mut word = self.word.load(Ordering::Relaxed);
        let acquired = loop {
            let wanted = if word & TAKEN == 0 { word | LOCKED } else { word | QUEUED };
            let wanted = if woken { wanted & !WOKEN } else { wanted };
            // Acquire: pairs with the Release of who unlocks.
            match self.word.compare_exchange_weak(word, wanted, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break word & TAKEN == 0,
                Err(now) => word = now,
            }
        };
        // SAFETY: the core's lock is held for the queue; the waiter stays until it is finished.
        unsafe {
            if !acquired {
                let queue = &mut *self.queue.get();
                if woken {
                    queue.waiters.push_front(waiter)
                } else {
                    queue.waiters.push_back(waiter)
                }
                queue.delays.entered(waiter.queued_at.get());
            }
            core.unlock();
        }
        acquired
    }

    /// Unlocks, and wakes a waiter. `false`: it is not locked, and nothing has changed.
    #[inline]
    pub(in crate::sync) fn unlock(&self, core: &Core) -> bool {
        let mut word = LOCKED;
        // Release: pairs with the Acquire of the next taker.
        while let Err(now) = self.word.compare_exchange_weak(word, word & !LOCKED, Ordering::Release, Ordering::Relaxed)
        {
            if now & LOCKED == 0 {
                return false;
            }
            word = now;
        }
        if word != LOCKED {
            self.wake_next(core);
        }
        true
    }

    /// As `unlock`, for the owner of a guard, which needs no answer: a subtraction costs less than a comparison with
    /// it.
    ///
    /// # Safety
    /// The lock must be held, and the caller be the one who ends that.
    #[inline]
    pub(in crate::sync) unsafe fn unlock_held(&self, core: &Core) {
        // Release: as above.
        let word = self.word.fetch_sub(LOCKED, Ordering::Release);
        debug_assert_ne!(word & LOCKED, 0, "a guard holds its lock");
        if word != LOCKED {
            self.wake_next(core);
        }
    }

    /// What is left to do for one who has freed the lock and seen that somebody waits.
    #[cold]
    #[inline(never)]
    fn wake_next(&self, core: &Core) {
        core.lock();
        // SAFETY: locked above.
        let queue = unsafe { &mut *self.queue.get() };
        let mut word = self.word.load(Ordering::Relaxed);
        // Nobody, if one is under way, or if others have unlocked since and woken all.
        let waiter = if word & WOKEN == 0 { queue.waiters.pop_front() } else { None };
        let mut delay = Default::default();
        let parker = waiter.and_then(|waiter| {
            // SAFETY: a waiter that was in the queue is alive until it is finished.
            let since = unsafe { (*waiter).since };
            let starving = word & KEPT != 0 || clock::now().saturating_sub(since) > STARVATION;
            let queued = if queue.waiters.is_empty() { 0 } else { QUEUED };
            let outcome = loop {
                let (next, outcome) = match (word & LOCKED != 0, starving) {
                    (false, false) => (WOKEN | queued, Some(Outcome::Retry)),
                    (false, true) => (LOCKED | queued, Some(Outcome::Done)),
                    // Somebody else has taken the lock, and comes here next.
                    (true, false) => break None,
                    (true, true) => (word | KEPT, None),
                };
                // Acquire: pairs with the Release of whoever has unlocked last, on behalf of one who is given the lock.
                match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => break outcome,
                    Err(now) => word = now,
                }
            };
            // SAFETY: taken from the queue above, and finished or put back.
            unsafe {
                match outcome {
                    None => queue.waiters.push_front(&*waiter),
                    Some(_) => {
                        delay = queue.delays.charge();
                        queue.delays.left((*waiter).queued_at.get());
                    }
                }
                outcome.map(|outcome| waiter::finish(waiter, outcome))
            }
        });
        // SAFETY: locked above.
        unsafe { core.unlock() };
        if let Some(parker) = parker {
            parker.unpark();
        }
        hooks::unlocked(delay);
    }
}

impl ExclusiveLock {
    /// A waiter has been taken out of the queue without being woken. The core's lock must be held.
    pub(in crate::sync) fn forgo(&self, waiter: &Waiter) {
        // SAFETY: the caller holds the core's lock.
        unsafe { &mut *self.queue.get() }.delays.left(waiter.queued_at.get());
    }

    /// Makes the word true again after waiters have been taken out without being woken. The core's lock must be held.
    ///
    /// Whoever has freed the lock and seen QUEUED or KEPT is on its way to `wake_next`, and finds nobody there.
    pub(in crate::sync) fn settle(&self) {
        // SAFETY: the caller holds the core's lock.
        if unsafe { &*self.queue.get() }.waiters.is_empty() {
            // Relaxed: the queue is guarded by the core's lock.
            self.word.fetch_and(!(QUEUED | KEPT), Ordering::Relaxed);
        }
    }
}

/// Whether there is a worker beside this one, on which the holder of a lock may be running.
fn holder_may_run() -> bool {
    current_worker().is_none_or(|worker| worker.shared().processors.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::core::{Body, Kind, LazyCore};
    use std::ptr;

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

    /// A waiter that has come just now, however slowly the test runs.
    fn newcomer() -> Waiter {
        let mut waiter = Waiter::new(ptr::null_mut());
        waiter.since = u64::MAX;
        waiter
    }

    /// A waiter that has come long ago.
    fn starving() -> Waiter {
        Waiter::new(ptr::null_mut())
    }

    #[test]
    fn unlocking_what_is_not_locked_changes_nothing() {
        with_lock(|lock, core| {
            assert!(!lock.unlock(core));
            let waiters = [(); 2].map(|()| newcomer());
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
            let (mut first, second) = (newcomer(), starving());
            lock.lock(core);
            assert!(!lock.acquire_or_queue(core, &first, false));
            assert!(lock.unlock(core));
            assert_eq!(first.outcome(), Some(Outcome::Retry));
            assert!(lock.try_lock(), "free for a newcomer");
            assert!(!lock.acquire_or_queue(core, &second, false));
            first.reset();
            first.since = 0;
            assert!(!lock.acquire_or_queue(core, &first, true));
            assert!(lock.unlock(core));
            assert_eq!((first.outcome(), second.outcome()), (Some(Outcome::Done), None));
            assert!(!lock.try_lock() && lock.is_locked());
            // SAFETY: it is locked.
            unsafe { lock.unlock_held(core) }; // the second's `since` is long ago
            assert_eq!(second.outcome(), Some(Outcome::Done));
            assert!(lock.unlock(core));
            assert_eq!(lock.word.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn a_lock_that_was_snatched_from_a_starving_waiter_is_kept_for_it() {
        with_lock(|lock, core| {
            let (first, second) = (starving(), newcomer());
            lock.lock(core);
            assert!(!lock.acquire_or_queue(core, &first, false));
            // An unlock that is interrupted by a newcomer.
            assert_eq!(lock.word.fetch_sub(LOCKED, Ordering::Release), LOCKED | QUEUED);
            assert!(lock.try_lock());
            lock.wake_next(core);
            assert_eq!((first.outcome(), lock.word.load(Ordering::Relaxed)), (None, LOCKED | QUEUED | KEPT));
            // The newcomer's, interrupted by two others.
            lock.word.fetch_sub(LOCKED, Ordering::Release);
            assert!(!lock.try_lock() && !lock.acquire_or_queue(core, &second, false));
            lock.wake_next(core);
            assert_eq!((first.outcome(), second.outcome()), (Some(Outcome::Done), None));
            assert_eq!(lock.word.load(Ordering::Relaxed), LOCKED | QUEUED);
            // One that comes late changes nothing.
            lock.wake_next(core);
            assert_eq!((second.outcome(), lock.word.load(Ordering::Relaxed)), (None, LOCKED | QUEUED));
            assert!(lock.unlock(core));
            assert_eq!((second.outcome(), lock.word.load(Ordering::Relaxed)), (Some(Outcome::Retry), WOKEN));
            assert!(lock.acquire_or_queue(core, &second, true) && lock.unlock(core));
            assert_eq!(lock.word.load(Ordering::Relaxed), 0);
        });
    }
}
