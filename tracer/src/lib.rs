//! The execution tracer: every scheduling decision of all greenprof runtimes of the process, in the format that Go's tools read.
//!
//! [`start`] writes a trace until it is stopped; `go tool trace FILE` opens it. What the program itself does can be marked in it
//! with [`Task`], [`region`] and [`log`].
//!
//! ```
//! use greenprof_runtime::{Runtime, spawn};
//!
//! let trace = greenprof_tracer::start(Vec::new())?;
//! Runtime::builder().workers(2).build()?.run(|| {
//!     let task = greenprof_tracer::Task::new("greeting");
//!     let _region = task.region("spawn and join");
//!     spawn(|| greenprof_tracer::log("greeting", "hello")).join().unwrap();
//! });
//! let (file, stats) = trace.stop()?;
//! assert!(file.starts_with(b"go 1.26 trace") && stats.events > 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With [`Format::Perfetto`] it is written for Perfetto's viewer instead (`ui.perfetto.dev`, which runs in the browser).
//!
//! [`flight_recorder`] keeps the last seconds at hand instead, to be written when something has gone wrong.
//!
//! [`reader`] reads traces, also those of Go programs, checks them, and sums up what each task did.
//!
//! How it works, and why what it writes is always valid, is in the crate's README.
//!
//! [`counts`] only counts events.

#![deny(missing_docs)]

mod annotate;
mod capture;
pub mod counts;
mod engine;
mod flight;
mod go;
pub mod perfetto;
#[cfg(test)]
mod program;
pub mod reader;
mod record;
mod symbols;

pub use annotate::{Region, Search, Task, log, region, search};
pub use capture::{Builder, Format, StopError, Trace, start};
pub use engine::{
    StartError, Stats,
    samples::{CpuSample, add_cpu_samples, wants_cpu_samples},
};
pub use flight::{FlightBuilder, FlightRecorder, flight_recorder};
pub use symbols::{Frame, Symbolize, set_symbolizer};
