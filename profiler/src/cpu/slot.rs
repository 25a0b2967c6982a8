//! Slots: what the handler finds of the thread that it interrupts, by a number that comes with the signal.
//!
//! So the handler needs no thread-local variable, on any thread. Slots are never freed: they are used by one thread after
//! another. A signal that comes late, when the slot is another thread's, must not write into the ring, which has one
//! producer: the slot knows its thread, and the handler compares.

use std::{
    ops::Range,
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use greenprof_runtime::world::WorkerThread;
use parking_lot::Mutex;

use super::ring::Ring;
use crate::signal::context::Registers;

/// Threads that can be sampled at the same time. CPU of further ones is missed, and shown as such.
const MAX_SLOTS: usize = 4096;

static TABLE: [AtomicPtr<Slot>; MAX_SLOTS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_SLOTS];
/// Numbers of slots without a thread, and how many there are in all. Guards who owns a slot.
static UNUSED: Mutex<(Vec<u32>, u32)> = Mutex::new((Vec::new(), 0));

pub(super) struct Slot {
    /// Set while the slot belongs to a thread. The fields below are written before.
    active: AtomicBool,
    /// The kernel's id of the thread.
    thread: AtomicI32,
    worker: AtomicPtr<WorkerThread>,
    stack_low: AtomicUsize,
    stack_high: AtomicUsize,
    /// Where the stack pointer was when it was on no stack that is known, or 0, and the thread pointer then. Written by
    /// the handler, taken by the collector.
    stray_sp: AtomicUsize,
    thread_pointer: AtomicUsize,
    pub(super) ring: Ring,
    /// Weight of the samples for which there was no room.
    pub(super) lost: AtomicU64,
    /// Periods that the samples stand for, whether there was room or not. Written by the handler.
    pub(super) given: AtomicU64,
    /// Nanoseconds for which a sample stands, if its clock does not tell how often it has expired; else 0.
    period: AtomicU64,
    /// The CPU time of the thread, in nanoseconds, up to which such samples account for it. Written by the handler.
    accounted: AtomicU64,
}

/// CPU time of the calling thread, in nanoseconds. May be called in a signal handler.
fn own_cpu_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result; the call is async-signal-safe.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Slot {
    /// Whether the slot belongs to the calling thread.
    pub(super) fn is_mine(&self) -> bool {
        // Acquire: pairs with the Release in `Lease::take`.
        // SAFETY: gettid has no preconditions.
        self.active.load(Ordering::Acquire) && self.thread.load(Ordering::Relaxed) == unsafe { libc::gettid() }
    }

    /// How many periods the calling thread, whose slot it is, has used since it was asked last; at least one, and one
    /// if that is not to be counted.
    pub(super) fn periods_used(&self) -> u32 {
        let period = self.period.load(Ordering::Relaxed);
        if period == 0 {
            return 1;
        }
        let now = own_cpu_time();
        // Relaxed, here and below: only this thread, in the handler, and whoever prepared the slot for it.
        let accounted = self.accounted.load(Ordering::Relaxed);
        let periods = (now.saturating_sub(accounted) / period).max(1);
        // Not beyond now: a clock that ticks faster than this one must not take time from a later sample.
        self.accounted.store((accounted + periods * period).min(now), Ordering::Relaxed);
        u32::try_from(periods).unwrap_or(u32::MAX)
    }

    /// Notes that the thread is on no stack that is known. In the handler.
    pub(super) fn note_stray(&self, registers: &Registers) {
        self.thread_pointer.store(registers.thread_pointer, Ordering::Relaxed);
        // Release: pairs with the Acquire in `take_stray`.
        self.stray_sp.store(registers.sp, Ordering::Release);
    }

    /// The stack pointer and the thread pointer that were noted last, if any were.
    pub(super) fn take_stray(&self) -> Option<(usize, usize)> {
        // Acquire: pairs with the Release in `note_stray`.
        let sp = self.stray_sp.swap(0, Ordering::Acquire);
        (sp != 0).then(|| (sp, self.thread_pointer.load(Ordering::Relaxed)))
    }

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

/// The number of the calling thread's slot.
#[cfg(feature = "bench")]
pub(super) fn own_number() -> Option<u32> {
    let numbers = 0..MAX_SLOTS as u32;
    numbers
        .map_while(|number| Some((number, by_number(number)?)))
        .find(|(_, slot)| slot.is_mine())
        .map(|(number, _)| number)
}

/// A slot that belongs to a thread while it is sampled.
pub(super) struct Lease {
    number: u32,
    slot: &'static Slot,
}

impl Lease {
    /// Takes a slot for a thread. Nothing if all are taken.
    pub(super) fn take(thread: i32, worker: Option<&'static WorkerThread>, stack: Range<usize>) -> Option<Self> {
        let mut unused = UNUSED.lock();
        let number = match unused.0.pop() {
            Some(number) => number,
            None => {
                let number = unused.1;
                let entry = TABLE.get(number as usize)?;
                unused.1 += 1;
                let slot = Box::leak(Box::new(Slot {
                    active: AtomicBool::new(false),
                    thread: AtomicI32::new(0),
                    worker: AtomicPtr::new(ptr::null_mut()),
                    stack_low: AtomicUsize::new(0),
                    stack_high: AtomicUsize::new(0),
                    stray_sp: AtomicUsize::new(0),
                    thread_pointer: AtomicUsize::new(0),
                    ring: Ring::new(),
                    lost: AtomicU64::new(0),
                    given: AtomicU64::new(0),
                    period: AtomicU64::new(0),
                    accounted: AtomicU64::new(0),
                }));
                // Release: pairs with the Acquire in `by_number`.
                entry.store(slot, Ordering::Release);
                number
            }
        };
        let lease = Self { number, slot: by_number(number)? };
        lease.describe(worker, stack);
        lease.slot.thread.store(thread, Ordering::Relaxed);
        lease.slot.given.store(0, Ordering::Relaxed);
        lease.slot.period.store(0, Ordering::Relaxed);
        lease.slot.stray_sp.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `is_mine`.
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

    /// Has the thread's samples stand for all periods that it uses from now on. Before its clock is armed.
    pub(super) fn count_periods(&self, used: Duration, period: Duration) {
        // Relaxed: arming is a system call, and only then the handler comes.
        self.slot.accounted.store(used.as_nanos() as u64, Ordering::Relaxed);
        self.slot.period.store(period.as_nanos() as u64, Ordering::Relaxed);
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
