//! Slots: what the handler finds of the thread that it interrupts, by a number that comes with the signal.
//!
//! So the handler needs no thread-local variable and no system call, on any thread. Slots are never freed: they are used
//! by one thread after another, and a late signal finds an inactive slot or, at worst, counts for the next thread.

use std::{
    ops::Range,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
};

use greenprof_runtime::world::WorkerThread;
use parking_lot::Mutex;

use super::ring::Ring;

/// Threads that can be sampled at the same time. CPU of further ones is missed, and shown as such.
const MAX_SLOTS: usize = 4096;

static TABLE: [AtomicPtr<Slot>; MAX_SLOTS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_SLOTS];
/// Numbers of slots without a thread, and how many there are in all. Guards who owns a slot.
static UNUSED: Mutex<(Vec<u32>, u32)> = Mutex::new((Vec::new(), 0));

pub(super) struct Slot {
    /// Set while the slot belongs to a thread. The fields below are written before.
    pub(super) active: AtomicBool,
    worker: AtomicPtr<WorkerThread>,
    stack_low: AtomicUsize,
    stack_high: AtomicUsize,
    pub(super) ring: Ring,
    /// Weight of the samples for which there was no room.
    pub(super) lost: AtomicU64,
}

impl Slot {
    pub(super) fn worker(&self) -> Option<&WorkerThread> {
        // SAFETY: null, or a worker's record, which is never freed.
        unsafe { self.worker.load(Ordering::Relaxed).as_ref() }
    }

    /// The thread's own stack; empty if it is not known.
    pub(super) fn stack(&self) -> Range<usize> {
        self.stack_low.load(Ordering::Relaxed)..self.stack_high.load(Ordering::Relaxed)
    }
}

/// The slot of a number that a signal has brought.
pub(super) fn by_number(number: u32) -> Option<&'static Slot> {
    // SAFETY: null, or a leaked slot. Acquire: pairs with the Release in `Lease::take`.
    unsafe { TABLE.get(number as usize)?.load(Ordering::Acquire).as_ref() }
}

/// A slot that belongs to a thread while it is sampled.
pub(super) struct Lease {
    number: u32,
    slot: &'static Slot,
}

impl Lease {
    /// Takes a slot for a thread. Nothing if all are taken.
    pub(super) fn take(worker: Option<&'static WorkerThread>, stack: Range<usize>) -> Option<Self> {
        let mut unused = UNUSED.lock();
        let number = match unused.0.pop() {
            Some(number) => number,
            None => {
                let number = unused.1;
                let entry = TABLE.get(number as usize)?;
                unused.1 += 1;
                let slot = Box::leak(Box::new(Slot {
                    active: AtomicBool::new(false),
                    worker: AtomicPtr::new(ptr::null_mut()),
                    stack_low: AtomicUsize::new(0),
                    stack_high: AtomicUsize::new(0),
                    ring: Ring::new(),
                    lost: AtomicU64::new(0),
                }));
                // Release: pairs with the Acquire in `by_number`.
                entry.store(slot, Ordering::Release);
                number
            }
        };
        let lease = Self { number, slot: by_number(number)? };
        lease.describe(worker, stack);
        // Release: pairs with the Acquire in the handler.
        lease.slot.active.store(true, Ordering::Release);
        Some(lease)
    }

    /// Says whose slot it is. Also while it is in use: a thread may turn out to be a worker after it was found.
    pub(super) fn describe(&self, worker: Option<&'static WorkerThread>, stack: Range<usize>) {
        let slot = self.slot;
        // Relaxed: each by itself is right for the thread, whichever the handler sees.
        slot.stack_low.store(stack.start, Ordering::Relaxed);
        slot.stack_high.store(stack.end, Ordering::Relaxed);
        slot.worker.store(worker.map_or(ptr::null_mut(), |w| ptr::from_ref(w).cast_mut()), Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn slot(&self) -> &'static Slot {
        self.slot
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What is left in the ring belongs to nobody.
        self.slot.active.store(false, Ordering::SeqCst);
        let mut stack = Vec::new();
        while self.slot.ring.read(&mut stack).is_some() {}
        self.slot.lost.store(0, Ordering::Relaxed);
        UNUSED.lock().0.push(self.number);
    }
}
