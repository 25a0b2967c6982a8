//! The others: the same cases on other runtimes and libraries.
//!
//! Each module's `measure` runs a case as its runtime's users would write it, and says in its head where that is not quite
//! the same thing. The peer that is written in Go is in `go/`.

pub mod corosensei;
pub mod crossbeam;
pub mod flume;
pub mod greenprof;
pub mod may;
pub mod std;
pub mod tokio;

use ::std::{collections::BTreeMap, fmt};

use anyhow::bail;
use clap::ValueEnum;

use crate::{
    case::{Case, Effort},
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
    Hookless,
}

/// What a sample has measured, by the names of [`TIME`] and so on. Nanoseconds, bytes or milliseconds, of an operation.
pub type Values = BTreeMap<String, f64>;

/// Nanoseconds of an operation: the value of most cases.
pub const TIME: &str = "time";
/// Nanoseconds of an operation with a profile switched off.
pub const OFF: &str = "off";
/// The same with all recorded.
pub const ON: &str = "on";
/// What recording adds.
pub const ADDED: &str = "added";
/// Nanoseconds of a spawn on a stack that was never used.
pub const FRESH: &str = "fresh";
/// Nanoseconds of a spawn on a stack that was used.
pub const RECYCLED: &str = "recycled";
/// Nanoseconds of waking one of many tasks.
pub const WAKE: &str = "wake";
/// Resident bytes of a task.
pub const RESIDENT: &str = "resident";
/// Milliseconds of lateness that 99 of 100 sleepers do not exceed.
pub const P99: &str = "p99";

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
            Self::Hookless => "no hooks",
        }
    }

    /// Runs a case in this process. The peer in Go is another program and cannot, and so is ours without hooks.
    ///
    /// # Errors
    /// If the peer has no such case, or no runtime can be started.
    pub fn measure(self, case: Case, workers: usize, effort: Effort) -> anyhow::Result<Values> {
        let values = match self {
            Self::Greenprof => Some(greenprof::measure(case, workers, effort)?),
            // Other programs.
            Self::Go | Self::Hookless => None,
            Self::Tokio => tokio::measure(case, workers, effort)?,
            Self::May => may::measure(case, workers, effort),
            Self::Corosensei => corosensei::measure(case, effort),
            Self::Std => std::measure(case, workers, effort)?,
            Self::Crossbeam => crossbeam::measure(case, workers, effort)?,
            Self::Flume => flume::measure(case, workers, effort)?,
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

/// One value.
fn one(name: &str, value: f64) -> Values {
    Values::from([(name.to_owned(), value)])
}

fn of_crowd(crowd: &Crowd) -> Values {
    let values = [(FRESH, crowd.fresh), (RECYCLED, crowd.recycled), (WAKE, crowd.wake), (RESIDENT, crowd.resident)];
    values.map(|(name, value)| (name.to_owned(), value)).into()
}
