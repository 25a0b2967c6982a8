//! Monotonic time in nanoseconds, precise or coarse.

#[cfg(loom)]
pub(crate) use mock::now;
#[cfg(loom)]
pub(super) use mock::runs;
#[cfg(all(test, loom))]
pub(crate) use mock::set;

/// `CLOCK_MONOTONIC` in nanoseconds. Some 20 ns through the vDSO.
#[cfg(not(loom))]
pub(crate) fn now() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_MONOTONIC_COARSE` in nanoseconds: as of the last kernel tick (4 ms at 250 Hz), and a few times cheaper.
pub(crate) fn coarse() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// The precise time that will be `duration` from now.
pub(crate) fn after(duration: std::time::Duration) -> u64 {
    now().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// The CPU time that a thread of this process has used, in nanoseconds; nothing if there is no such thread.
pub(crate) fn thread_cpu(thread: i32) -> Option<u64> {
    // How the kernel makes a clock's id from a thread's: a per-thread clock (4) of scheduler time (2).
    let clock = !thread << 3 | 4 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; the kernel refuses a clock that does not exist.
    let known = unsafe { libc::clock_gettime(clock, &mut time) } == 0;
    known.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result, and both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The clock of a model: it moves when it is looked at, or not at all, so that each execution can be repeated.
#[cfg(loom)]
mod mock {
    use std::cell::Cell;

    // Not loom's: all threads of a model run on one thread, and share it.
    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
        static STEP: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn now() -> u64 {
        NOW.set(NOW.get() + STEP.get());
        NOW.get()
    }

    /// Whether time passes. While it does, a wait with a timeout ends at once.
    pub(crate) fn runs() -> bool {
        STEP.get() > 0
    }

    /// The time, and by how much each look moves it.
    #[cfg(test)]
    pub(crate) fn set(now: u64, step: u64) {
        NOW.set(now);
        STEP.set(step);
    }
}
