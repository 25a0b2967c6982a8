//! The wait group: waits until a number of things has been done.

use std::{fmt, panic::Location};

use super::{
    broadcast::wake_all,
    core::{Body, Kind},
    handle::Handle,
    waiter::{Outcome, WaitQueue, Waiter},
};
use crate::task::WaitReason;

/// A counter that can be waited on to reach zero. Clones are handles to the same counter.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::WaitGroup};
///
/// Runtime::builder().workers(2).build()?.run(|| {
///     let group = WaitGroup::new();
///     group.add(3);
///     for _ in 0..3 {
///         let group = group.clone();
///         spawn(move || group.done());
///     }
///     group.wait();
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[derive(Clone)]
pub struct WaitGroup {
    handle: Handle<State>,
}

// SAFETY: the state is only reached through the core's lock.
unsafe impl Send for WaitGroup {}
// SAFETY: as above.
unsafe impl Sync for WaitGroup {}

/// Guarded by the core's lock. Nobody waits while the counter is zero.
struct State {
    counter: u64,
    waiters: WaitQueue,
}

impl Body for State {
    const KIND: Kind = Kind::WaitGroup;
}

impl WaitGroup {
    /// A counter at zero.
    #[track_caller]
    pub fn new() -> Self {
        Self { handle: Handle::new(State { counter: 0, waiters: WaitQueue::new() }, Location::caller()) }
    }

    /// Adds to the counter. Call it before spawning what will call [`WaitGroup::done`], not inside.
    pub fn add(&self, count: usize) {
        self.handle.core().lock().counter += count as u64;
    }

    /// Takes one from the counter; at zero, everybody who waits is woken.
    ///
    /// # Panics
    /// If the counter is zero.
    #[track_caller]
    pub fn done(&self) {
        let mut state = self.handle.core().lock();
        let Some(counter) = state.counter.checked_sub(1) else {
            drop(state);
            panic!("negative WaitGroup counter: `done` was called more often than `add` has counted");
        };
        state.counter = counter;
        if counter > 0 {
            return;
        }
        // The waiters of this zero, also if somebody adds before all are woken.
        let waiters = std::mem::replace(&mut state.waiters, WaitQueue::new());
        drop(state);
        wake_all(waiters);
    }

    /// Waits until the counter is zero.
    ///
    /// ```
    /// use greenprof_runtime::sync::WaitGroup;
    ///
    /// let group = WaitGroup::new();
    /// group.wait(); // nothing to wait for
    /// group.add(2);
    /// let other = group.clone();
    /// std::thread::spawn(move || (0..2).for_each(|_| other.done()));
    /// group.wait();
    /// ```
    pub fn wait(&self) {
        self.wait_as(|waiter| waiter.wait(WaitReason::WaitGroupWait));
    }

    /// Like `wait`, of one who has lent something until then.
    pub(crate) fn wait_lending(&self) {
        self.wait_as(|waiter| waiter.wait_lending(WaitReason::WaitGroupWait));
    }

    #[inline]
    fn wait_as(&self, wait: impl FnOnce(&Waiter) -> Outcome) {
        let mut state = self.handle.core().lock();
        if state.counter == 0 {
            return;
        }
        let waiter = Waiter::new(std::ptr::null_mut());
        // SAFETY: the waiter stays here until it is finished, or was taken out of its queue.
        unsafe { state.waiters.push_back(&waiter) };
        drop(state);
        wait(&waiter);
    }
}

impl Default for WaitGroup {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counter = self.handle.core().lock().counter;
        f.debug_struct("WaitGroup").field("counter", &counter).finish()
    }
}
