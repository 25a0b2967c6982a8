//! The queue of those who wait on a primitive.
//!
//! A waiter lives on the stack of whoever waits. While it is in a queue, the primitive's lock guards its links; whoever
//! takes it out finishes it, once, with an outcome. After that the waiter may be gone at any moment.
//!
//! A select waits on several primitives at once, with a waiter in the queue of each. Its waiters share a [`Race`]: to take
//! one of them out is to win the race for it, and a waiter whose race is lost is dropped from the queue. The select keeps
//! its waiters alive until it has taken out those that are left, under each primitive's lock.
//!
//! # What a leak scan needs
//!
//! The links from waiter to waiter lead from the stack of one task to that of another, and keep nothing alive: they are
//! [`Veiled`], so that a scan does not take them for pointers. A waiter says which queue it is in, and that tells its
//! primitive, for queues lie in cores; one that is in none has been chosen to be woken.

use std::{
    cell::Cell,
    ops::Range,
    ptr,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use crate::{
    hooks,
    sys::{
        atomic::{AtomicU8, Ordering},
        clock,
        memory::prefetch,
    },
    task::{WaitReason, control::On, parker::Parker},
};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// What was waited for has happened.
    Done = 1,
    /// The channel was closed.
    Closed = 2,
    /// Try again: the lock is free, but not given to the waiter.
    Retry = 3,
}

const WAITING: u8 = 0;

/// How many places ahead of the one that is taken out of a queue another is fetched.
const DISTANCE: u32 = 8;

/// The cache lines that finishing a waiter touches.
const LINES: usize = size_of::<Waiter>().div_ceil(LINE);
const LINE: usize = 64;

/// Decides which of several waiters, or a timeout, ends a wait.
pub(crate) struct Race {
    /// 1 when it is. Not a bool: who looks at a stopped world may read any byte here.
    over: AtomicU8,
    /// The waiters that share it. Written by their owner, before it waits.
    first: Cell<*const Waiter>,
}

impl Default for Race {
    fn default() -> Self {
        Self { over: AtomicU8::new(0), first: Cell::new(ptr::null()) }
    }
}

impl Race {
    /// Ends the race. Only one caller is told that it has won.
    pub(crate) fn win(&self) -> bool {
        // AcqRel: the winner sees what the waiter did before it queued; pairs with itself.
        self.over.swap(1, Ordering::AcqRel) == 0
    }

    /// One of the waiters that share it; null if none does.
    pub(super) fn first(&self) -> *const Waiter {
        self.first.get()
    }
}

/// A pointer as its complement.
struct Veiled(Cell<*const Waiter>);

impl Veiled {
    fn null() -> Self {
        Self(Cell::new(ptr::null::<Waiter>().map_addr(|address| !address)))
    }

    #[inline]
    fn get(&self) -> *const Waiter {
        self.0.get().map_addr(|address| !address)
    }

    #[inline]
    fn set(&self, waiter: *const Waiter) {
        self.0.set(waiter.map_addr(|address| !address));
    }
}

pub(crate) struct Waiter {
    parker: Parker,
    outcome: AtomicU8,
    /// Where a value is taken from or put to.
    pub(super) slot: *mut u8,
    /// When a lock's waiter came, in nanoseconds; 0 for others.
    pub(super) since: u64,
    /// When a lock's waiter entered the queue that it is in, for the lock's `Delays`; 0 if they do not count it.
    pub(super) queued_at: Cell<u64>,
    /// Null unless the waiter is one of several of a select.
    race: *const Race,
    /// The next of those that share the race.
    sibling: Cell<*const Waiter>,
    next: Veiled,
    previous: Veiled,
    /// See [`Waiter::pair`].
    later: Veiled,
    earlier: Veiled,
    unpaired: Cell<u32>,
    /// Null while it is in none. A queue that is woken as a whole is moved out first; then this still tells where it was.
    /// Atomic, all Relaxed, for who reads it to find out which lock guards it.
    queue: AtomicPtr<WaitQueue>,
}

impl Waiter {
    #[inline]
    pub(crate) fn new(slot: *mut u8) -> Self {
        Self {
            parker: Parker::current(),
            outcome: AtomicU8::new(WAITING),
            slot,
            since: 0,
            queued_at: Cell::new(0),
            race: ptr::null(),
            sibling: Cell::new(ptr::null()),
            next: Veiled::null(),
            previous: Veiled::null(),
            later: Veiled::null(),
            earlier: Veiled::null(),
            unpaired: Cell::new(0),
            queue: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// A waiter that remembers when it came.
    pub(super) fn since_now() -> Self {
        Self { since: clock::now(), ..Self::new(ptr::null_mut()) }
    }

    /// One of the waiters of a select, which must outlive it.
    pub(super) fn racing(slot: *mut u8, race: *const Race) -> Self {
        Self { race, ..Self::new(slot) }
    }

    /// Enters the waiter among those that share its race, and must stay where it is for as long as the race.
    pub(super) fn join_race(&self) {
        // SAFETY: a race outlives its waiters; only their owner uses this field of it.
        let race = unsafe { &*self.race };
        self.sibling.set(race.first.replace(self));
    }

    /// Waits until somebody has finished the waiter, which must be in a queue whose lock has been released. Unwinds if the task is
    /// reclaimed; then the waiter has been taken out of its queue, and not finished.
    #[inline]
    pub(crate) fn wait(&self, reason: WaitReason) -> Outcome {
        let wait = hooks::wait_begin(self.parker, reason);
        let outcome = self.park_until_finished(reason, On::waiter(self));
        hooks::wait_end(wait, reason);
        outcome
    }

    /// Like `wait`, of one who has lent something until then: it is never reclaimed.
    #[inline]
    pub(crate) fn wait_lending(&self, reason: WaitReason) -> Outcome {
        let wait = hooks::wait_begin(self.parker, reason);
        let outcome = self.park_until_finished(reason, On::waiter(self).lending());
        hooks::wait_end(wait, reason);
        outcome
    }

    /// Like `wait`, but until `deadline` (of [`clock::now`]) at the latest; `None` when the wait was given up.
    ///
    /// To give it up, `withdraw` takes the waiter out of its queue, under the primitive's lock, and says whether it was
    /// there. If it was not, whoever took it out is about to finish it, and what it was given must not be lost: so the
    /// wait ends as that one says.
    pub(super) fn wait_until(&self, reason: WaitReason, deadline: u64, withdraw: &dyn Fn() -> bool) -> Option<Outcome> {
        let wait = hooks::wait_begin(self.parker, reason);
        let outcome = loop {
            if let Some(outcome) = self.outcome() {
                break Some(outcome);
            }
            if clock::now() >= deadline {
                break if withdraw() { None } else { Some(self.park_until_finished(reason, On::waiter(self))) };
            }
            self.parker.park_until(reason, On::waiter(self), deadline);
        };
        hooks::wait_end(wait, reason);
        outcome
    }

    #[inline]
    fn park_until_finished(&self, reason: WaitReason, on: On) -> Outcome {
        loop {
            match self.outcome() {
                Some(outcome) => return outcome,
                None => self.parker.park(reason, on),
            }
        }
    }

    /// Pairs a waiter that has entered its queue behind `before` with the one [`DISTANCE`] places earlier, which fetches it when it
    /// is taken out. Each waiter lies on a stack of its own: who wakes a long queue would wait for memory at every step.
    ///
    /// Both know of each other, so that whoever leaves the queue first ends the pair. The next pair is one step on from the one
    /// before; where that was ended or never made, it is looked for after `DISTANCE` waiters without.
    ///
    /// # Safety
    /// The queue's lock must be held, and `before` be in the queue.
    #[inline]
    unsafe fn pair(&self, before: &Waiter) {
        // SAFETY: null, or waiters in the queue, which are alive: one that leaves takes itself out of its pairs.
        unsafe {
            let earlier = match before.earlier.get().as_ref() {
                Some(earlier) => earlier.next.get(),
                None if before.unpaired.get() < DISTANCE => return self.unpaired.set(before.unpaired.get() + 1),
                None => before.back(DISTANCE - 1),
            };
            if let Some(earlier) = earlier.as_ref()
                && earlier.later.get().is_null()
            {
                earlier.later.set(self);
                self.earlier.set(earlier);
            }
        }
    }

    /// The waiter so many places before it, or null.
    ///
    /// # Safety
    /// It must be in a queue whose lock is held.
    #[cold]
    unsafe fn back(&self, places: u32) -> *const Waiter {
        // SAFETY: waiters in the queue are alive.
        (0..places).fold(ptr::from_ref(self), |at, _| unsafe { at.as_ref() }.map_or(at, |at| at.previous.get()))
    }

    /// Where it stands in a queue, as far as the queue's lock is held. Null if it is in none.
    pub(super) fn queue(&self) -> *mut WaitQueue {
        self.queue.load(Relaxed)
    }

    /// The race that decides its wait, if it is one of several.
    pub(super) fn race(&self) -> Option<&Race> {
        // SAFETY: a race outlives its waiters.
        unsafe { self.race.as_ref() }
    }

    /// How the wait ended, if it has.
    #[inline]
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        // Acquire: pairs with the Release in `finish`: the value in the slot is visible.
        match self.outcome.load(Ordering::Acquire) {
            WAITING => None,
            1 => Some(Outcome::Done),
            2 => Some(Outcome::Closed),
            _ => Some(Outcome::Retry),
        }
    }

    /// Makes the waiter usable for another wait. It must be finished.
    pub(super) fn reset(&self) {
        debug_assert_ne!(self.outcome.load(Ordering::Relaxed), WAITING);
        self.outcome.store(WAITING, Ordering::Relaxed);
    }
}

/// What a look from outside finds at a waiter.
pub(crate) struct Glance {
    /// Where it lies.
    pub(crate) at: *const Waiter,
    /// The queue that it was put into; null if it was taken out.
    pub(crate) queue: *const WaitQueue,
    /// Whether its wait is over, or is about to be: whoever has taken it out of its queue, or won its race, goes on to wake it.
    pub(crate) chosen: bool,
    /// Those before and behind it.
    pub(crate) neighbours: [*const Waiter; 2],
    sibling: *const Waiter,
}

/// More siblings than a select has; bounds a walk over memory that changes.
const MOST_SIBLINGS: usize = 1 << 16;

/// Looks at a waiter and those that share its race. Pointers that leave `stack`, that of the task which waits, are not followed.
///
/// # Safety
/// All of `stack` must be readable. If the task is not stopped and waiting, what is found means nothing.
pub(crate) unsafe fn glances(waiter: *const Waiter, stack: Range<usize>) -> impl Iterator<Item = Glance> {
    fn within<T>(at: *const T, stack: &Range<usize>) -> Option<*const T> {
        let address = at as usize;
        let fits = stack.start <= address && address <= stack.end.checked_sub(size_of::<T>())?;
        (fits && at.is_aligned()).then_some(at)
    }
    let glance = move |waiter: *const Waiter| {
        // SAFETY: inside of the stack, which is readable. A waiter of a task that waits is alive, and so is its race. Of
        // one that does not wait, any bytes are values of the fields that are read.
        let waiter = unsafe { &*within(waiter, &stack)? };
        // SAFETY: as above. Relaxed: the world is stopped.
        let over = within(waiter.race, &stack).is_some_and(|race| unsafe { (*race).over.load(Ordering::Relaxed) != 0 });
        let queue = waiter.queue.load(Relaxed).cast_const();
        Some(Glance {
            at: waiter,
            queue,
            chosen: over || queue.is_null() || waiter.outcome.load(Ordering::Relaxed) != WAITING,
            neighbours: [waiter.next.get(), waiter.previous.get()],
            sibling: waiter.sibling.get(),
        })
    };
    let first = glance(waiter);
    std::iter::successors(first, move |before| glance(before.sibling)).take(MOST_SIBLINGS)
}

/// Ends a wait. The caller has taken the waiter from its queue and unparks what this returns, after which the waiter
/// must not be touched.
///
/// # Safety
/// `waiter` must have been taken from a queue by the caller, and not been finished since.
#[inline]
pub(crate) unsafe fn finish(waiter: *const Waiter, outcome: Outcome) -> Parker {
    // SAFETY: until the outcome is stored the waiter waits, so it is alive; the parker is copied before.
    unsafe {
        let parker = (*waiter).parker;
        // Release: pairs with the Acquire in `outcome`.
        (*waiter).outcome.store(outcome as u8, Ordering::Release);
        parker
    }
}

/// Waiters, first in, first out.
pub(crate) struct WaitQueue {
    head: *const Waiter,
    tail: *const Waiter,
}

impl WaitQueue {
    pub(crate) const fn new() -> Self {
        Self { head: ptr::null(), tail: ptr::null() }
    }

    /// Whether nobody is in the queue. Those whose select has been served elsewhere still count.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// # Safety
    /// The waiter must be in no queue, and must stay where it is until it has been finished or removed.
    #[inline]
    pub(crate) unsafe fn push_back(&mut self, waiter: &Waiter) {
        waiter.next.set(ptr::null());
        waiter.previous.set(self.tail);
        waiter.unpaired.set(0);
        waiter.queue.store(self, Relaxed);
        // SAFETY: null, or a waiter in the queue, which is alive.
        match unsafe { self.tail.as_ref() } {
            None => self.head = waiter,
            Some(tail) => {
                tail.next.set(waiter);
                // SAFETY: who pushes holds the lock.
                unsafe { waiter.pair(tail) };
            }
        }
        self.tail = waiter;
    }

    /// # Safety
    /// As for `push_back`.
    pub(crate) unsafe fn push_front(&mut self, waiter: &Waiter) {
        waiter.next.set(self.head);
        waiter.previous.set(ptr::null());
        waiter.unpaired.set(0);
        waiter.queue.store(self, Relaxed);
        if self.head.is_null() {
            self.tail = waiter;
        } else {
            // SAFETY: waiters in the queue wait, so they are alive.
            unsafe { (*self.head).previous.set(waiter) };
        }
        self.head = waiter;
    }

    /// Takes out the waiter that came first, among those that still wait. The caller must finish it.
    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<*const Waiter> {
        loop {
            // SAFETY: null, or a waiter in the queue, which is alive. Of a select, it stays until it is removed under the
            // lock that the caller holds.
            let waiter = unsafe { self.head.as_ref() }?;
            self.unlink(waiter);
            // SAFETY: a race outlives its waiters.
            if unsafe { waiter.race.as_ref() }.is_none_or(Race::win) {
                return Some(waiter);
            }
        }
    }

    /// Whether a waiter is in the queue. Walks through it, so it also tells one that was moved out with all others.
    pub(super) fn contains(&self, waiter: *const Waiter) -> bool {
        if self.head == waiter || self.tail == waiter {
            return true;
        }
        let mut next = self.head;
        while let Some(other) = {
            // SAFETY: null, or a waiter in the queue, which is alive.
            unsafe { next.as_ref() }
        } {
            if ptr::eq(other, waiter) {
                return true;
            }
            next = other.next.get();
        }
        false
    }

    /// When those in the queue have entered it, for the hooks.
    pub(super) fn times(&self) -> impl Iterator<Item = u64> {
        let mut next = self.head;
        std::iter::from_fn(move || {
            // SAFETY: null, or a waiter in the queue, which is alive.
            let waiter = unsafe { next.as_ref() }?;
            next = waiter.next.get();
            Some(waiter.queued_at.get())
        })
    }

    /// Takes a waiter out if it is still in the queue, and says whether it was. It must have been put into this one.
    pub(crate) fn remove(&mut self, waiter: &Waiter) -> bool {
        let queued = !waiter.queue.load(Relaxed).is_null();
        if queued {
            self.unlink(waiter);
        }
        queued
    }

    #[inline]
    fn unlink(&mut self, waiter: &Waiter) {
        let (next, previous) = (waiter.next.get(), waiter.previous.get());
        // SAFETY: null, or waiters in the queue, which are alive.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.head = next,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.tail = previous,
            }
            if let Some(later) = waiter.later.get().as_ref() {
                (0..LINES).for_each(|line| prefetch(ptr::from_ref(later).cast::<u8>().wrapping_add(line * LINE)));
                later.earlier.set(ptr::null());
                waiter.later.set(ptr::null());
            }
            if let Some(earlier) = waiter.earlier.get().as_ref() {
                earlier.later.set(ptr::null());
                waiter.earlier.set(ptr::null());
            }
        }
        waiter.queue.store(ptr::null_mut(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_leave_in_order_and_lost_races_are_passed_over() {
        let (won, open) = (Race::default(), Race::default());
        assert!(won.win());
        assert!(!won.win());
        let waiters: Vec<_> = [ptr::null(), &raw const won, &raw const open, ptr::null(), ptr::null()]
            .into_iter()
            .map(|race| Waiter::racing(ptr::null_mut(), race))
            .collect();
        let mut queue = WaitQueue::new();
        // SAFETY: the waiters outlive the queue.
        waiters.iter().for_each(|waiter| unsafe { queue.push_back(waiter) });
        assert!(queue.remove(&waiters[3]));
        assert!(!queue.remove(&waiters[3]));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop_front()).collect();
        assert_eq!(order, [&raw const waiters[0], &raw const waiters[2], &raw const waiters[4]]);
        assert!(queue.is_empty() && !open.win());
        // SAFETY: as above.
        unsafe {
            queue.push_front(&waiters[0]);
            queue.push_front(&waiters[4]);
        }
        queue.remove(&waiters[0]);
        assert_eq!(queue.pop_front(), Some(&raw const waiters[4]));
        assert!(queue.is_empty());
    }

    #[test]
    fn in_a_long_queue_a_waiter_fetches_the_one_eight_places_behind() {
        let waiters: Vec<_> = (0..100).map(|_| Waiter::new(ptr::null_mut())).collect();
        let mut queue = WaitQueue::new();
        // SAFETY: the waiters outlive the queue.
        waiters.iter().for_each(|waiter| unsafe { queue.push_back(waiter) });
        let distance = DISTANCE as usize;
        for (at, waiter) in waiters.iter().enumerate() {
            let later = waiters.get(at + distance).map_or(ptr::null(), ptr::from_ref);
            // The first pair is made when there are more in the queue than it spans.
            assert_eq!(waiter.later.get(), if at == 0 { ptr::null() } else { later }, "waiter {at}");
            assert_eq!(queue.pop_front(), Some(&raw const *waiter));
        }
    }

    #[cfg(not(loom))]
    proptest::proptest! {
        /// Waiters come to either end and leave from anywhere: the order is that of a model, and pairs are between two in the queue.
        #[test]
        fn a_queue_follows_the_model(steps in proptest::collection::vec((0..6_u8, 0..64_usize), 1..300)) {
            let waiters: Vec<_> = (0..64).map(|_| Waiter::new(ptr::null_mut())).collect();
            let mut model = std::collections::VecDeque::new();
            let mut queue = WaitQueue::new();
            for (step, at) in steps {
                let waiter = &waiters[at];
                match step {
                    0 => {
                        let first = model.pop_front();
                        assert_eq!(queue.pop_front(), first.map(|at: usize| &raw const waiters[at]));
                    }
                    1 => {
                        let there = model.iter().position(|other| *other == at);
                        assert_eq!(queue.remove(waiter), there.is_some());
                        there.map(|there| model.remove(there));
                    }
                    _ if model.contains(&at) => {}
                    // SAFETY: the waiter is in no queue, and outlives this one.
                    2 => unsafe {
                        queue.push_front(waiter);
                        model.push_front(at);
                    },
                    // SAFETY: as above.
                    _ => unsafe {
                        queue.push_back(waiter);
                        model.push_back(at);
                    },
                }
                for (at, waiter) in waiters.iter().enumerate() {
                    let place = |other: *const Waiter| model.iter().position(|at| ptr::eq(&waiters[*at], other));
                    let (earlier, later) = (waiter.earlier.get(), waiter.later.get());
                    assert!(earlier.is_null() || place(earlier) < place(waiter) && place(earlier).is_some(), "{at}");
                    assert!(later.is_null() || place(waiter) < place(later) && place(waiter).is_some(), "{at}");
                    // SAFETY: null, or one of the waiters.
                    unsafe {
                        assert!(earlier.as_ref().is_none_or(|earlier| ptr::eq(earlier.later.get(), waiter)), "{at}");
                        assert!(later.as_ref().is_none_or(|later| ptr::eq(later.earlier.get(), waiter)), "{at}");
                    }
                }
            }
        }
    }
}
