//! A thread's place in the table: the question whether it is stopped, and its answer.
//!
//! A slot's `answer` decides every race between a handler that comes late and a requester that has given up:
//!
//! ```text
//!               handler, by compare-and-swap
//!   ASKED(stop) ────────────────────────────▶ address of the thread's record, on the stack of its handler
//!         └───── requester, deadline passed ─▶ 0
//! ```
//!
//! The number of the stop is part of ASKED. A signal that arrives in a later stop, or after all, finds another value
//! and changes nothing; so a thread may have any number of old signals pending.

use std::{
    mem, ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use super::signal::Record;
use crate::world::threads::WorkerThread;

pub(super) struct Slot {
    pub(super) thread: AtomicI32,
    pub(super) verdict: AtomicU8,
    /// See the module's documentation.
    pub(super) answer: AtomicU64,
    // The rest belongs to the requester, the verdict too.
    pub(super) place: AtomicU32,
    pub(super) seen: AtomicU32,
    /// What could be found out about a thread that was not stopped.
    pub(super) sp: AtomicUsize,
    pub(super) worker: AtomicPtr<WorkerThread>,
}

/// The value of `answer` while a thread is asked in a stop. Odd, where the address of a record is even.
pub(super) fn asked(stop: u64) -> u64 {
    stop << 1 | 1
}

impl Slot {
    pub(super) fn is_stopped(&self) -> bool {
        self.record().is_some()
    }

    /// What the thread's handler has published. It lives until the world is released.
    pub(super) fn record(&self) -> Option<*const Record> {
        // Acquire: pairs with the Release of the handler's compare-and-swap.
        let answer = self.answer.load(Ordering::Acquire);
        (answer != 0 && answer.is_multiple_of(2)).then(|| ptr::with_exposed_provenance(answer as usize))
    }

    /// Takes the question back. Whether that was in time.
    pub(super) fn withdraw(&self, stop: u64) -> bool {
        // Relaxed: nothing is handed over.
        self.answer.compare_exchange(asked(stop), 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

const _: () = assert!(mem::align_of::<Record>().is_multiple_of(2), "the address of a record is even");
