//! The kinds of things that the port offers. Whoever has one implements its trait and puts it into a
//! [`Registry`](super::Registry); nothing else here knows which there are.
//!
//! All methods that may take long are called on plain threads that may block, never on a worker of the runtime.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use thiserror::Error;

use super::query::Query;
use super::registry::Registry;
use super::reply::Reply;
use crate::profile::{Profile, ProfileError};

/// A profile that can be asked for by name, under `/debug/pprof/NAME`: its state now, or with `seconds=` what changed.
///
/// ```
/// use std::sync::Arc;
/// use greenprof_profiler::{http::{NamedProfile, Registry}, profile::{Profile, ProfileError}};
///
/// /// How many lines a program has read, as a text.
/// struct Lines(u64);
/// impl NamedProfile for Lines {
///     fn name(&self) -> &str {
///         "lines"
///     }
///
///     fn description(&self) -> &str {
///         "Lines read so far."
///     }
///
///     fn count(&self) -> usize {
///         self.0 as usize
///     }
///
///     fn write(&self, _debug: i64) -> Result<Vec<u8>, ProfileError> {
///         Ok(format!("{} lines\n", self.0).into_bytes())
///     }
///
///     fn collect(&self) -> Option<Profile> {
///         None
///     }
///
///     fn supports_delta(&self) -> bool {
///         false
///     }
/// }
///
/// let registry = Registry::new();
/// registry.register(Arc::new(Lines(3)))?;
/// let lines = registry.get("lines").expect("at /debug/pprof/lines");
/// assert_eq!(lines.write(1)?, b"3 lines\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait NamedProfile: Send + Sync {
    /// The last part of its path; without slashes.
    fn name(&self) -> &str;

    /// One sentence for the index page.
    fn description(&self) -> &str;

    /// How many things it would show now; for the index page, so it must be cheap.
    fn count(&self) -> usize;

    /// The profile as bytes: a gzipped `profile.proto` if `debug` is 0, text if it is greater. Never negative.
    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError>;

    /// The content type of what `write` gives, if it is neither a profile nor plain text.
    fn content_type(&self, debug: i64) -> Option<&'static str> {
        let _ = debug;
        None
    }

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

/// How a capture reads `seconds`. What it cannot read, and what is not positive, means the default, never an error, as in
/// Go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Whole seconds (`profile`).
    Whole(u32),
    /// Seconds with a fraction (`trace`).
    Fractional(f64),
}

/// Something that is recorded for a while, under `/debug/pprof/NAME?seconds=N`.
///
/// ```
/// use std::{sync::Arc, time::Instant};
/// use greenprof_profiler::{http::{Capture, CaptureError, CaptureSession, Length, Query, Registry}, profile::ProfileError};
///
/// /// How long it was recorded, as a text.
/// struct Elapsed;
/// struct Session(Instant);
///
/// impl Capture for Elapsed {
///     fn name(&self) -> &str {
///         "elapsed"
///     }
///
///     fn description(&self) -> &str {
///         "The time that passes."
///     }
///
///     fn length(&self) -> Length {
///         Length::Whole(1)
///     }
///
///     fn activity(&self) -> &str {
///         "waiting"
///     }
///
///     fn start(&self, _query: &Query) -> Result<Box<dyn CaptureSession>, CaptureError> {
///         Ok(Box::new(Session(Instant::now())))
///     }
/// }
///
/// impl CaptureSession for Session {
///     fn finish(self: Box<Self>) -> Result<Vec<u8>, ProfileError> {
///         Ok(format!("{:?}\n", self.0.elapsed()).into_bytes())
///     }
/// }
///
/// let registry = Registry::new();
/// registry.register_capture(Arc::new(Elapsed))?;
/// let session = registry.capture("elapsed").expect("at /debug/pprof/elapsed?seconds=N").start(&Query::default())?;
/// assert!(session.finish()?.ends_with(b"s\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Capture: Send + Sync {
    /// The last part of its path and the file name of its answer; without slashes.
    fn name(&self) -> &str;

    /// One sentence for the index page.
    fn description(&self) -> &str;

    /// How long it takes if the request does not say.
    fn length(&self) -> Length;

    /// What it does, for the sentence `Could not enable ACTIVITY: reason`; Go's are `CPU profiling` and `tracing`.
    fn activity(&self) -> &str;

    /// Starts recording. One at a time: another one is refused with [`CaptureError::Busy`].
    ///
    /// # Errors
    /// See [`CaptureError`].
    fn start(&self, query: &Query) -> Result<Box<dyn CaptureSession>, CaptureError>;
}

/// A capture in progress. Dropping it stops the recording and forgets what was recorded: that is what happens when the
/// client goes away.
pub trait CaptureSession: Send {
    /// Stops recording and gives the bytes of the file.
    fn finish(self: Box<Self>) -> Result<Vec<u8>, ProfileError>;
}

/// Why a capture did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// Another one is running; in Go's words (`cpu profiling already in use`).
    #[error("{0}")]
    Busy(&'static str),
    /// The request asks for something that makes no sense, in one sentence; the answer is 400.
    #[error("{0}")]
    BadRequest(String),
    /// Anything else, as one sentence for the person who asked.
    #[error("{0}")]
    Failed(String),
}

/// What a [`Page`] is asked.
#[derive(Debug)]
pub struct Ask {
    /// GET, or one of [`Page::changes`]. HEAD arrives as GET; its body is left out later.
    pub method: Method,
    /// The query, parsed.
    pub query: Query,
    /// What the port offers; for pages that show it.
    pub registry: Registry,
    /// What was sent along; empty for GET.
    pub body: Bytes,
}

/// Anything else under a path of its own.
///
/// ```
/// use std::sync::Arc;
/// use greenprof_profiler::http::{Ask, Page, Registry, reply::{self, Reply}};
///
/// struct Version;
/// impl Page for Version {
///     fn path(&self) -> &str {
///         "/debug/myprogram/version"
///     }
///
///     fn description(&self) -> &str {
///         "Which version runs."
///     }
///
///     fn answer(&self, _ask: &Ask) -> Reply {
///         reply::text("1.2.3\n")
///     }
/// }
///
/// let registry = Registry::new();
/// registry.register_page(Arc::new(Version))?;
/// assert!(registry.page("/debug/myprogram/version").is_some());
/// # Ok::<(), greenprof_profiler::http::RegisterError>(())
/// ```
pub trait Page: Send + Sync {
    /// Its whole path (`/metrics`, `/debug/greenprof/rates`).
    fn path(&self) -> &str;

    /// One sentence for the index page, which does not list pages with an empty one: those belong to another.
    fn description(&self) -> &str;

    /// The most bytes that may be sent along: 1 MiB, unless it needs more.
    fn max_body(&self) -> usize {
        1 << 20
    }

    /// Methods besides GET and HEAD, for pages that change something. The port lets them through only with its token, or
    /// with the header `X-Greenprof`, which no form and no link of a foreign web page can send.
    fn changes(&self) -> &'static [Method] {
        &[]
    }

    /// Answers; see [`reply`](super::reply) for the shapes.
    fn answer(&self, ask: &Ask) -> Reply;
}

/// A number that says how much an instrument records, read and set at `/debug/greenprof/rates`.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use greenprof_profiler::http::{Rate, Registry};
///
/// static EVERY: AtomicU64 = AtomicU64::new(0);
///
/// struct Lines;
/// impl Rate for Lines {
///     fn name(&self) -> &str {
///         "lines_every"
///     }
///
///     fn description(&self) -> &str {
///         "One in so many lines is kept; 0 keeps none."
///     }
///
///     fn get(&self) -> u64 {
///         EVERY.load(Ordering::Relaxed)
///     }
///
///     fn check(&self, value: u64) -> Result<(), String> {
///         if value <= 1000 { Ok(()) } else { Err("choose at most 1000".to_owned()) }
///     }
///
///     fn set(&self, value: u64) -> Result<(), String> {
///         EVERY.store(value, Ordering::Relaxed);
///         Ok(())
///     }
/// }
///
/// let registry = Registry::new();
/// registry.register_rate(Arc::new(Lines))?;
/// registry.rates()[0].set(10)?;
/// assert_eq!(EVERY.load(Ordering::Relaxed), 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Rate: Send + Sync {
    /// Its key in the JSON object: the instrument and the unit (`block_nanoseconds`, `mutex_fraction`).
    fn name(&self) -> &str;

    /// What the number means, and what 0 does.
    fn description(&self) -> &str;

    /// The number now.
    fn get(&self) -> u64;

    /// Checks a number without setting it, so that of several numbers all are set or none.
    ///
    /// # Errors
    /// One sentence that says what is allowed.
    fn check(&self, value: u64) -> Result<(), String>;

    /// Sets a number that has passed the check.
    ///
    /// # Errors
    /// One sentence that says why it could not be set nevertheless.
    fn set(&self, value: u64) -> Result<(), String>;
}
