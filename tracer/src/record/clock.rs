//! The clock of events: the processor's time stamp counter where the kernel itself relies on it, else the system's clock.
//!
//! A counter is read in a third of the time that a system clock takes. What it says is converted to nanoseconds of
//! `CLOCK_MONOTONIC` by the thread that reads the events, which compares both clocks all the time ([`Scale`]).

use std::{
    fs,
    sync::{
        Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Whether the counter of the processor is used. Written before the first event.
static COUNTER: AtomicBool = AtomicBool::new(false);

/// What the clock was at the first use, so that times of events fit the bits that they have.
static BASE: AtomicU64 = AtomicU64::new(0);

/// Decides which clock is used, once.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Relaxed: whoever records an event was told to do so after this, by a hook's installation.
        COUNTER.store(counter_is_steady(), Ordering::Relaxed);
        BASE.store(raw(), Ordering::Relaxed);
    });
}

/// The kernel takes the counter for its own clock only if it runs at one rate, on all processors alike.
fn counter_is_steady() -> bool {
    if cfg!(target_arch = "aarch64") {
        return true; // the generic timer is, by its definition
    }
    fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .is_ok_and(|name| name.trim() == "tsc")
}

#[inline(always)]
fn raw() -> u64 {
    // Relaxed: as in `prepare`.
    if COUNTER.load(Ordering::Relaxed) { counter() } else { monotonic() }
}

#[inline(always)]
#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: every x86_64 processor has the instruction, and Linux lets programs use it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[inline(always)]
#[cfg(target_arch = "aarch64")]
fn counter() -> u64 {
    let ticks;
    // SAFETY: reads a register that Linux lets programs read.
    unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970.
pub(crate) fn wall() -> u64 {
    read(libc::CLOCK_REALTIME)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result, and both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The time of an event that happens now, in ticks. [`prepare`] must have been called once.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    // Relaxed: as in `prepare`.
    raw().wrapping_sub(BASE.load(Ordering::Relaxed))
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Pair {
    ticks: u64,
    nanoseconds: u64,
}

impl Pair {
    /// The best of a few readings: that during which least time has passed.
    fn read() -> Self {
        let reading = |_| {
            let before = ticks();
            let nanoseconds = monotonic();
            let took = ticks().saturating_sub(before);
            (took, Self { ticks: before + took / 2, nanoseconds })
        };
        (0..4).map(reading).min_by_key(|(took, _)| *took).expect("four readings").1
    }
}

/// Bits behind the point of a rate.
const FRACTION: u32 = 32;

/// How long the rate is measured before the first event is converted.
const FIRST_MEASURE: Duration = Duration::from_millis(2);

/// Within what time an error of the conversion is made good.
const SLEW: f64 = 1e9;

/// Converts ticks to nanoseconds of `CLOCK_MONOTONIC`, without steps: the rate is corrected, the time never set.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    first: Pair,
    /// From here on `rate` is valid. In `nanoseconds` is what the conversion gives there, not what the clock said.
    from: Pair,
    /// Nanoseconds a tick, with `FRACTION` bits behind the point.
    rate: u64,
}

impl Scale {
    /// Measures the rate, which takes some milliseconds.
    pub(crate) fn measure() -> Self {
        let first = Pair::read();
        std::thread::sleep(FIRST_MEASURE);
        let mut scale = Self { first, from: first, rate: 1 << FRACTION };
        scale.rate = scale.fixed(scale.slope(Pair::read()));
        scale
    }

    fn slope(&self, now: Pair) -> f64 {
        let ticks = now.ticks.saturating_sub(self.first.ticks).max(1);
        now.nanoseconds.saturating_sub(self.first.nanoseconds) as f64 / ticks as f64
    }

    fn fixed(&self, rate: f64) -> u64 {
        (rate * (1_u64 << FRACTION) as f64) as u64
    }

    /// Compares the clocks and corrects the rate. Times before now must have been converted already, or they come out
    /// by the new rate, which differs by less than the error of the old.
    pub(crate) fn adjust(&mut self) {
        let now = Pair::read();
        let ours = self.nanoseconds(now.ticks);
        let error = now.nanoseconds as f64 - ours as f64;
        // Bounded: after a suspension the clocks may differ by hours, and time must not go backwards.
        let correction = 1.0 + (error / SLEW).clamp(-0.01, 0.01);
        self.rate = self.fixed(self.slope(now) * correction);
        self.from = Pair { ticks: now.ticks, nanoseconds: ours };
    }

    /// Ticks of so many nanoseconds.
    pub(crate) fn ticks(&self, nanoseconds: u64) -> u64 {
        u64::try_from((u128::from(nanoseconds) << FRACTION) / u128::from(self.rate.max(1))).unwrap_or(u64::MAX)
    }

    /// A time in nanoseconds.
    #[inline]
    pub(crate) fn nanoseconds(&self, ticks: u64) -> u64 {
        let scaled = |ticks: u64| ((u128::from(ticks) * u128::from(self.rate)) >> FRACTION) as u64;
        match ticks.checked_sub(self.from.ticks) {
            Some(after) => self.from.nanoseconds + scaled(after),
            None => self.from.nanoseconds.saturating_sub(scaled(self.from.ticks - ticks)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_of_the_monotonic_clock() {
        prepare();
        let mut scale = Scale::measure();
        for _ in 0..20 {
            let before = monotonic();
            let now = scale.nanoseconds(ticks());
            let after = monotonic();
            // The rate was measured over two milliseconds or more, each end to some microseconds on a busy machine.
            let slack = 1_000_000;
            assert!(now + slack > before && now < after + slack, "{before} {now} {after}");
            scale.adjust();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_adjustment_makes_no_step() {
        prepare();
        let mut scale = Scale::measure();
        for _ in 0..50 {
            let before = scale.clone();
            scale.adjust();
            let at = scale.from.ticks;
            assert_eq!(before.nanoseconds(at), scale.nanoseconds(at));
            assert!(scale.nanoseconds(at) <= scale.nanoseconds(at + 1));
        }
    }
}
