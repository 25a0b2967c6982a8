//! The completion word: where a task and whoever joins it agree on the task's end. It lies in the control block.
//!
//! ```text
//!                    ┌──────────── handle dropped ──────▶ DETACHED ── task ─┐
//!                    │                                                      ▼
//!   begin ──▶ RUNNING ◀── gives up ── JOINING ── task ───────────────────▶ DONE
//!              │   │                     ▲                                  ▲
//!              │   └── joiner ▶ CLAIMED ─┘ (the parker is stored)           │
//!              └────────────────────── task ────────────────────────────────┘
//! ```
//!
//! The word carries the task's id, which no other task of the process has. A block is used by one task after another; a
//! handle that finds another id in the word knows that its task has ended. So nothing is kept of a task that has ended, and
//! what its handle needs is never freed.
//!
//! The parker is stored between CLAIMED and JOINING, while the task may not end: a joiner that wrote later would write into
//! what belongs to the block's next task. A task that finds the word CLAIMED waits for those few instructions.

use std::{cell::UnsafeCell, mem::MaybeUninit};

use super::{TaskId, WaitReason, abandon::Lookout, control::On, parker::Parker};
use crate::{
    hooks,
    sys::{
        atomic::{AtomicU64, Ordering},
        clock,
    },
};

const RUNNING: u64 = 0;
const CLAIMED: u64 = 1;
const JOINING: u64 = 2;
const DETACHED: u64 = 3;
const DONE: u64 = 4;

/// Bits of the state; the id is above them.
const STATE_BITS: u32 = 3;

const fn compose(id: u64, state: u64) -> u64 {
    id << STATE_BITS | state
}

const fn state(word: u64) -> u64 {
    word & ((1 << STATE_BITS) - 1)
}

/// How a wait for a task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    TimedOut,
    Abandoned,
}

/// What the end of a task has met.
pub(super) enum Met {
    /// The handle is still there, or has been joined already as far as the word tells.
    Nobody,
    /// The handle was dropped before.
    Detached,
    /// Somebody waits, and is to be unparked.
    Joiner(Parker),
}

pub(crate) struct Completion {
    word: AtomicU64,
    /// Written by the joiner while CLAIMED, read by the task after it has changed JOINING to DONE.
    joiner: UnsafeCell<MaybeUninit<Parker>>,
}

// SAFETY: the word hands the cell from the joiner to the task.
unsafe impl Sync for Completion {}

impl Completion {
    pub(super) fn new() -> Self {
        Self { word: AtomicU64::new(compose(0, DONE)), joiner: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// For the next task. Only the owner of a free control block may call it.
    #[inline]
    pub(super) fn begin(&self, id: u64) {
        // Release: pairs with the Acquire in `is_over`: who sees that the block has moved on sees what its last task did.
        self.word.store(compose(id, RUNNING), Ordering::Release);
    }

    /// Whether the task `id` has ended. Its result is visible then.
    #[inline]
    pub(super) fn is_over(&self, id: u64) -> bool {
        // Acquire: pairs with the Release in `complete` and `begin`.
        let word = self.word.load(Ordering::Acquire);
        word >> STATE_BITS != id || state(word) == DONE
    }

    /// Called once, by the task, when its result is where the handle looks for it.
    #[inline]
    pub(super) fn complete(&self) -> Met {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if state(word) == CLAIMED {
                word = self.wait_for_parker();
            }
            // AcqRel: Release pairs with the Acquire in `is_over`, Acquire with the Release of JOINING.
            let done = compose(word >> STATE_BITS, DONE);
            match self.word.compare_exchange_weak(word, done, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        match state(word) {
            // SAFETY: written before JOINING, and the joiner does not touch it again: it cannot leave JOINING any more.
            JOINING => Met::Joiner(unsafe { (*self.joiner.get()).assume_init() }),
            DETACHED => Met::Detached,
            _ => Met::Nobody,
        }
    }

    /// The word when it is no longer CLAIMED.
    #[cold]
    fn wait_for_parker(&self) -> u64 {
        #[cfg(not(loom))]
        let backoff = crossbeam_utils::Backoff::new();
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if state(word) != CLAIMED {
                return word;
            }
            // The joiner's thread may have lost its processor, so this yields after a while.
            #[cfg(not(loom))]
            backoff.snooze();
            #[cfg(loom)]
            loom::thread::yield_now();
        }
    }

    /// The handle of task `id` is dropped. `false`: the task has ended, and its result is the caller's.
    pub(super) fn detach(&self, id: u64) -> bool {
        let (running, detached) = (compose(id, RUNNING), compose(id, DETACHED));
        // Relaxed: the task learns nothing else. Acquire: pairs with the Release in `complete` and `begin`.
        self.word.compare_exchange(running, detached, Ordering::Relaxed, Ordering::Acquire).is_ok()
    }

    /// Enters the word as the one that waits for task `id`. `false`: the task has ended.
    fn enter(&self, id: u64, parker: Parker) -> bool {
        // Acquire: the parker is not stored before, and on failure as in `is_over`.
        let (running, claimed) = (compose(id, RUNNING), compose(id, CLAIMED));
        if self.word.compare_exchange(running, claimed, Ordering::Acquire, Ordering::Acquire).is_err() {
            return false;
        }
        // SAFETY: while CLAIMED the cell belongs to the joiner, of which there is one: joining takes the handle.
        unsafe { (*self.joiner.get()).write(parker) };
        // Release: pairs with the Acquire in `complete`. A swap because loom orders no plain store with the task's change.
        self.word.swap(compose(id, JOINING), Ordering::Release);
        true
    }

    /// The joiner gives up, or who has seized it does so for it. `false`: the task has been faster.
    pub(super) fn withdraw(&self, id: u64) -> bool {
        // Relaxed: only the joiner leaves and enters JOINING. Acquire: as in `is_over`.
        let (joining, running) = (compose(id, JOINING), compose(id, RUNNING));
        self.word.compare_exchange(joining, running, Ordering::Relaxed, Ordering::Acquire).is_ok()
    }

    /// Waits for the end of task `id`, of `deadline`, or of the runtime that the lookout watches.
    pub(super) fn wait(&self, id: u64, parker: Parker, deadline: Option<u64>, lookout: Option<Lookout>) -> End {
        self.wait_on(On::end_of(TaskId(id)), id, parker, deadline, lookout)
    }

    /// Waits for the end of task `id`, whatever happens: it uses what the caller has lent.
    pub(super) fn wait_lending(&self, id: u64, parker: Parker) -> End {
        self.wait_on(On::end_of(TaskId(id)).lending(), id, parker, None, None)
    }

    fn wait_on(&self, on: On, id: u64, parker: Parker, deadline: Option<u64>, lookout: Option<Lookout>) -> End {
        if !self.enter(id, parker) {
            return End::Done;
        }
        let wait = hooks::wait_begin(parker, WaitReason::Join);
        let end = loop {
            if self.is_over(id) {
                break End::Done;
            }
            let give_up = if lookout.as_ref().is_some_and(Lookout::has_ended) {
                End::Abandoned
            } else if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                End::TimedOut
            } else {
                match deadline {
                    None => parker.park(WaitReason::Join, on),
                    Some(deadline) => parker.park_until(WaitReason::Join, on, deadline),
                }
                continue;
            };
            break if self.withdraw(id) { give_up } else { End::Done };
        };
        hooks::wait_end(wait, WaitReason::Join);
        end
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::sys::model::{Checked, check};
    use loom::{sync::Arc, thread};

    /// Ends task `id`, whose result it makes.
    fn end(completion: &Completion, result: &Checked, id: u64) {
        result.add(id as u32);
        if let Met::Joiner(parker) = completion.complete() {
            parker.unpark();
        }
    }

    /// Two tasks use the block one after the other, and each is waited for by somebody else. Each joiner is woken, and reads
    /// what its own task made.
    #[test]
    fn each_joiner_waits_for_its_own_task() {
        check(3, 10_000, || {
            let completion = Arc::new(Completion::new());
            let results = Arc::new([(); 2].map(|()| Checked::default()));
            completion.begin(1);
            let worker = {
                let (completion, results) = (completion.clone(), results.clone());
                thread::spawn(move || {
                    end(&completion, &results[0], 1);
                    completion.begin(2);
                    let second = {
                        let (completion, results) = (completion.clone(), results.clone());
                        thread::spawn(move || {
                            assert_eq!(completion.wait(2, Parker::current(), None, None), End::Done);
                            assert_eq!(results[1].read(), 2);
                        })
                    };
                    end(&completion, &results[1], 2);
                    second.join().unwrap();
                })
            };
            assert_eq!(completion.wait(1, Parker::current(), None, None), End::Done);
            assert_eq!(results[0].read(), 1);
            worker.join().unwrap();
        });
    }

    /// A joiner whose time is over leaves, and the handle is dropped; the task and the handle agree on who has the result.
    #[test]
    fn a_result_has_one_owner() {
        check(3, 200, || {
            let completion = Arc::new(Completion::new());
            let result = Arc::new(Checked::default());
            completion.begin(1);
            let worker = {
                let (completion, result) = (completion.clone(), result.clone());
                thread::spawn(move || {
                    result.add(1);
                    match completion.complete() {
                        Met::Joiner(parker) => parker.unpark(),
                        Met::Detached => result.add(1),
                        Met::Nobody => {}
                    }
                })
            };
            let ended = completion.wait(1, Parker::current(), Some(clock::now()), None) == End::Done;
            if ended || !completion.detach(1) {
                assert!(completion.is_over(1));
                result.add(1);
            }
            worker.join().unwrap();
            assert_eq!(result.read(), 2);
        });
    }
}
