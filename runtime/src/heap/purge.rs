//! Giving memory back to the system.
//!
//! A dirty run is given back when it has been free for [`DELAY`], or at once if dirty runs together exceed what
//! [`allowed`] says. Threads that come along, allocating or freeing, look at a coarse clock now and then ([`tick`]). For a
//! heap that nobody uses the monitor of each runtime does so ([`tend`]); without a runtime a program that stops using its
//! heap altogether keeps what it had freed last, see [`release`](super::release). The delay as hysteresis is that of
//! jemalloc's and mimalloc's purging.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{
    central,
    classes::{PAGE, PAGE_SHIFT},
    pages::{Figures, PAGE_HEAP, PageHeap},
    range,
    span::NONE,
};

/// Milliseconds that a run stays dirty: longer than one request of a server, shorter than anybody looks at a graph.
const DELAY: u32 = 500;
/// Milliseconds between two rounds.
const INTERVAL: u32 = 100;
/// Bytes that a thread which happens to come along gives back in one round at most, to bound what it is held up.
const PORTION: usize = 64 << 20;

/// When the next round is due; 0 at the start, which is always due.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// The system did not take a run back: the program has locked its memory. Relaxed: a hint.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// How many dirty pages there may be at once.
fn allowed(figures: &Figures) -> usize {
    figures.used / 4 + (32 << 20) / PAGE
}

/// Milliseconds of a clock that costs a few nanoseconds. It wraps after 49 days; only differences count.
pub(super) fn now() -> u32 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer, which the vdso writes.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    (time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000) as u32
}

impl PageHeap {
    /// Appends a dirty run to the list by age.
    pub(super) fn note_age(&mut self, run: usize) {
        let span = range::span(run);
        span.since.store(now(), Ordering::Relaxed);
        span.younger.store(NONE, Ordering::Relaxed);
        span.older.store(self.youngest, Ordering::Relaxed);
        if self.youngest == NONE {
            self.oldest = run as u32;
        } else {
            range::span(self.youngest as usize).younger.store(run as u32, Ordering::Relaxed);
        }
        self.youngest = run as u32;
    }

    pub(super) fn forget_age(&mut self, run: usize) {
        let span = range::span(run);
        let (younger, older) = (span.younger.load(Ordering::Relaxed), span.older.load(Ordering::Relaxed));
        if older == NONE {
            self.oldest = younger;
        } else {
            range::span(older as usize).younger.store(younger, Ordering::Relaxed);
        }
        if younger == NONE {
            self.youngest = older;
        } else {
            range::span(younger as usize).older.store(older, Ordering::Relaxed);
        }
    }

    /// The oldest dirty run if it is time to give it back, taken out of its lists.
    fn due(&mut self, now: u32, all: bool) -> Option<usize> {
        let run = self.oldest as usize;
        if run == NONE as usize {
            return None;
        }
        let age = now.wrapping_sub(range::span(run).since.load(Ordering::Relaxed));
        // A run of a moment ago, by a thread whose clock was read later, has a huge age: it is not due for that.
        let due = all || (DELAY..u32::MAX / 2).contains(&age) || self.figures.dirty > allowed(&self.figures);
        if !due {
            return None;
        }
        self.unlink(run);
        Some(run)
    }
}

/// Gives dirty runs back: those that are due, or all.
pub(super) fn purge(all: bool) {
    let now = now();
    let mut portion = 0;
    while all || portion < PORTION {
        let Some(run) = PAGE_HEAP.lock().due(now, all) else { break };
        let pages = range::span(run).length();
        // Outside the lock: giving a gigabyte back takes long.
        // SAFETY: the run is in no list and in nobody's hands.
        let given = unsafe {
            libc::madvise(range::address(run) as *mut libc::c_void, pages << PAGE_SHIFT, libc::MADV_DONTNEED) == 0
        };
        let mut heap = PAGE_HEAP.lock();
        heap.insert(run, given);
        REFUSED.store(!given, Ordering::Relaxed);
        if !given {
            // Memory that the program has locked (`mlockall`) stays, and does not read as zero.
            return;
        }
        heap.figures.returned += pages as u64;
        portion += pages << PAGE_SHIFT;
    }
}

/// Called now and then by threads that are off the fast path anyway.
pub(super) fn tick() {
    let now = now();
    let next = NEXT.load(Ordering::Relaxed);
    if (next == 0 || now.wrapping_sub(next) < u32::MAX / 2)
        // Relaxed: only decides who does the round.
        && NEXT.compare_exchange(next, now.wrapping_add(INTERVAL), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        central::trim(false);
        purge(false);
    }
}

/// A round if one is due, for a runtime's monitor: the threads that use the heap may all be idle. A few ns if none is.
pub(crate) fn tend() {
    if range::base() != 0 {
        tick();
    }
}

/// Whether [`tend`] would find something to give back, now or when it is old enough. Without that, and while nobody uses the
/// heap, it need not be called again.
pub(crate) fn has_excess() -> bool {
    range::base() != 0
        && (central::is_unsettled() || !REFUSED.load(Ordering::Relaxed) && PAGE_HEAP.lock().figures.dirty > 0)
}

/// Gives back at once if there is much more than should be.
pub(super) fn relieve(figures: &Figures) {
    if figures.dirty > allowed(figures) {
        purge(false);
    }
}
