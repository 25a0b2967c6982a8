//! The others: the same cases on other runtimes and libraries.
//!
//! Each module's `measure` runs a case as its runtime's users would write it, and says in its head where that is not quite
//! the same thing. The peer that is written in Go is in `go/`, that of tokio-console in `tokio-console/`.

pub mod corosensei;
pub mod crossbeam;
pub mod flume;
pub mod greenprof;
pub mod may;
pub mod std;
pub mod tokio;

use ::std::fmt;

use anyhow::bail;
use clap::ValueEnum;

use crate::{
    case::{Case, Effort},
    signals,
    values::{FRESH, RECYCLED, RESIDENT, Values, WAKE},
    workload::Crowd,
};

/// Who runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Peer {
    Greenprof,
    Go,
    Tokio,
    May,
    Corosensei,
    Std,
    Crossbeam,
    Flume,
    /// The system's allocator.
    Malloc,
    Mimalloc,
    Jemalloc,
    /// jemalloc with its profiling built in, and off.
    JemallocProfiling,
    /// jemalloc with its profiling on, one sample in 512 KiB.
    JemallocSampling,
    PprofRs,
    /// tokio under the subscriber of tokio-console.
    TokioConsole,
    /// Ours, built without hooks.
    Hookless,
}

impl Peer {
    /// As the command line and the tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greenprof => "greenprof",
            Self::Go => "go",
            Self::Tokio => "tokio",
            Self::May => "may",
            Self::Corosensei => "corosensei",
            Self::Std => "std",
            Self::Crossbeam => "crossbeam",
            Self::Flume => "flume",
            Self::Malloc => "malloc",
            Self::Mimalloc => "mimalloc",
            Self::Jemalloc => "jemalloc",
            Self::JemallocProfiling => "jemalloc-profiling",
            Self::JemallocSampling => "jemalloc-sampling",
            Self::PprofRs => "pprof-rs",
            Self::TokioConsole => "tokio-console",
            Self::Hookless => "no hooks",
        }
    }

    /// Runs a case in this process. The peer in Go, the allocators, tokio-console and ours without hooks are other programs and cannot.
    ///
    /// # Errors
    /// If the peer has no such case, or no runtime can be started.
    pub fn measure(self, case: Case, workers: usize, effort: Effort) -> anyhow::Result<Values> {
        let values = match self {
            Self::Greenprof => greenprof::measure(case, workers, effort)?,
            // Other programs.
            Self::Go
            | Self::Malloc
            | Self::Mimalloc
            | Self::Jemalloc
            | Self::JemallocProfiling
            | Self::JemallocSampling
            | Self::TokioConsole
            | Self::Hookless => None,
            Self::Tokio => tokio::measure(case, workers, effort)?,
            Self::May => may::measure(case, workers, effort),
            Self::Corosensei => corosensei::measure(case, effort),
            Self::Std => std::measure(case, workers, effort)?,
            Self::Crossbeam => crossbeam::measure(case, workers, effort)?,
            Self::Flume => flume::measure(case, workers, effort)?,
            Self::PprofRs => signals::depth(case).map(|depth| signals::pprof_rs(depth, effort)).transpose()?,
        };
        match values {
            Some(values) => Ok(values),
            None => bail!("{self} has no case {case} in this program"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn of_crowd(crowd: &Crowd) -> Values {
    let values = [(FRESH, crowd.fresh), (RECYCLED, crowd.recycled), (WAKE, crowd.wake), (RESIDENT, crowd.resident)];
    values.map(|(name, value)| (name.to_owned(), value)).into()
}
