//! The park word: one word per task that decides every race between a task that wants to wait and whoever wakes it.
//!
//! The word is `generation << 32 | state`. A control block is used by one task after another; each gets the next
//! generation, and a waker that still holds an older one changes nothing.
//!
//! ```text
//!             start                commit_park (by the worker, context saved)
//!   DEAD ────────────▶ RUNNING ───────────────────────────────────▶ PARKED
//!    ▲                 │  ▲  ▲ ▲                                      │
//!    │ finish          │  │  │ └──────────── unpark: Schedule ◀───────┘
//!    └─────────────────┘  │  │
//!             unpark      ▼  │ take_token, or commit_park that fails
//!                       TOKEN┘
//!   RUNNING ── begin_block ─▶ BLOCKED ── unpark: WakeThread ─▶ RUNNING
//!
//!   PARKED ── seize ─▶ SEIZED ── unpark ─▶ SEIZED_TOKEN
//!     ▲                  │ │                  │ │
//!     └── let_go ────────┘ └──── evict ─────▶ RUNNING, queued ◀── let_go, evict
//! ```
//!
//! SEIZED holds a parked task still for somebody who looks at it and may end its wait in a way of its own
//! (`task/reclaim.rs`). Nobody else makes the task runnable meanwhile: a wake-up is remembered as SEIZED_TOKEN, and is
//! delivered by `let_go`. So what the seizer has seen of the wait is true until it lets go.
//!
//! RUNNING also covers a task that waits in a run queue. TOKEN remembers a wake-up that came before the wait: the next
//! wait returns at once. Tokens can be stale (a waker that was slow), so every wait is a loop around its own condition.
//!
//! A wake-up cannot be lost: `commit_park` runs after the context is saved and is a compare-and-swap from RUNNING, so a
//! wake-up before it leaves TOKEN and fails it, and a wake-up after it finds PARKED and makes the task runnable.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};

const DEAD: u32 = 0;
const RUNNING: u32 = 1;
const TOKEN: u32 = 2;
const PARKED: u32 = 3;
const BLOCKED: u32 = 4;
const SEIZED: u32 = 5;
const SEIZED_TOKEN: u32 = 6;

/// What a park word says at a moment, for those who look from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParkState {
    /// No task uses the control block.
    Dead,
    /// On a processor or in a run queue, or seized, which is the way to a queue.
    Active,
    /// Waits, its context saved.
    Parked,
    /// Waits without having left its worker.
    Blocked,
}

/// What a waker has to do after [`ParkWord::unpark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpark {
    /// Nothing: the task is gone, is running, or has been woken already.
    Nothing,
    /// Put the task into a run queue. Only this waker may.
    Schedule,
    /// Wake the thread that sleeps on [`ParkWord::futex`].
    WakeThread,
}

pub(crate) struct ParkWord(AtomicU64);

const fn compose(generation: u32, state: u32) -> u64 {
    (generation as u64) << 32 | state as u64
}

const fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

impl ParkWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(compose(0, DEAD)))
    }

    /// The generation and the state, at one moment. Acquire: pairs with `start`, so a reader that finds a generation
    /// alive sees what was written for that task before it was started.
    pub(crate) fn load(&self) -> (u32, ParkState) {
        let (generation, state) = split(self.0.load(Ordering::Acquire));
        let state = match state {
            DEAD => ParkState::Dead,
            PARKED => ParkState::Parked,
            BLOCKED => ParkState::Blocked,
            _ => ParkState::Active,
        };
        (generation, state)
    }

    /// The generation of the task that calls this, or that the caller has made.
    pub(crate) fn generation(&self) -> u32 {
        // Relaxed: a task's own generation does not change while it lives.
        split(self.0.load(Ordering::Relaxed)).0
    }

    /// Begins the life of a task; only the owner of a free control block may call it. Returns its generation.
    pub(crate) fn start(&self) -> u32 {
        let (generation, state) = split(self.0.load(Ordering::Relaxed));
        debug_assert_eq!(state, DEAD);
        let generation = generation.wrapping_add(1);
        // Release: pairs with `load`.
        self.0.store(compose(generation, RUNNING), Ordering::Release);
        generation
    }

    /// Ends the life of a task; called by its worker, on the worker's stack.
    pub(crate) fn finish(&self) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (generation, state) = split(word);
            debug_assert!(state == RUNNING || state == TOKEN);
            // Release: pairs with `load`; a compare-and-swap because wakers may still leave tokens.
            match self.0.compare_exchange_weak(word, compose(generation, DEAD), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Takes a wake-up that came early. Called by the task itself.
    pub(crate) fn take_token(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        let (generation, state) = split(word);
        // Acquire: pairs with the Release in `unpark`: what the waker did before is visible. Nobody but the task changes
        // TOKEN, so a failure cannot happen.
        state == TOKEN
            && self.0.compare_exchange(word, compose(generation, RUNNING), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Parks the task whose context has been saved. `false`: it was woken meanwhile and has to run on.
    ///
    /// After `true` the caller must not touch the task again: another worker may be running it.
    pub(crate) fn commit_park(&self) -> bool {
        self.leave_running(PARKED)
    }

    /// Like `commit_park`, for a task that waits without leaving its worker. After `true` it sleeps on the futex until
    /// [`ParkWord::is_blocked`] is false.
    pub(crate) fn begin_block(&self) -> bool {
        self.leave_running(BLOCKED)
    }

    fn leave_running(&self, state: u32) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        let (generation, now) = split(word);
        debug_assert!(now == RUNNING || now == TOKEN);
        // Release: pairs with the Acquire in `unpark`: who schedules the task sees its saved context.
        let running = compose(generation, RUNNING);
        if now == RUNNING
            && self
                .0
                .compare_exchange(running, compose(generation, state), Ordering::Release, Ordering::Relaxed)
                .is_ok()
        {
            return true;
        }
        let token = self.take_token();
        debug_assert!(token, "only a token can have changed RUNNING");
        false
    }

    pub(crate) fn is_blocked(&self) -> bool {
        // Acquire: pairs with the Release in `unpark`.
        split(self.0.load(Ordering::Acquire)).1 == BLOCKED
    }

    /// Wakes the task of `generation`, or leaves a token if it is not waiting.
    pub(crate) fn unpark(&self, generation: u32) -> Unpark {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (now, state) = split(word);
            if now != generation {
                return Unpark::Nothing;
            }
            let (next, answer) = match state {
                RUNNING => (TOKEN, Unpark::Nothing),
                PARKED => (RUNNING, Unpark::Schedule),
                BLOCKED => (RUNNING, Unpark::WakeThread),
                // TOKEN: written again, so that what this waker did before is visible to the task as well.
                TOKEN => (TOKEN, Unpark::Nothing),
                SEIZED | SEIZED_TOKEN => (SEIZED_TOKEN, Unpark::Nothing),
                _ => return Unpark::Nothing,
            };
            // AcqRel: Release pairs with the Acquire of `take_token`, Acquire with the Release of `leave_running`.
            match self.0.compare_exchange_weak(word, compose(generation, next), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return answer,
                Err(now) => word = now,
            }
        }
    }

    /// Holds the task of `generation` still, if it is parked. The caller must end that with `let_go` or `evict`.
    pub(crate) fn seize(&self, generation: u32) -> bool {
        let (parked, seized) = (compose(generation, PARKED), compose(generation, SEIZED));
        // Acquire: pairs with the Release in `leave_running`: the seizer sees the saved context and the stack.
        self.0.compare_exchange(parked, seized, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Ends `seize` as if it had not been: the task is parked again, or, if somebody has woken it meanwhile, to be queued.
    pub(crate) fn let_go(&self, generation: u32) -> Unpark {
        let (parked, seized) = (compose(generation, PARKED), compose(generation, SEIZED));
        // Release: pairs with the Acquire of `unpark` and `seize`: who has the task next comes after the look at it.
        match self.0.compare_exchange(seized, parked, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Unpark::Nothing,
            Err(_) => self.evict(generation),
        }
    }

    /// Ends `seize` by making the task runnable; the caller queues it. A wake-up that came meanwhile is spent on this.
    pub(crate) fn evict(&self, generation: u32) -> Unpark {
        // AcqRel: Acquire pairs with the Release in `unpark`, for what a waker did before; Release as in `unpark`.
        let before = self.0.swap(compose(generation, RUNNING), Ordering::AcqRel);
        debug_assert!(matches!(split(before), (now, SEIZED | SEIZED_TOKEN) if now == generation), "only the seizer");
        Unpark::Schedule
    }

    /// The half of the word that a blocked task's thread sleeps on, and the value it has while blocked.
    #[cfg(loom)]
    pub(crate) fn futex(&self) -> (*const AtomicU32, u32) {
        unreachable!("a model has no kernel to sleep in")
    }

    /// The half of the word that a blocked task's thread sleeps on, and the value it has while blocked.
    #[cfg(not(loom))]
    pub(crate) fn futex(&self) -> (*const AtomicU32, u32) {
        const { assert!(cfg!(target_endian = "little"), "the state is the first half of the word") };
        (self.0.as_ptr().cast_const().cast(), BLOCKED)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn wake_before_wait_is_remembered_once() {
        let word = ParkWord::new();
        let generation = word.start();
        assert_eq!(word.unpark(generation), Unpark::Nothing);
        assert_eq!(word.unpark(generation), Unpark::Nothing);
        assert!(!word.commit_park(), "the token makes the wait return");
        assert!(word.commit_park(), "two early wake-ups are one token");
        assert_eq!(word.load(), (generation, ParkState::Parked));
    }

    #[test]
    fn only_one_waker_schedules() {
        let word = ParkWord::new();
        let generation = word.start();
        assert!(word.commit_park());
        assert_eq!(word.unpark(generation), Unpark::Schedule);
        assert_eq!(word.unpark(generation), Unpark::Nothing);
        assert!(word.take_token());
        assert!(!word.take_token());
    }

    #[test]
    fn late_waker_of_an_earlier_task_changes_nothing() {
        let word = ParkWord::new();
        let first = word.start();
        word.finish();
        assert_eq!(word.unpark(first), Unpark::Nothing);
        let second = word.start();
        assert_ne!(first, second);
        assert!(word.commit_park());
        assert_eq!(word.unpark(first), Unpark::Nothing);
        assert_eq!(word.load(), (second, ParkState::Parked));
    }

    #[test]
    fn a_task_can_finish_with_a_token_left() {
        let word = ParkWord::new();
        let generation = word.start();
        word.unpark(generation);
        word.finish();
        assert_eq!(word.load(), (generation, ParkState::Dead));
    }

    #[test]
    fn a_seized_task_is_queued_by_its_seizer_only() {
        let word = ParkWord::new();
        let generation = word.start();
        assert!(!word.seize(generation), "it is running");
        assert!(word.commit_park());
        assert!(!word.seize(generation + 1));
        assert!(word.seize(generation));
        assert!(!word.seize(generation), "once");
        assert_eq!(word.load(), (generation, ParkState::Active));
        assert_eq!(word.let_go(generation), Unpark::Nothing);
        assert!(word.seize(generation));
        assert_eq!(word.unpark(generation), Unpark::Nothing);
        assert_eq!(word.unpark(generation), Unpark::Nothing);
        assert_eq!(word.let_go(generation), Unpark::Schedule, "the wake-up is delivered, once");
        assert!(word.commit_park());
        assert!(word.seize(generation));
        assert_eq!(word.unpark(generation), Unpark::Nothing);
        assert_eq!(word.evict(generation), Unpark::Schedule);
        assert!(!word.take_token(), "the wake-up was spent");
    }

    #[test]
    fn blocked_in_place_is_woken_through_the_thread() {
        let word = ParkWord::new();
        let generation = word.start();
        assert!(word.begin_block());
        assert!(word.is_blocked());
        assert_eq!(word.unpark(generation), Unpark::WakeThread);
        assert!(!word.is_blocked());
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    /// One task waits once, two wakers race with it: the task is scheduled exactly once, or never parks.
    #[test]
    fn two_wakers_and_one_wait() {
        crate::sys::model::check(3, 10, || {
            let word = Arc::new(ParkWord::new());
            let generation = word.start();
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let word = word.clone();
                    loom::thread::spawn(move || word.unpark(generation))
                })
                .collect();
            let parked = word.commit_park();
            let scheduled = wakers.into_iter().map(|w| w.join().unwrap()).filter(|u| *u == Unpark::Schedule).count();
            assert_eq!(scheduled, usize::from(parked), "a parked task is scheduled once, a running one never");
        });
    }

    /// A seizer looks at a task that parks, and lets it go or evicts it, while a waker comes: the task is queued by exactly one of
    /// the two if it was woken or evicted, and what the seizer saw while it held the task did not change.
    #[test]
    fn a_seizer_and_a_waker() {
        for evicts in [false, true] {
            crate::sys::model::check(3, 10, move || {
                let word = Arc::new(ParkWord::new());
                let stack = Arc::new(crate::sys::model::Checked::default());
                let generation = word.start();
                let waker = {
                    let word = word.clone();
                    loom::thread::spawn(move || word.unpark(generation))
                };
                let seizer = {
                    let (word, stack) = (word.clone(), stack.clone());
                    loom::thread::spawn(move || {
                        if !word.seize(generation) {
                            return (false, Unpark::Nothing);
                        }
                        // Nobody runs the task, so nobody writes its stack.
                        assert_eq!(stack.read(), 1);
                        (true, if evicts { word.evict(generation) } else { word.let_go(generation) })
                    })
                };
                stack.add(1);
                let mut parked = word.commit_park();
                let woken = waker.join().unwrap();
                let (seized, ended) = seizer.join().unwrap();
                let queued = [woken, ended].iter().filter(|u| **u == Unpark::Schedule).count();
                assert!(!seized || parked);
                if queued == 1 {
                    assert!(parked, "a running task is never queued");
                    // Whoever takes it from the queue runs it.
                    stack.add(1);
                    parked = false;
                }
                assert!(queued <= 1);
                assert!(!parked, "the wake-up was lost");
                assert!(!(seized && evicts) || queued == 1);
            });
        }
    }
}
