//! The state of a reader-writer lock.
//!
//! ```text
//!   31                          2     1        0
//!  ┌─────────────────────────────┬────────┬────────┐
//!  │ readers that hold the lock  │ QUEUED │ WRITER │
//!  └─────────────────────────────┴────────┴────────┘
//! ```
//!
//! - A reader may come in while neither bit is set, a writer while the word is zero. So a writer that waits keeps new
//!   readers out, as in Go.
//! - Whoever lets go of the lock while QUEUED is set *hands it over*: after a writer to all readers that wait, or to the
//!   first writer if there are none; after the last reader to the first writer. Nobody overtakes a waiter, and readers and
//!   writers take turns: a reader waits for one writer at most once the lock has changed hands, and a writer for those
//!   before it with a batch of readers in between.
//! - QUEUED is set as long as somebody is in a queue (or was, and has been taken out by `reclaim`, until `settle`), and changes
//!   only while the core's lock is held. Between the
//!   moment when the last reader leaves and its handing over the word is QUEUED alone: nobody can come in.

use std::{cell::UnsafeCell, mem, ptr};

use super::super::{
    broadcast::wake_all,
    core::Core,
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{
    hooks,
    sys::atomic::{AtomicU32, Ordering},
    task::WaitReason,
};

const WRITER: u32 = 1;
const QUEUED: u32 = 2;
const READER: u32 = 4;

/// The word with as many readers as fit.
const FULL: u32 = !(WRITER | QUEUED);

pub(in crate::sync) struct SharedLock {
    word: AtomicU32,
    /// Guarded by the core's lock.
    queues: UnsafeCell<Queues>,
}

struct Queues {
    readers: WaitQueue,
    /// How many are in `readers`.
    waiting_readers: u32,
    writers: WaitQueue,
}

impl Default for SharedLock {
    fn default() -> Self {
        let queues = Queues { readers: WaitQueue::new(), waiting_readers: 0, writers: WaitQueue::new() };
        Self { word: AtomicU32::new(0), queues: UnsafeCell::new(queues) }
    }
}

impl SharedLock {
    /// Whether a writer holds the lock.
    pub(in crate::sync) fn has_writer(&self) -> bool {
        // Acquire: pairs with the Release in `unlock_write`.
        self.word.load(Ordering::Acquire) & WRITER != 0
    }

    /// The number of readers that hold the lock, and whether a writer does.
    pub(in crate::sync) fn holders(&self) -> (u32, bool) {
        // Relaxed: as of about now.
        let word = self.word.load(Ordering::Relaxed);
        (word / READER, word & WRITER != 0)
    }

    #[inline]
    #[track_caller]
    pub(in crate::sync) fn read(&self, core: &Core) {
        if !self.try_read() {
            self.read_slow(core);
        }
    }

    /// # Panics
    /// If there are as many readers as can be counted.
    #[inline]
    #[track_caller]
    pub(in crate::sync) fn try_read(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while keeps_readers_out(word) == 0 {
            assert!(word < FULL, "a lock has {} readers: no room for another", FULL / READER);
            // Acquire: pairs with the Release in `unlock_write`.
            match self.word.compare_exchange_weak(word, word + READER, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn read_slow(&self, core: &Core) {
        let waiter = Waiter::new(ptr::null_mut());
        // SAFETY: the waiter stays here until it is finished.
        if unsafe { self.read_or_queue(core, &waiter) } {
            return;
        }
        waiter.wait(WaitReason::RwLockRead);
    }

    /// Takes the lock for reading, or enters the queue of readers: then who finishes the waiter has given it the lock.
    ///
    /// # Safety
    /// A waiter that has entered the queue must stay where it is until it is finished.
    #[track_caller]
    unsafe fn read_or_queue(&self, core: &Core, waiter: &Waiter) -> bool {
        loop {
            if self.try_read() {
                return true;
            }
            waiter.queued_at.set(hooks::lock_clock(0));
            let queued = self.queue(core, keeps_readers_out, |queues| {
                // SAFETY: the caller's promise.
                unsafe { queues.readers.push_back(waiter) };
                queues.waiting_readers += 1;
            });
            if queued {
                return false;
            }
        }
    }

    #[inline]
    pub(in crate::sync) fn write(&self, core: &Core) {
        if !self.try_write() {
            self.write_slow(core);
        }
    }

    #[inline]
    pub(in crate::sync) fn try_write(&self) -> bool {
        // Acquire: pairs with the Release in `unlock_read` and `unlock_write`.
        self.word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn write_slow(&self, core: &Core) {
        let waiter = Waiter::new(ptr::null_mut());
        // SAFETY: the waiter stays here until it is finished.
        if unsafe { self.write_or_queue(core, &waiter) } {
            return;
        }
        waiter.wait(WaitReason::RwLockWrite);
    }

    /// Takes the lock for writing, or enters the queue of writers: then who finishes the waiter has given it the lock.
    ///
    /// # Safety
    /// As for `read_or_queue`.
    unsafe fn write_or_queue(&self, core: &Core, waiter: &Waiter) -> bool {
        while !self.try_write() {
            waiter.queued_at.set(hooks::lock_clock(0));
            // SAFETY: the caller's promise.
            if self.queue(core, |word| word, |queues| unsafe { queues.writers.push_back(waiter) }) {
                return false;
            }
        }
        true
    }

    /// Enters a queue, unless nothing keeps the caller out any more.
    fn queue(&self, core: &Core, keeps_out: fn(u32) -> u32, push: impl FnOnce(&mut Queues)) -> bool {
        core.lock();
        let mut word = self.word.load(Ordering::Relaxed);
        let queued = loop {
            if keeps_out(word) == 0 {
                break false;
            }
            // Relaxed: the queue is guarded by the core's lock.
            match self.word.compare_exchange_weak(word, word | QUEUED, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break true,
                Err(now) => word = now,
            }
        };
        // SAFETY: the core's lock is held.
        unsafe {
            if queued {
                push(&mut *self.queues.get());
            }
            core.unlock();
        }
        queued
    }

    /// Ends a reader's hold. `false`: no reader holds the lock, and nothing has changed.
    #[inline]
    pub(in crate::sync) fn unlock_read(&self, core: &Core) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >= READER {
            // AcqRel: Release pairs with the Acquire of the next writer; Acquire, so that the last reader, who hands the
            // lock over, passes on what the others have released.
            match self.word.compare_exchange_weak(word, word - READER, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    if word - READER == QUEUED {
                        core.lock();
                        self.hand_over(core, false);
                    }
                    return true;
                }
                Err(now) => word = now,
            }
        }
        false
    }

    /// Ends the writer's hold. `false`: no writer holds the lock, and nothing has changed.
    #[inline]
    pub(in crate::sync) fn unlock_write(&self, core: &Core) -> bool {
        // Release: pairs with the Acquire of the next taker.
        self.word.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_ok()
            || self.unlock_write_slow(core)
    }

    #[cold]
    #[inline(never)]
    fn unlock_write_slow(&self, core: &Core) -> bool {
        core.lock();
        // A writer's unlock comes here only because somebody waits, or did, and has been taken out since (`settle`); nobody else
        // changes the word meanwhile.
        let word = self.word.load(Ordering::Relaxed);
        if word == WRITER | QUEUED {
            self.hand_over(core, true);
            return true;
        }
        let held = word == WRITER;
        if held {
            // Release: pairs with the Acquire of the next taker.
            self.word.store(0, Ordering::Release);
        }
        // SAFETY: locked above.
        unsafe { core.unlock() };
        held
    }

    /// Gives the lock to those whose turn it is, and unlocks the core, whose lock the caller has taken. Nobody but the
    /// caller can change the word meanwhile: it is a writer's, or QUEUED alone.
    #[cold]
    #[inline(never)]
    fn hand_over(&self, core: &Core, after_a_writer: bool) {
        // SAFETY: the caller has locked the core.
        let queues = unsafe { &mut *self.queues.get() };
        if queues.waiting_readers > 0 && (after_a_writer || queues.writers.is_empty()) {
            let readers = mem::replace(&mut queues.readers, WaitQueue::new());
            let count = mem::take(&mut queues.waiting_readers);
            let delay = hooks::all_of(readers.times());
            let queued = if queues.writers.is_empty() { 0 } else { QUEUED };
            // Release: pairs with the Acquire of the next taker.
            self.word.store((count * READER) | queued, Ordering::Release);
            // SAFETY: the caller has locked the core.
            unsafe { core.unlock() };
            wake_all(readers);
            hooks::unlocked(delay);
            return;
        }
        let writer = queues.writers.pop_front();
        // SAFETY: it waits until it is finished below.
        let delay = hooks::all_of(writer.iter().map(|writer| unsafe { (**writer).queued_at.get() }));
        let queued = if queues.writers.is_empty() && queues.waiting_readers == 0 { 0 } else { QUEUED };
        let holder = if writer.is_some() { WRITER } else { 0 };
        // Release: as above.
        self.word.store(holder | queued, Ordering::Release);
        // SAFETY: the writer is taken from its queue above; the caller has locked the core.
        let parker = unsafe {
            let parker = writer.map(|writer| waiter::finish(writer, Outcome::Done));
            core.unlock();
            parker
        };
        if let Some(parker) = parker {
            parker.unpark();
        }
        hooks::unlocked(delay);
    }
}

impl SharedLock {
    /// Whether a waiter is in one of the queues. The core's lock must be held.
    pub(in crate::sync) fn has_queued(&self, waiter: &Waiter) -> bool {
        // SAFETY: the caller holds the core's lock.
        let queues = unsafe { &*self.queues.get() };
        queues.writers.contains(waiter) || queues.readers.contains(waiter)
    }

    /// A waiter that is in the queue has to leave it without being woken. The core's lock must be held.
    pub(in crate::sync) fn forgo(&self, waiter: &Waiter) {
        // SAFETY: the caller holds the core's lock.
        let queues = unsafe { &mut *self.queues.get() };
        if ptr::eq(waiter.queue(), &raw const queues.readers) {
            queues.waiting_readers -= 1;
        }
    }

    /// Makes the word true again after waiters have been taken out without being woken, and lets readers in that waited only for a
    /// writer that is gone. Unlocks the core, whose lock the caller has taken.
    pub(in crate::sync) fn settle(&self, core: &Core) {
        // SAFETY: the caller has locked the core.
        let queues = unsafe { &mut *self.queues.get() };
        let admitted = loop {
            let word = self.word.load(Ordering::Relaxed);
            // QUEUED alone: the last reader has left, and is about to hand the lock over to whoever is there then.
            if word & QUEUED == 0 || word == QUEUED || !queues.writers.is_empty() {
                break None;
            }
            let next = match (word & WRITER != 0, queues.waiting_readers) {
                (_, 0) => word & !QUEUED,
                // Their turn comes when it unlocks.
                (true, _) => break None,
                // Readers hold the lock, and those that wait may join them.
                (false, count) => (word & !QUEUED) + count * READER,
            };
            // Acquire: on behalf of the readers, pairs with the Release in `unlock_write`.
            if self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                queues.waiting_readers = 0;
                break Some(mem::replace(&mut queues.readers, WaitQueue::new()));
            }
        };
        // SAFETY: the caller has locked the core.
        unsafe { core.unlock() };
        if let Some(readers) = admitted {
            wake_all(readers);
        }
    }
}

/// What of a word keeps a reader from coming in.
fn keeps_readers_out(word: u32) -> u32 {
    word & (WRITER | QUEUED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::core::{Body, Kind, LazyCore};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Default)]
    struct Probe(SharedLock);

    impl Body for Probe {
        const KIND: Kind = Kind::RawRwLock;
    }

    fn with_lock<R>(test: impl FnOnce(&SharedLock, &Core) -> R) -> R {
        let lazy = LazyCore::<Probe>::new();
        let (_, core) = lazy.get();
        // SAFETY: the core holds a probe.
        test(unsafe { &(*core.body::<Probe>()).0 }, core)
    }

    #[test]
    fn unlocking_what_is_not_locked_changes_nothing() {
        with_lock(|lock, core| {
            assert!(!lock.unlock_read(core) && !lock.unlock_write(core));
            assert!(lock.try_read());
            assert!(!lock.unlock_write(core));
            let waiter = Waiter::new(ptr::null_mut());
            // SAFETY: the waiter is finished below.
            assert!(!unsafe { lock.write_or_queue(core, &waiter) });
            assert!(!lock.unlock_write(core), "readers hold it, and a writer waits");
            assert!(lock.unlock_read(core));
            assert_eq!(waiter.outcome(), Some(Outcome::Done));
            assert!(!lock.unlock_read(core), "the writer has it");
            assert!(lock.unlock_write(core));
            assert!(!lock.unlock_write(core) && !lock.unlock_read(core));
            assert_eq!(lock.word.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    #[should_panic(expected = "a lock has 1073741823 readers: no room for another")]
    fn readers_are_counted_with_care() {
        let lock = SharedLock::default();
        lock.word.store(FULL - READER, Ordering::Relaxed);
        assert!(lock.try_read());
        lock.try_read();
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Actor {
        Idle,
        Reads,
        Writes,
        WaitsToRead,
        WaitsToWrite,
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Read,
        Write,
        TryRead,
        TryWrite,
    }

    /// What the lock should do, for actors that act one after the other.
    #[derive(Default)]
    struct Model {
        actors: Vec<Actor>,
        readers: VecDeque<usize>,
        writers: VecDeque<usize>,
    }

    impl Model {
        fn count(&self, actor: Actor) -> usize {
            self.actors.iter().filter(|a| **a == actor).count()
        }

        fn somebody_waits(&self) -> bool {
            !self.readers.is_empty() || !self.writers.is_empty()
        }

        fn lets_in(&self, writer: bool) -> bool {
            self.count(Actor::Writes) == 0 && !self.somebody_waits() && (!writer || self.count(Actor::Reads) == 0)
        }

        fn leave(&mut self, who: usize) {
            let wrote = std::mem::replace(&mut self.actors[who], Actor::Idle) == Actor::Writes;
            if self.count(Actor::Reads) + self.count(Actor::Writes) > 0 {
                return;
            }
            if wrote && !self.readers.is_empty() {
                for reader in self.readers.drain(..) {
                    self.actors[reader] = Actor::Reads;
                }
            } else if let Some(writer) = self.writers.pop_front() {
                self.actors[writer] = Actor::Writes;
            }
        }
    }

    proptest! {
        /// Five actors against the model: who holds the lock and who waits is the same after every step.
        #[test]
        fn the_lock_follows_the_model(
            steps in prop::collection::vec(
                (0..5_usize, prop::sample::select(vec![Step::Read, Step::Write, Step::TryRead, Step::TryWrite])),
                1..80,
            )
        ) {
            with_lock(|lock, core| {
                let mut model = Model { actors: vec![Actor::Idle; 5], ..Model::default() };
                let mut waiters: Vec<Option<Box<Waiter>>> = (0..5).map(|_| None).collect();
                // At the end everybody leaves, so that no waiter is left in a queue.
                let ending = (0..100).map(|n| (n % 5, None));
                for (who, step) in steps.into_iter().map(|(who, step)| (who, Some(step))).chain(ending) {
                    match model.actors[who] {
                        Actor::Idle => {
                            let Some(step) = step else { continue };
                            let waiter = Box::new(Waiter::new(ptr::null_mut()));
                            let writer = matches!(step, Step::Write | Step::TryWrite);
                            let waits = matches!(step, Step::Read | Step::Write);
                            // SAFETY: the waiter is kept until it is finished.
                            let entered = unsafe {
                                match step {
                                    Step::Read => lock.read_or_queue(core, &waiter),
                                    Step::Write => lock.write_or_queue(core, &waiter),
                                    Step::TryRead => lock.try_read(),
                                    Step::TryWrite => lock.try_write(),
                                }
                            };
                            prop_assert_eq!(entered, model.lets_in(writer));
                            model.actors[who] = match (entered, waits, writer) {
                                (true, _, false) => Actor::Reads,
                                (true, _, true) => Actor::Writes,
                                (false, true, false) => Actor::WaitsToRead,
                                (false, true, true) => Actor::WaitsToWrite,
                                (false, false, _) => Actor::Idle,
                            };
                            match model.actors[who] {
                                Actor::WaitsToRead => model.readers.push_back(who),
                                Actor::WaitsToWrite => model.writers.push_back(who),
                                _ => {}
                            }
                            if matches!(model.actors[who], Actor::WaitsToRead | Actor::WaitsToWrite) {
                                waiters[who] = Some(waiter);
                            }
                        }
                        Actor::Reads => {
                            prop_assert!(!lock.unlock_write(core));
                            prop_assert!(lock.unlock_read(core));
                            model.leave(who);
                        }
                        Actor::Writes => {
                            prop_assert!(!lock.unlock_read(core));
                            prop_assert!(lock.unlock_write(core));
                            model.leave(who);
                        }
                        Actor::WaitsToRead | Actor::WaitsToWrite => {}
                    }
                    for (actor, waiter) in model.actors.iter().zip(&mut waiters) {
                        let waits = matches!(actor, Actor::WaitsToRead | Actor::WaitsToWrite);
                        if !waits && let Some(waiter) = waiter.take() {
                            prop_assert_eq!(waiter.outcome(), Some(Outcome::Done), "it has been given the lock");
                        }
                        prop_assert!(waiter.as_ref().is_none_or(|waiter| waiter.outcome().is_none()), "it waits on");
                    }
                    let holders = (model.count(Actor::Reads) as u32, model.count(Actor::Writes) == 1);
                    prop_assert_eq!(lock.holders(), holders);
                    prop_assert_eq!(lock.word.load(Ordering::Relaxed) & QUEUED != 0, model.somebody_waits());
                }
                Ok(())
            })?;
        }
    }
}
