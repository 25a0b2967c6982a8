//! The CPU profiler: where the process spends its processor time, by stack and by task labels.
//!
//! Every thread of the process gets a timer on its own CPU clock (`timer_create` on the thread's clock with
//! `SIGEV_THREAD_ID`), as Go does for its threads since 1.18, or a perf event where the rate is that of the kernel's tick or above
//! ([`Clock`]). At each expiry the kernel interrupts that very thread; the handler walks the interrupted stack into
//! the thread's `ring`, and the `collector` thread sums equal stacks. Nothing is symbolized before the profile is written.
//!
//! # What the numbers mean
//! - The kernel looks at CPU timers in its tick (250 times a second on many systems), so an expiry can be late; the ones
//!   missed meanwhile are reported with it, and the sample's *weight* is one plus their number. So timers at rates above
//!   the tick give the right sum, from fewer stacks. Perf events give a stack for each period; the comments state the
//!   rate that was asked for and the one that was reached.
//! - The first expiry of each thread's timer is at a random point of the period, so that threads that live shorter than a period
//!   are counted without bias, and threads that start together are not sampled together.
//! - Threads are looked for while the profile runs; CPU of a thread that came and went in between is missed. The profile's
//!   comments state the process's CPU time beside the sampled one, and how many samples were lost or truncated.
//!
//! # Costs
//! Some microseconds a sample: two switches into the kernel, and about 5 ns a frame. At 100 Hz that is well under a
//! thousandth of a busy thread. 64 KiB for each thread's ring while the profile runs; with perf events also a file
//! descriptor.

mod clock;
mod collector;
mod perf;
mod report;
mod ring;
mod slot;
mod threads;

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU32, Ordering},
};

use thiserror::Error;

pub use clock::{Clock, Source};
pub use report::Summary;
pub(crate) use report::lost;

use crate::{
    http::{self, CaptureError, CaptureSession, Length, Query},
    profile::{Profile, ProfileError, encode},
    signal::{
        self,
        context::Registers,
        stack::{self, Completeness, Place},
    },
    symbolize,
};
use collector::Collector;
use greenprof_runtime::heap;
use slot::Slot;

/// Samples a second of CPU time when nothing else is said; Go's rate.
pub const DEFAULT_HZ: u32 = 100;

/// The highest rate. A sample costs some microseconds, so this is some thousandths of a busy thread.
pub const MAX_HZ: u32 = 1000;

/// The rate of profiles that are asked for over the port.
static PORT_HZ: AtomicU32 = AtomicU32::new(DEFAULT_HZ);

/// Frames kept of each stack.
const MAX_FRAMES: usize = 128;

/// Why no CPU profile could be started.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is one CPU profiler per process, and it is busy.
    #[error("cpu profiling already in use")]
    Busy,
    /// A rate outside the range.
    #[error("a rate of {0} Hz was asked for: choose between 1 and {MAX_HZ}")]
    Rate(u32),
    /// The signal or the timers cannot be had.
    #[error("{0}")]
    Unavailable(String),
}

/// A CPU profile being taken. Dropping it stops the sampling.
pub struct Session {
    collector: Collector,
    /// Why the clock is not the one that would have been better.
    fallback: Option<String>,
}

/// A finished CPU profile.
///
/// ```
/// use greenprof_profiler::cpu;
///
/// let session = cpu::start(1000)?;
/// let began = std::time::Instant::now();
/// while began.elapsed().as_millis() < 50 {} // busy
/// let cpu::Capture { profile, summary, .. } = session.stop();
/// assert_eq!(profile.sample_types[1].kind, "cpu");
/// println!("{} samples of {:?} of CPU, {} lost", summary.samples, summary.process_cpu, summary.lost);
/// # Ok::<(), greenprof_profiler::cpu::StartError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Capture {
    /// The samples, with a summary in the comments.
    pub profile: Profile,
    /// What was lost, missed or truncated.
    pub summary: Summary,
}

/// Starts sampling all threads of the process, `hz` times per second of CPU time, by the clock that suits the rate.
///
/// # Errors
/// See [`StartError`].
///
/// # Examples
/// ```
/// use greenprof_profiler::{cpu, profile::encode, symbolize};
///
/// let session = cpu::start(cpu::DEFAULT_HZ)?;
/// let sum: u64 = (0..1_000_000_u64).map(std::hint::black_box).sum();
/// let capture = session.stop();
/// let file = encode::encode(&capture.profile, &mut symbolize::shared().lock())?;
/// std::fs::write(std::env::temp_dir().join(format!("cpu-{sum}.pb.gz")), file)?;
/// # std::fs::remove_file(std::env::temp_dir().join(format!("cpu-{sum}.pb.gz")))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn start(hz: u32) -> Result<Session, StartError> {
    start_with(hz, Clock::Auto)
}

/// As [`start`], by a clock of one's choice.
///
/// ```
/// use greenprof_profiler::cpu::{self, Clock, Source, StartError};
///
/// let session = cpu::start_with(100, Clock::Timers)?;
/// assert!(matches!(cpu::start(100), Err(StartError::Busy)), "one at a time");
/// assert_eq!(session.stop().summary.source, Source::Timers);
/// # Ok::<(), StartError>(())
/// ```
///
/// # Errors
/// See [`StartError`]. Perf events that are not permitted are an error only if they were asked for.
pub fn start_with(hz: u32, clock: Clock) -> Result<Session, StartError> {
    if !(1..=MAX_HZ).contains(&hz) {
        return Err(StartError::Rate(hz));
    }
    signal::install().map_err(|error| StartError::Unavailable(error.to_string()))?;
    let (source, fallback) = clock::choose(clock, hz)?;
    Ok(Session { collector: Collector::start(hz, source)?, fallback })
}

impl Session {
    /// Stops sampling and gives the profile.
    pub fn stop(self) -> Capture {
        heap::untracked(|| report::build(self.collector.stop(), self.fallback))
    }
}

/// What the timer of the calling thread sends along with its signals; nothing if it has none. For the benches, which send such signals
/// themselves; no part of the API.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub fn signal_value() -> Option<usize> {
    slot::own_number().map(signal::value_for)
}

/// The handler's part when a timer has expired, and as many times more as `overrun` says.
pub(crate) fn tick(number: u32, overrun: u32, registers: &Registers) {
    if let Some(slot) = slot::by_number(number)
        && slot.is_mine()
    {
        sample(slot, 1 + overrun, registers);
    }
}

/// The handler's part when a perf event has overflowed.
pub(crate) fn overflow(descriptor: i32, registers: &Registers) {
    if let Some(slot) = perf::slot_of(descriptor).and_then(slot::by_number)
        && slot.is_mine()
    {
        sample(slot, slot.periods_used(), registers);
    }
}

/// Takes one sample of the calling thread, whose slot it is.
fn sample(slot: &Slot, weight: u32, registers: &Registers) {
    // Relaxed: read when the thread's clock has been stopped.
    slot.given.fetch_add(weight.into(), Ordering::Relaxed);
    let place = Place::find(registers, slot.worker(), &slot.stack());
    if place.stack.is_empty() {
        slot.note_stray(registers);
    }
    let Some(mut sample) = slot.ring.begin() else {
        slot.lost.fetch_add(weight.into(), Ordering::Relaxed);
        return;
    };
    // SAFETY: this is called in the handler, and the place is that of the registers.
    let completeness = unsafe {
        stack::walk(registers, &place, |address| {
            if sample.push(address) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    };
    sample.finish(ring::Header {
        weight,
        labels: place.labels,
        on_task: place.task.is_some(),
        broken: completeness == Completeness::Broken,
        cut: completeness == Completeness::Cut,
    });
}

/// The CPU profile as the port offers it.
///
/// ```
/// use greenprof_profiler::{cpu::CpuProfile, http::{Capture, Query}, profile::encode};
///
/// let session = CpuProfile.start(&Query::parse("hz=50"))?;
/// let file = session.finish()?; // as `go tool pprof` reads it
/// assert_eq!(encode::decode(&file)?.sample_type.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuProfile;

impl http::Capture for CpuProfile {
    fn name(&self) -> &str {
        "profile"
    }

    fn description(&self) -> &str {
        "CPU profile of the next 30 seconds; seconds=N takes another length, hz=N another rate."
    }

    fn length(&self) -> Length {
        Length::Whole(30)
    }

    fn activity(&self) -> &str {
        "CPU profiling"
    }

    fn start(&self, query: &Query) -> Result<Box<dyn CaptureSession>, CaptureError> {
        let hz = match query.get("hz").filter(|text| !text.is_empty()) {
            None => Some(PORT_HZ.load(Ordering::Relaxed)),
            Some(text) => text.parse().ok().filter(|hz| (1..=MAX_HZ).contains(hz)),
        };
        let Some(hz) = hz else {
            return Err(CaptureError::BadRequest(format!(
                "invalid value for \"hz\" - must be an integer from 1 to {MAX_HZ}"
            )));
        };
        match start(hz) {
            Ok(session) => Ok(Box::new(session)),
            Err(StartError::Busy) => Err(CaptureError::Busy("cpu profiling already in use")),
            Err(error) => Err(CaptureError::Failed(error.to_string())),
        }
    }
}

impl CaptureSession for Session {
    fn finish(self: Box<Self>) -> Result<Vec<u8>, ProfileError> {
        heap::untracked(|| encode::encode(&self.stop().profile, &mut symbolize::shared().lock()))
    }
}

/// The rate of the CPU profiles that the port takes, as a number that can be set there.
///
/// ```
/// use greenprof_profiler::{cpu::CpuRate, http::Rate};
///
/// assert_eq!((CpuRate.name(), CpuRate.get()), ("cpu_hertz", 100));
/// CpuRate.set(200)?;
/// assert_eq!(CpuRate.get(), 200);
/// assert!(CpuRate.check(1_000_000).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuRate;

impl http::Rate for CpuRate {
    fn name(&self) -> &str {
        "cpu_hertz"
    }

    fn description(&self) -> &str {
        "samples a second of CPU time, for the next profiles"
    }

    fn get(&self) -> u64 {
        PORT_HZ.load(Ordering::Relaxed).into()
    }

    fn check(&self, value: u64) -> Result<(), String> {
        let good = (1..=u64::from(MAX_HZ)).contains(&value);
        if good { Ok(()) } else { Err(format!("choose between 1 and {MAX_HZ}")) }
    }

    fn set(&self, value: u64) -> Result<(), String> {
        PORT_HZ.store(u32::try_from(value).unwrap_or(MAX_HZ), Ordering::Relaxed);
        Ok(())
    }
}
