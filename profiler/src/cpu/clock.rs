//! What interrupts the threads: timers, or perf events for rates that timers do not reach.

use std::{fmt, io, time::Duration};

use nix::{sys::timer::Timer, time::ClockId};

use super::{
    StartError,
    perf::{self, Event, Reach},
    threads,
};

/// Which clock is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// Timers below the rate of the kernel's tick, perf events from there on where they are permitted. (At the tick's own rate a
    /// timer misses some ticks by a little, and one stack stands for two expiries.)
    #[default]
    Auto,
    /// `timer_create` on each thread's CPU clock. At high rates one stack stands for several expiries.
    Timers,
    /// `perf_event_open`, one event and so one file descriptor a thread.
    PerfEvents,
}

/// Which clock is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Timers on the threads' CPU clocks.
    #[default]
    Timers,
    /// Perf events.
    PerfEvents,
    /// Perf events that may not look at the kernel's time: it is in the profile as a sample without a stack.
    PerfEventsInUserMode,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timers => "timers",
            Self::PerfEvents => "perf events",
            Self::PerfEventsInUserMode => "perf events in user mode",
        })
    }
}

impl Source {
    fn reach(self) -> Option<Reach> {
        match self {
            Self::Timers => None,
            Self::PerfEvents => Some(Reach::Everything),
            Self::PerfEventsInUserMode => Some(Reach::User),
        }
    }
}

/// The clock for a rate, and why it is not perf events if they would have been better.
pub(super) fn choose(asked: Clock, hz: u32) -> Result<(Source, Option<String>), StartError> {
    if asked == Clock::Timers || (asked == Clock::Auto && hz < ticks_per_second()) {
        return Ok((Source::Timers, None));
    }
    match perf::permitted() {
        Ok(Reach::Everything) => Ok((Source::PerfEvents, None)),
        Ok(Reach::User) => Ok((Source::PerfEventsInUserMode, None)),
        Err(error) if asked == Clock::Auto => Ok((Source::Timers, Some(error.to_string()))),
        Err(error) => Err(StartError::Unavailable(format!(
            "perf events are not permitted ({error}): choose timers, or give the process CAP_PERFMON"
        ))),
    }
}

/// How often the kernel looks at timers: the coarse clock advances in its tick.
fn ticks_per_second() -> u32 {
    /// Where the kernel does not say: its default.
    const USUAL: u32 = 250;
    let tick = nix::time::clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from).unwrap_or_default();
    u32::try_from(1_000_000_000_u128.checked_div(tick.as_nanos()).unwrap_or_default())
        .ok()
        .filter(|ticks| *ticks > 0)
        .unwrap_or(USUAL)
}

/// What interrupts one thread, until it is dropped.
pub(super) enum Armed {
    Timer(#[expect(dead_code, reason = "held for its drop")] Timer),
    Event(Event),
}

impl Armed {
    /// Arms what `source` says, or a timer for a thread for which there is no event.
    pub(super) fn new(source: Source, thread: i32, slot: u32, first: Duration, period: Duration) -> io::Result<Self> {
        if let Some(reach) = source.reach()
            && let Ok(event) = Event::arm(thread, slot, period, reach)
        {
            return Ok(Self::Event(event));
        }
        Ok(Self::Timer(threads::arm(thread, slot, first, period)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_has_a_rate() {
        assert!((100..=1000).contains(&ticks_per_second()), "{}", ticks_per_second());
    }

    #[test]
    fn low_rates_and_who_asks_for_them_get_timers() {
        for (asked, hz) in [(Clock::Auto, 1), (Clock::Auto, ticks_per_second() - 1), (Clock::Timers, 1000)] {
            assert_eq!(choose(asked, hz).unwrap(), (Source::Timers, None));
        }
        let (source, why) = choose(Clock::Auto, 4000).unwrap();
        assert_eq!(source == Source::Timers, why.is_some(), "timers from the tick on have a reason");
    }
}
