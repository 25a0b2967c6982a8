//! The local run queue: a bounded ring that one worker fills and empties, and from which the others take half.
//!
//! `head` and `tail` only grow; a slot is `index % CAPACITY`. They are 64 bits wide, so they never wrap, and a
//! compare-and-swap on `head` that succeeds proves that no slot between has been reused meanwhile (no ABA). The ring is
//! empty when they are equal and full when they are `CAPACITY` apart.
//!
//! - `tail` is written by the owner only.
//! - `head` is advanced by whoever takes: the owner one at a time, a thief half at once.
//!
//! The design is that of Go's run queues (`runqput`, `runqgrab`), with wider indices.

use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::{
    sys::atomic::{AtomicPtr, AtomicUsize, Ordering},
    task::control::Control,
};

/// Tasks that fit. Small under loom, so that a model reaches the wrap-around and the overflow.
pub(crate) const CAPACITY: usize = if cfg!(loom) { 4 } else { 256 };

pub(crate) struct Ring {
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
    slots: [AtomicPtr<Control>; CAPACITY],
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self {
            head: CachePadded::new(AtomicUsize::new(0)),
            tail: CachePadded::new(AtomicUsize::new(0)),
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    fn slot(&self, index: usize) -> &AtomicPtr<Control> {
        &self.slots[index % CAPACITY]
    }

    /// An instant's answer for those who are not the owner.
    pub(crate) fn is_empty(&self) -> bool {
        // SeqCst: part of the last look of a worker before it sleeps; pairs with the fence in `Idle::notify`.
        self.head.load(Ordering::SeqCst) == self.tail.load(Ordering::SeqCst)
    }

    /// An instant's answer for those who are not the owner.
    pub(crate) fn length(&self) -> usize {
        // Relaxed: a hint. The tail first, so that the head may have passed it and not the other way round.
        let tail = self.tail.load(Ordering::Relaxed);
        tail.saturating_sub(self.head.load(Ordering::Relaxed))
    }

    /// Appends a task. If the ring is full, the older half is taken out first and given to `spill`, to be queued
    /// elsewhere. Owner only.
    #[inline]
    pub(crate) fn push(&self, task: NonNull<Control>, mut spill: impl FnMut(&[*mut Control])) {
        let tail = self.tail.load(Ordering::Relaxed);
        loop {
            // Acquire: pairs with the Release of takers: their reads of the slot come before our write to it.
            let head = self.head.load(Ordering::Acquire);
            if tail - head < CAPACITY {
                self.slot(tail).store(task.as_ptr(), Ordering::Relaxed);
                // Release: pairs with the Acquire of thieves.
                self.tail.store(tail + 1, Ordering::Release);
                return;
            }
            self.overflow(head, &mut spill);
        }
    }

    #[cold]
    #[inline(never)]
    fn overflow(&self, head: usize, spill: &mut impl FnMut(&[*mut Control])) {
        let tasks: [_; CAPACITY / 2] = std::array::from_fn(|i| self.slot(head + i).load(Ordering::Relaxed));
        if self.advance(head, CAPACITY / 2) {
            spill(&tasks);
        }
    }

    /// Takes the oldest task. Owner only.
    pub(crate) fn pop(&self) -> Option<NonNull<Control>> {
        let tail = self.tail.load(Ordering::Relaxed);
        loop {
            let head = self.head.load(Ordering::Acquire);
            if head == tail {
                return None;
            }
            let task = self.slot(head).load(Ordering::Relaxed);
            if self.advance(head, 1) {
                return NonNull::new(task);
            }
        }
    }

    /// The task that is so many places behind the next one, if there is one. Owner only; a thief may have it by now.
    #[inline]
    pub(crate) fn peek(&self, places: usize) -> Option<NonNull<Control>> {
        // Relaxed: the owner has written the slots up to its own tail.
        let at = self.head.load(Ordering::Relaxed) + places;
        if at < self.tail.load(Ordering::Relaxed) { NonNull::new(self.slot(at).load(Ordering::Relaxed)) } else { None }
    }

    /// Takes half of this ring's tasks, rounded up: the oldest is returned, the others go to `thief`'s ring. Called by
    /// the owner of `thief`, whose ring must be empty.
    pub(crate) fn steal_into(&self, thief: &Ring) -> Option<NonNull<Control>> {
        let thief_tail = thief.tail.load(Ordering::Relaxed);
        debug_assert!(thief.is_empty());
        loop {
            let head = self.head.load(Ordering::Acquire);
            // Acquire: pairs with the Release in `push`: the slots up to `tail` are written.
            let tail = self.tail.load(Ordering::Acquire);
            let count = (tail - head).div_ceil(2);
            if count == 0 {
                return None;
            }
            if count > CAPACITY / 2 {
                continue; // `head` moved between the two loads
            }
            let first = self.slot(head).load(Ordering::Relaxed);
            for i in 1..count {
                let task = self.slot(head + i).load(Ordering::Relaxed);
                // Behind the thief's tail nobody reads, so a failed attempt leaves no trace.
                thief.slot(thief_tail + i - 1).store(task, Ordering::Relaxed);
            }
            if self.advance(head, count) {
                // Release: pairs with the Acquire of those who steal from the thief.
                thief.tail.store(thief_tail + count - 1, Ordering::Release);
                return NonNull::new(first);
            }
        }
    }

    fn advance(&self, head: usize, count: usize) -> bool {
        // AcqRel: Release pairs with the Acquire of `head` in `push`.
        self.head.compare_exchange(head, head + count, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn task(n: usize) -> NonNull<Control> {
        NonNull::new(ptr::without_provenance_mut(n * align_of::<Control>())).unwrap()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Pop,
        Steal,
    }

    proptest! {
        /// One thread: the ring behaves as a queue, an overflow takes the oldest half, a theft the oldest half.
        #[test]
        fn behaves_as_a_queue(
            steps in prop::collection::vec(
                prop_oneof![6 => Just(Step::Push), 3 => Just(Step::Pop), 1 => Just(Step::Steal)], 0..2000)
        ) {
            let ring = Ring::new();
            let mut model = VecDeque::new();
            let mut next = 1;
            for step in steps {
                match step {
                    Step::Push => {
                        let mut spilled = Vec::new();
                        ring.push(task(next), |tasks| spilled.extend_from_slice(tasks));
                        if !spilled.is_empty() {
                            prop_assert_eq!(model.len(), CAPACITY);
                            let half = model.drain(..CAPACITY / 2);
                            prop_assert_eq!(spilled, half.map(|n| task(n).as_ptr()).collect::<Vec<_>>());
                        }
                        model.push_back(next);
                        next += 1;
                    }
                    Step::Pop => {
                        prop_assert_eq!(ring.peek(1), model.get(1).copied().map(task));
                        prop_assert_eq!(ring.pop(), model.pop_front().map(task));
                    }
                    Step::Steal => {
                        let thief = Ring::new();
                        let half: Vec<_> = model.drain(..model.len().div_ceil(2)).map(task).collect();
                        let first = ring.steal_into(&thief);
                        let rest = std::iter::from_fn(|| thief.pop());
                        prop_assert_eq!(first.into_iter().chain(rest).collect::<Vec<_>>(), half);
                    }
                }
                prop_assert_eq!(ring.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn every_task_is_taken_exactly_once() {
        const TASKS: usize = 200_000;
        let ring = Ring::new();
        let seen: Vec<_> = (0..=TASKS).map(|_| std::sync::atomic::AtomicU8::new(0)).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        let take = |task: *mut Control| {
            assert_eq!(seen[task.addr() / align_of::<Control>()].fetch_add(1, Ordering::Relaxed), 0);
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mine = Ring::new();
                    while !done.load(Ordering::Acquire) || !ring.is_empty() {
                        if let Some(task) = ring.steal_into(&mine) {
                            take(task.as_ptr());
                            std::iter::from_fn(|| mine.pop()).for_each(|task| take(task.as_ptr()));
                        }
                    }
                });
            }
            for n in 1..=TASKS {
                ring.push(task(n), |spilled| spilled.iter().copied().for_each(take));
                if n % 3 == 0
                    && let Some(task) = ring.pop()
                {
                    take(task.as_ptr());
                }
            }
            done.store(true, Ordering::Release);
        });
        assert!(seen[1..].iter().all(|s| s.load(Ordering::Relaxed) == 1));
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    fn task(n: usize) -> NonNull<Control> {
        NonNull::new(ptr::without_provenance_mut(n * align_of::<Control>())).unwrap()
    }

    /// The owner pushes past the capacity and pops while a thief steals: nothing is lost, nothing is taken twice.
    #[test]
    fn owner_against_thief() {
        crate::sys::model::check(3, 10, || {
            let ring = Arc::new(Ring::new());
            let thief = {
                let ring = ring.clone();
                loom::thread::spawn(move || {
                    let mine = Ring::new();
                    let first = ring.steal_into(&mine);
                    first.into_iter().chain(std::iter::from_fn(|| mine.pop())).map(|t| t.as_ptr().addr()).collect()
                })
            };
            let mut taken = Vec::new();
            for n in 1..=5 {
                ring.push(task(n), |spilled| taken.extend(spilled.iter().map(|t| t.addr())));
            }
            taken.extend(ring.pop().map(|t| t.as_ptr().addr()));
            let stolen: Vec<usize> = thief.join().unwrap();
            taken.extend(stolen);
            taken.extend(std::iter::from_fn(|| ring.pop()).map(|t| t.as_ptr().addr()));
            taken.sort_unstable();
            assert_eq!(taken, (1..=5).map(|n| n * align_of::<Control>()).collect::<Vec<_>>());
        });
    }
}
