//! A clock for measuring many short times: the processor's time stamp counter where the kernel trusts it, else
//! `CLOCK_MONOTONIC`. Reading the counter costs a third of what the kernel's clock does.
//!
//! The kernel trusts a counter that runs at one speed, in every state of the processor, and alike on all of them; it says
//! so by using the counter for its own clock. The speed is measured against that clock, once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock;

/// Nanoseconds a tick, times 2^32; 0 as long as a tick is a nanosecond of the kernel's clock. Written once.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// How long the speed is measured: an error of 50 ns at each end is then 10 in a million.
const MEASURED: std::time::Duration = std::time::Duration::from_millis(10);

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks(u64);

impl Ticks {
    /// Now. Whoever calls this must have seen that [`calibrate`] has returned.
    #[inline]
    pub(crate) fn now() -> Self {
        // Relaxed: does not change after `calibrate`.
        Self(if SCALE.load(Ordering::Relaxed) == 0 { clock::now() } else { counter::read() })
    }

    /// The nanoseconds from this moment until another.
    #[inline]
    pub(crate) fn until(self, end: Self) -> u64 {
        let scale = SCALE.load(Ordering::Relaxed);
        // Saturating: two processors may disagree by a few ticks.
        let ticks = end.0.saturating_sub(self.0);
        if scale == 0 { ticks } else { ((u128::from(ticks) * u128::from(scale)) >> 32) as u64 }
    }
}

/// Chooses the clock, and measures its speed. Takes some ten milliseconds, of which it sleeps; to be called once, before
/// the first [`Ticks::now`].
pub(crate) fn calibrate() {
    if !counter::is_trusted() {
        return;
    }
    let begin = pair();
    std::thread::sleep(MEASURED);
    let end = pair();
    let (nanoseconds, ticks) = (end.0 - begin.0, end.1.saturating_sub(begin.1));
    if ticks > 0 {
        let scale = (u128::from(nanoseconds) << 32) / u128::from(ticks);
        SCALE.store(u64::try_from(scale).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Both clocks at about one moment: the reading of three that took the shortest.
fn pair() -> (u64, u64) {
    let reading = |_| {
        let before = counter::read();
        let nanoseconds = clock::now();
        let after = counter::read();
        (after.saturating_sub(before), (nanoseconds, before + (after.saturating_sub(before)) / 2))
    };
    (0..3).map(reading).min().expect("three readings").1
}

#[cfg(all(target_arch = "x86_64", not(loom)))]
mod counter {
    use std::{arch::x86_64, fs};

    #[inline]
    pub(super) fn read() -> u64 {
        // SAFETY: every processor of this architecture has it, and Linux allows it.
        unsafe { x86_64::_rdtsc() }
    }

    pub(super) fn is_trusted() -> bool {
        fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|source| source.trim() == "tsc")
    }
}

#[cfg(not(all(target_arch = "x86_64", not(loom))))]
mod counter {
    pub(super) fn read() -> u64 {
        0
    }

    pub(super) fn is_trusted() -> bool {
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ticks_are_as_long_as_the_kernel_says() {
        calibrate();
        let (begin, ticks) = (clock::now(), Ticks::now());
        std::thread::sleep(Duration::from_millis(20));
        let inside = ticks.until(Ticks::now());
        let outside = clock::now() - begin;
        assert!(inside >= 19_900_000, "{inside}");
        // A thousandth is a hundred times what the calibration may be wrong by.
        assert!(inside <= outside + outside / 1000, "{inside} of {outside}");
    }
}
