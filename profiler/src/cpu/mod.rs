//! The CPU profiler: where the process spends its processor time, by stack and by task labels.
//!
//! Every thread of the process gets a timer on its own CPU clock (`timer_create` on the thread's clock with
//! `SIGEV_THREAD_ID`), as Go does for its threads since 1.18. At each expiry the kernel interrupts that very thread; the
//! handler (`tick`) walks the frame pointers of the interrupted stack into the thread's `ring`, and the
//! `collector` thread sums equal stacks. Nothing is symbolized before the profile is written.
//!
//! # What the numbers mean
//! - The kernel looks at CPU timers in its tick (250 times a second on many systems), so an expiry can be late; the ones
//!   missed meanwhile are reported with it, and the sample's *weight* is one plus their number. Rates above the tick give
//!   the right sum, from fewer stacks.
//! - The first expiry of each thread is at a random point of the period, so that threads that live shorter than a period
//!   are counted without bias, and threads that start together are not sampled together.
//! - Threads are looked for while the profile runs; CPU of a thread that came and went in between is missed. The profile's
//!   comments state the process's CPU time beside the sampled one, and how many samples were lost or truncated.
//!
//! # Costs
//! Some microseconds a sample: two switches into the kernel, and about 5 ns a frame. At 100 Hz that is well under a
//! thousandth of a busy thread. 64 KiB for each thread's ring while the profile runs.

mod collector;
mod report;
mod ring;
mod slot;
mod threads;

use std::{ops::ControlFlow, sync::atomic::Ordering};

use thiserror::Error;

pub use report::Summary;

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

/// Samples a second of CPU time when nothing else is said; Go's rate.
pub const DEFAULT_HZ: u32 = 100;

/// The highest rate. Beyond the kernel's tick it only makes weights larger, at some cost.
pub const MAX_HZ: u32 = 1000;

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
}

/// A finished CPU profile.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The samples, with a summary in the comments.
    pub profile: Profile,
    /// What was lost, missed or truncated.
    pub summary: Summary,
}

/// Starts sampling all threads of the process, `hz` times per second of CPU time.
///
/// # Errors
/// See [`StartError`].
pub fn start(hz: u32) -> Result<Session, StartError> {
    if !(1..=MAX_HZ).contains(&hz) {
        return Err(StartError::Rate(hz));
    }
    signal::install().map_err(|error| StartError::Unavailable(error.to_string()))?;
    Ok(Session { collector: Collector::start(hz)? })
}

impl Session {
    /// Stops sampling and gives the profile.
    pub fn stop(self) -> Capture {
        heap::untracked(|| report::build(self.collector.stop()))
    }
}

/// The handler's part: takes one sample of the thread that the slot belongs to.
pub(crate) fn tick(number: u32, overrun: u32, registers: &Registers) {
    let Some(slot) = slot::by_number(number) else { return };
    // Acquire: pairs with the Release that published the slot's fields.
    if !slot.active.load(Ordering::Acquire) {
        return;
    }
    let weight = 1 + overrun;
    let place = Place::find(registers, slot.worker(), &slot.stack());
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
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuProfile;

impl http::Capture for CpuProfile {
    fn name(&self) -> &str {
        "profile"
    }

    fn description(&self) -> &str {
        "CPU profile of the next 30 seconds; seconds=N takes another length."
    }

    fn length(&self) -> Length {
        Length::Whole(30)
    }

    fn activity(&self) -> &str {
        "CPU profiling"
    }

    fn start(&self, _query: &Query) -> Result<Box<dyn CaptureSession>, CaptureError> {
        match start(DEFAULT_HZ) {
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
