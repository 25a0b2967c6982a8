//! The mutual exclusion lock.
//!
//! A word in the core says whether the lock is held, whether somebody waits, and whether somebody who waited has been
//! woken to try again:
//!
//! - An unlock with waiters frees the lock and wakes the first of them. A running task may take the lock before it: that
//!   saves a switch for each time the lock changes hands. Only one woken waiter is under way at a time, and if it finds
//!   the lock taken it queues in front.
//! - A waiter that has waited for a millisecond is given the lock directly, so nobody starves. Go's mutex does the same.
//!
//! Memory for the queue and the word is taken on the first lock, which is what lets `new` be `const`.

use std::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    panic::Location,
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use super::{
    core::{self, Body, Core, Kind},
    handle::word::Word,
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{sys::clock, task::WaitReason};

const LOCKED: u32 = 1;
/// Somebody is in the queue.
const QUEUED: u32 = 2;
/// A waiter has been taken from the queue and told to try again.
const WOKEN: u32 = 4;

/// Nanoseconds after which a waiter is given the lock.
const STARVATION: u64 = 1_000_000;

/// Looks at the lock before a waiter queues: about as long as a short critical section.
const SPINS: u32 = 30;

/// A lock around a value. Waiting parks the task; on a plain OS thread it blocks the thread.
///
/// A panic while the lock is held does not poison it. Waiters get the lock in the order of their coming, but a task that
/// is running may overtake those that have waited for less than a millisecond.
pub struct Mutex<T: ?Sized> {
    /// The core's index; 0 before the first lock.
    core: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives one thread at a time access to the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

struct State {
    lock: AtomicU32,
    /// The generation of the guard that holds the lock. Written by its owner.
    guard: AtomicU64,
    /// A second valid generation, while a guard that has moved changes from one to the other; else 0.
    moved_guard: AtomicU64,
    /// Guarded by the core's lock.
    queue: UnsafeCell<WaitQueue>,
}

impl Body for State {
    const KIND: Kind = Kind::Mutex;
}

impl<T> Mutex<T> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        Self { core: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Takes the value out. No lock is needed: there is no other reference.
    pub fn into_inner(self) -> T {
        let this = std::mem::ManuallyDrop::new(self);
        this.free_core();
        // SAFETY: `this` is not dropped, so the value is read once.
        unsafe { this.value.get().read() }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock and takes it.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let (index, core) = self.core();
        // SAFETY: the core of a mutex holds a State, which is shared through atomics and the core's lock.
        let state = unsafe { &*core.body::<State>() };
        // Acquire: pairs with the Release in `unlock`.
        if state.lock.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            state.lock_slow(core);
        }
        MutexGuard::new(self, index, state)
    }

    /// Takes the lock if it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let (index, core) = self.core();
        // SAFETY: as in `lock`.
        let state = unsafe { &*core.body::<State>() };
        let lock = state.lock.load(Ordering::Relaxed);
        // Acquire: pairs with the Release in `unlock`.
        (lock & LOCKED == 0
            && state.lock.compare_exchange(lock, lock | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok())
        .then(|| MutexGuard::new(self, index, state))
    }

    /// The value, without locking: there is no other reference.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[inline]
    #[track_caller]
    fn core(&self) -> (u32, &'static Core) {
        // Acquire: pairs with the Release in `make_core`.
        let index = self.core.load(Ordering::Acquire);
        let index = if index == 0 { self.make_core() } else { index };
        (index, core::core(index))
    }

    #[cold]
    #[track_caller]
    fn make_core(&self) -> u32 {
        let state = State {
            lock: AtomicU32::new(0),
            guard: AtomicU64::new(0),
            moved_guard: AtomicU64::new(0),
            queue: UnsafeCell::new(WaitQueue::new()),
        };
        let index = core::allocate(state, Location::caller());
        // AcqRel: publishes the core, or sees the one that another thread has made.
        match self.core.compare_exchange(0, index, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => index,
            Err(other) => {
                // SAFETY: made above, and known to nobody.
                unsafe { core::free::<State>(index) };
                other
            }
        }
    }

    fn free_core(&self) {
        // Relaxed: the caller has the only reference.
        let index = self.core.swap(0, Ordering::Relaxed);
        if index != 0 {
            // SAFETY: nobody can lock a mutex that has no other reference.
            unsafe { core::free::<State>(index) };
        }
    }
}

impl<T: ?Sized> Drop for Mutex<T> {
    fn drop(&mut self) {
        self.free_core();
    }
}

impl State {
    #[cold]
    #[inline(never)]
    fn lock_slow(&self, core: &Core) {
        for _ in 0..SPINS {
            let lock = self.lock.load(Ordering::Relaxed);
            // Acquire: pairs with the Release in `unlock`.
            if lock & LOCKED == 0
                && self.lock.compare_exchange(lock, lock | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            if lock & QUEUED != 0 {
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
        let mut lock = self.lock.load(Ordering::Relaxed);
        let acquired = loop {
            let wanted = if lock & LOCKED == 0 { lock | LOCKED } else { lock | QUEUED };
            let wanted = if woken { wanted & !WOKEN } else { wanted };
            // Acquire: pairs with the Release in `unlock`.
            match self.lock.compare_exchange_weak(lock, wanted, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break lock & LOCKED == 0,
                Err(now) => lock = now,
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

    #[cold]
    #[inline(never)]
    fn unlock_slow(&self, core: &Core) {
        core.lock();
        // While LOCKED is ours and the core's lock is held nobody else changes the word: a taker needs LOCKED to be
        // clear, and a waiter sets QUEUED under the core's lock.
        let lock = self.lock.load(Ordering::Relaxed);
        // SAFETY: the core's lock is held.
        let queue = unsafe { &mut *self.queue.get() };
        let waiter = if lock & WOKEN == 0 { queue.pop_front() } else { None };
        let queued = if queue.is_empty() { 0 } else { QUEUED };
        let parker = waiter.map(|waiter| {
            // SAFETY: a waiter that was in the queue is alive until it is finished.
            let starving = clock::now().saturating_sub(unsafe { (*waiter).since }) > STARVATION;
            let (next, outcome) =
                if starving { (LOCKED | queued, Outcome::Done) } else { (WOKEN | queued, Outcome::Retry) };
            // Release: pairs with the Acquire of the next taker.
            self.lock.store(next, Ordering::Release);
            // SAFETY: taken from the queue above.
            unsafe { waiter::finish(waiter, outcome) }
        });
        if parker.is_none() {
            self.lock.store(lock & WOKEN | queued, Ordering::Release);
        }
        // SAFETY: locked above.
        unsafe { core.unlock() };
        if let Some(parker) = parker {
            parker.unpark();
        }
    }
}

/// The word of the guard that holds the lock of a core, if somebody does.
pub(super) fn guard_word(index: u32, core: &Core) -> Option<u64> {
    // SAFETY: the caller says that the core is a mutex's; cores are type-stable, and the fields read are atomics.
    let state = unsafe { &*core.body::<State>() };
    let locked = state.lock.load(Ordering::Acquire) & LOCKED != 0;
    locked.then(|| Word::with_generation(index, state.guard.load(Ordering::Acquire)).bits())
}

/// Holds a [`Mutex`]; dropping it unlocks. It may be dropped by another task or thread than the one that locked.
///
/// A guard is a word like a handle (see the module `handle` of this crate's source): the core's index and the lock's
/// generation, which changes when the guard is used at another address than before.
#[must_use = "dropping the guard unlocks at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    word: AtomicU64,
    /// The complement of the address at the last touch.
    home: AtomicUsize,
    value: PhantomData<&'a mut T>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    #[inline]
    fn new(lock: &'a Mutex<T>, index: u32, state: &State) -> Self {
        // Relaxed: only the lock's owner writes it.
        let generation = state.guard.load(Ordering::Relaxed) + 1;
        state.guard.store(generation, Ordering::Relaxed);
        let word = Word::with_generation(index, generation).made();
        Self { lock, word: AtomicU64::new(word), home: AtomicUsize::new(0), value: PhantomData }
    }

    #[inline]
    fn touch(&self) {
        let here = !(ptr::from_ref(self) as usize);
        if self.home.load(Ordering::Relaxed) != here {
            self.retag(here);
        }
    }

    /// The guard has moved: gives it a new generation, so that copies of its word elsewhere are stale.
    #[cold]
    #[inline(never)]
    fn retag(&self, here: usize) {
        let index = Word::from_bits(self.word.load(Ordering::Relaxed)).index();
        let core = core::core(index);
        // SAFETY: the guard's core is that of a mutex.
        let state = unsafe { &*core.body::<State>() };
        // Several threads may share a guard: one after the other.
        core.lock();
        if self.home.load(Ordering::Relaxed) != here {
            let generation = state.guard.load(Ordering::Relaxed) + 1;
            // SeqCst: at every moment the word in memory is one of the two valid generations.
            state.moved_guard.store(generation, Ordering::SeqCst);
            self.word.store(Word::with_generation(index, generation).made(), Ordering::SeqCst);
            state.guard.store(generation, Ordering::SeqCst);
            state.moved_guard.store(0, Ordering::SeqCst);
            self.home.store(here, Ordering::Relaxed);
        }
        // SAFETY: locked above.
        unsafe { core.unlock() };
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.touch();
        // SAFETY: the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.touch();
        // SAFETY: the lock is held, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let core = core::core(Word::consumed(*self.word.get_mut()).index());
        // SAFETY: the guard's core is that of a mutex.
        let state = unsafe { &*core.body::<State>() };
        // Release: pairs with the Acquire of the next taker.
        if state.lock.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            state.unlock_slow(core);
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(guard) => text.field("value", &&*guard).finish(),
            None => text.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
