//! The port: profiles over HTTP with the paths, parameters, headers and error bodies of Go's `net/http/pprof`.
//!
//! The server ([`DebugServer`]) is one OS thread with a runtime of its own, so it answers even when every worker of the
//! program is stuck. It knows no profiler; those plug into a [`Registry`] through [`NamedProfile`] and [`CpuCapture`].
//! Whatever may take long (collecting, symbolizing, compressing) runs on further threads, at most
//! [`server::MAX_BLOCKING_THREADS`] at a time, so that one request never delays the next.
//!
//! How a request passes: [`server`] accepts and bounds it, `guard` decides who may ask, `route` finds what answers,
//! `capture` does what takes time, `reply` gives all answers one shape.

mod capture;
mod guard;
mod index;
mod query;
mod registry;
mod reply;
mod route;
pub mod server;
mod stall;

use std::sync::Arc;

use thiserror::Error;

pub use capture::MAX_SECONDS;
pub use query::Query;
pub use registry::{RegisterError, Registry};
pub use server::{BindError, Builder, DebugServer};

use crate::profile::{Profile, ProfileError};

/// A profile that can be asked for by name, under `/debug/pprof/NAME`.
///
/// All methods are called on plain threads that may block, never on a worker of the runtime.
pub trait NamedProfile: Send + Sync {
    /// The last part of its path; without slashes.
    fn name(&self) -> &str;

    /// One sentence for the index page.
    fn description(&self) -> &str;

    /// How many things it would show now; for the index page, so it must be cheap.
    fn count(&self) -> usize;

    /// The profile as bytes: a gzipped `profile.proto` if `debug` is 0, text if it is greater. Never negative.
    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError>;

    /// A snapshot to subtract from a later one, for `seconds=`; `None` if differences of this profile mean nothing.
    fn collect(&self) -> Option<Profile>;

    /// Why this program cannot have it at all, in one sentence that says what to do: the answer is then 503, and the index says
    /// it, too.
    fn unavailable(&self) -> Option<String> {
        None
    }

    /// Whether [`NamedProfile::collect`] gives anything; asked first, so that a wrong request costs no snapshot.
    fn supports_delta(&self) -> bool {
        true
    }

    /// What answers instead of this profile, if the query asks for another view of it (`side=waiter`).
    ///
    /// # Errors
    /// One sentence for a parameter that makes no sense; the answer is then 400.
    fn view(&self, query: &Query) -> Result<Option<Arc<dyn NamedProfile>>, String> {
        let _ = query;
        Ok(None)
    }
}

/// Starts CPU profiles, for `/debug/pprof/profile`.
pub trait CpuCapture: Send + Sync {
    /// Starts sampling.
    fn start(&self) -> Result<Box<dyn CpuSession>, CaptureError>;
}

/// A CPU profile being taken. Dropping it stops the sampling and forgets the samples: that is what happens when the
/// client goes away.
pub trait CpuSession: Send {
    /// Stops sampling and gives the gzipped profile.
    fn finish(self: Box<Self>) -> Result<Vec<u8>, ProfileError>;
}

/// Why a capture did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// Somebody else is taking one; there is one CPU profiler per process.
    #[error("cpu profiling already in use")]
    Busy,
    /// Anything else, as one sentence for the person who asked.
    #[error("{0}")]
    Failed(String),
}
