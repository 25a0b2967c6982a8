//! The semaphore: lets a number of tasks do something at a time.
//!
//! A permit that comes back while somebody waits goes to the first who does, and is never seen as available: so
//! somebody waits only while none is available, and nobody overtakes.

use std::{fmt, mem::ManuallyDrop, panic::Location, ptr, time::Duration};

use super::{
    core::{Body, Kind},
    handle::{Handle, Locked},
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{
    sys::clock,
    task::{WaitReason, parker::Parker},
};

/// A number of permits that can be taken, waited for, and given back. Clones are handles to the same semaphore.
///
/// Waiters get permits first come, first served.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::Semaphore};
///
/// Runtime::builder().workers(2).build()?.run(|| {
///     let two_at_a_time = Semaphore::new(2);
///     let jobs: Vec<_> = (0..10)
///         .map(|n| {
///             let permit = two_at_a_time.acquire();
///             spawn(move || {
///                 let _permit = permit;
///                 n * n
///             })
///         })
///         .collect();
///     assert_eq!(jobs.into_iter().map(|job| job.join().unwrap()).sum::<i32>(), 285);
///     assert_eq!(two_at_a_time.available(), 2);
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    handle: Handle<State>,
}

// SAFETY: the state is only reached through the core's lock.
unsafe impl Send for Semaphore {}
// SAFETY: as above.
unsafe impl Sync for Semaphore {}

/// Guarded by the core's lock. Nobody waits while a permit is available.
struct State {
    available: usize,
    /// With those that are taken, but not forgotten. So giving one back cannot overflow `available`.
    total: usize,
    waiters: WaitQueue,
}

impl Body for State {
    const KIND: Kind = Kind::Semaphore;
}

impl State {
    fn take(&mut self) -> bool {
        let available = self.available > 0;
        self.available -= usize::from(available);
        available
    }

    /// Gives a permit to the first who waits, or makes it available.
    fn give(&mut self) -> Option<Parker> {
        match self.waiters.pop_front() {
            // SAFETY: taken from its queue just now.
            Some(waiter) => Some(unsafe { waiter::finish(waiter, Outcome::Done) }),
            None => {
                self.available += 1;
                None
            }
        }
    }
}

impl Semaphore {
    /// A semaphore with so many permits. It may be none: see [`Semaphore::add_permits`].
    #[track_caller]
    pub fn new(permits: usize) -> Self {
        let state = State { available: permits, total: permits, waiters: WaitQueue::new() };
        Self { handle: Handle::new(state, Location::caller()) }
    }

    fn lock(&self) -> Locked<'_, State> {
        self.handle.core().lock()
    }

    /// Waits for a permit and takes it.
    ///
    /// ```
    /// use greenprof_runtime::sync::Semaphore;
    ///
    /// let connections = Semaphore::new(2);
    /// let permit = connections.acquire();
    /// assert_eq!(connections.available(), 1);
    /// drop(permit); // gives it back
    /// assert_eq!(connections.available(), 2);
    /// ```
    pub fn acquire(&self) -> Permit {
        let mut state = self.lock();
        if !state.take() {
            let waiter = Waiter::new(ptr::null_mut());
            // SAFETY: the waiter stays here until it is finished.
            unsafe { state.waiters.push_back(&waiter) };
            drop(state);
            waiter.wait(WaitReason::Semaphore);
        } else {
            drop(state);
        }
        Permit { semaphore: self.clone() }
    }

    /// Waits for a permit, for `timeout` at the most, and takes it. `None` when the time was over first; a permit that
    /// was given in that moment is returned.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::sync::Semaphore;
    ///
    /// let one = Semaphore::new(1);
    /// let permit = one.acquire();
    /// assert!(one.acquire_timeout(Duration::from_millis(1)).is_none());
    /// drop(permit);
    /// assert!(one.acquire_timeout(Duration::from_millis(1)).is_some());
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit> {
        let mut state = self.lock();
        if !state.take() {
            let waiter = Waiter::new(ptr::null_mut());
            // SAFETY: the waiter stays here until it is finished or withdrawn.
            unsafe { state.waiters.push_back(&waiter) };
            drop(state);
            let deadline = clock::after(timeout);
            waiter.wait_until(WaitReason::Semaphore, deadline, &|| self.lock().waiters.remove(&waiter))?;
        } else {
            drop(state);
        }
        Some(Permit { semaphore: self.clone() })
    }

    /// Takes a permit if one is available.
    ///
    /// ```
    /// use greenprof_runtime::sync::Semaphore;
    ///
    /// let connections = Semaphore::new(1);
    /// let permit = connections.try_acquire().expect("one is free");
    /// assert!(connections.try_acquire().is_none());
    /// drop(permit);
    /// ```
    pub fn try_acquire(&self) -> Option<Permit> {
        let taken = self.lock().take();
        taken.then(|| Permit { semaphore: self.clone() })
    }

    /// Adds permits, and wakes as many of those who wait.
    ///
    /// ```
    /// use greenprof_runtime::sync::Semaphore;
    ///
    /// let budget = Semaphore::new(0);
    /// assert!(budget.try_acquire().is_none());
    /// budget.add_permits(2);
    /// assert_eq!(budget.available(), 2);
    /// ```
    ///
    /// # Panics
    /// If there are more permits then than can be counted.
    #[track_caller]
    pub fn add_permits(&self, count: usize) {
        let mut state = self.lock();
        let Some(total) = state.total.checked_add(count) else {
            drop(state);
            panic!("a Semaphore cannot have more than {} permits", usize::MAX);
        };
        state.total = total;
        for left in (1..=count).rev() {
            if state.waiters.is_empty() {
                state.available += left;
                return;
            }
            // One lock for each who is woken: waking is done without.
            let parker = state.give();
            drop(state);
            if let Some(parker) = parker {
                // As in `wake_all`: the first runs next, the others behind it.
                if left == count { parker.unpark() } else { parker.unpark_last() }
            }
            state = self.lock();
        }
    }

    fn give_back(&self) {
        let parker = self.lock().give();
        if let Some(parker) = parker {
            parker.unpark();
        }
    }

    /// The permits that nobody has taken, as of about now.
    pub fn available(&self) -> usize {
        self.lock().available
    }
}

/// Of a [`Semaphore`]. Dropping it gives it back, to the first who waits.
///
/// ```
/// use greenprof_runtime::sync::Semaphore;
///
/// let connections = Semaphore::new(2);
/// let (kept, broken) = (connections.acquire(), connections.acquire());
/// broken.forget();
/// drop(kept);
/// assert_eq!(connections.available(), 1, "one less for ever");
/// ```
#[must_use = "dropping the permit gives it back at once"]
pub struct Permit {
    semaphore: Semaphore,
}

impl Permit {
    /// Never gives the permit back: the semaphore has one less.
    pub fn forget(self) {
        let mut this = ManuallyDrop::new(self);
        this.semaphore.lock().total -= 1;
        // SAFETY: `this` is not used any more.
        unsafe { ptr::drop_in_place(&raw mut this.semaphore) };
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.give_back();
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Acquire,
        TryAcquire,
        GiveBack,
        Add(usize),
    }

    proptest! {
        /// Against a model: permits are counted, and go to those who wait in the order in which they came.
        #[test]
        fn permits_follow_the_model(
            initial in 0..4_usize,
            steps in prop::collection::vec(
                prop_oneof![
                    3 => Just(Step::Acquire),
                    1 => Just(Step::TryAcquire),
                    3 => Just(Step::GiveBack),
                    1 => (0..4_usize).prop_map(Step::Add),
                ],
                1..100,
            )
        ) {
            let semaphore = Semaphore::new(initial);
            let (mut available, mut taken) = (initial, 0_usize);
            let mut waiting: VecDeque<Box<Waiter>> = VecDeque::new();
            for step in steps.into_iter().chain([Step::Add(100)]) {
                let mut given = 0;
                match step {
                    Step::Acquire => {
                        let mut state = semaphore.lock();
                        let acquired = state.take();
                        if !acquired {
                            let waiter = Box::new(Waiter::new(ptr::null_mut()));
                            // SAFETY: kept until it is finished; the last step finishes all.
                            unsafe { state.waiters.push_back(&waiter) };
                            waiting.push_back(waiter);
                        }
                        drop(state);
                        prop_assert_eq!(acquired, available > 0);
                        available -= usize::from(acquired);
                        taken += usize::from(acquired);
                    }
                    Step::TryAcquire => {
                        let permit = semaphore.try_acquire();
                        prop_assert_eq!(permit.is_some(), available > 0);
                        drop(permit);
                    }
                    Step::GiveBack if taken > 0 => {
                        semaphore.give_back();
                        taken -= 1;
                        given = 1;
                    }
                    Step::GiveBack => {}
                    Step::Add(count) => {
                        semaphore.add_permits(count);
                        given = count;
                    }
                }
                let woken = given.min(waiting.len());
                for waiter in waiting.drain(..woken) {
                    prop_assert_eq!(waiter.outcome(), Some(Outcome::Done), "first come, first served");
                }
                prop_assert!(waiting.iter().all(|waiter| waiter.outcome().is_none()));
                taken += woken;
                available += given - woken;
                prop_assert_eq!(semaphore.available(), available);
                prop_assert_eq!(semaphore.lock().total, available + taken);
            }
        }
    }

    #[test]
    fn a_forgotten_permit_is_gone_and_its_handle_too() {
        let semaphore = Semaphore::new(2);
        semaphore.acquire().forget();
        assert_eq!(semaphore.available(), 1);
        assert_eq!(semaphore.lock().total, 1);
        drop(semaphore.acquire());
        assert_eq!(semaphore.available(), 1);
    }
}
