//! What the demos that show one thing before and after share.

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use greenprof_profiler::{http::DebugServer, profile::encode, symbolize};
use greenprof_runtime::{BuildError, Runtime, SpawnError};
use serde::Serialize;
use thiserror::Error;

use crate::{
    allocations::MeasureError,
    guide::{Guide, Length},
    interrupt::Interrupt,
    setup::{self, SetupError},
    table::{Table, percent, shortened},
    tour::profile::Profile,
};

/// Rows that a table shows.
const ROWS: usize = 6;

/// The longest name that a table shows whole.
const NAME: usize = 64;

/// Why a demo came to no result.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// It did not begin.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// There is no runtime.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no task.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A profile could not be looked at.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The processor is being profiled by somebody else.
    #[error(transparent)]
    Cpu(#[from] greenprof_profiler::cpu::StartError),
    /// Leaks could not be looked for.
    #[error(transparent)]
    Detect(#[from] greenprof_profiler::leak::DetectError),
    /// Nothing could be watched.
    #[error(transparent)]
    Watch(#[from] greenprof_profiler::watch::WatchError),
    /// A file could not be written.
    #[error("cannot write {}: {source}; choose another directory with --out", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The report is not printable.
    #[error("the report could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a demo is to do that shows two versions of one thing.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the port is.
    pub address: String,
    /// How many workers.
    pub workers: Option<usize>,
    /// How long each version can be looked at.
    pub length: Length,
    /// Where the files go.
    pub out: Option<PathBuf>,
    /// Whether the result is JSON.
    pub json: bool,
}

impl Settings {
    /// Opens the port, makes a runtime, and says where to look.
    ///
    /// # Errors
    /// If there is no port or no runtime.
    pub fn begin(&self, guide: &Guide<'_>, interrupt: &Interrupt) -> Result<(DebugServer, Runtime), SetupError> {
        let server = setup::open_port(&self.address)?;
        let runtime = build_runtime(self.workers)?;
        if !self.json {
            guide.print(server.local_addr());
        }
        if self.length != Length::Once {
            interrupt.end_in_order();
        }
        Ok((server, runtime))
    }

    /// Does something again and again for as long as a version is to be looked at; not at all if nobody looks.
    pub fn while_watched<R>(&self, interrupt: &Interrupt, mut work: impl FnMut() -> R) {
        let begin = Instant::now();
        while self.length.goes_on(begin.elapsed(), interrupt) {
            work();
        }
    }
}

/// A runtime with so many workers, or with one for each processor.
///
/// # Errors
/// If there cannot be so many.
pub fn build_runtime(workers: Option<usize>) -> Result<Runtime, SetupError> {
    greenprof_profiler::heap::start();
    let mut builder = Runtime::builder();
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    Ok(builder.build().map_err(crate::orders::StartError::Build)?)
}

/// A profile as any reader sees it: written, and read back.
///
/// # Errors
/// If it cannot be written or read.
pub fn read_back(profile: &greenprof_profiler::profile::Profile) -> Result<Profile, ScenarioError> {
    let file = encode::encode(profile, &mut symbolize::shared().lock()).map_err(MeasureError::Write)?;
    Ok(Profile::read(&file).map_err(MeasureError::Read)?)
}

/// Writes a file into the directory.
///
/// # Errors
/// If it cannot be written.
pub fn save(directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, ScenarioError> {
    let path = directory.join(name);
    match std::fs::write(&path, bytes) {
        Ok(()) => Ok(path),
        Err(source) => Err(ScenarioError::Write { path, source }),
    }
}

/// Bytes of a function, or of a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Which.
    pub name: String,
    /// How many.
    pub value: i64,
}

impl Row {
    /// Rows of names and values.
    pub fn list(rows: Vec<(String, i64)>) -> Vec<Self> {
        rows.into_iter().map(|(name, value)| Self { name, value }).collect()
    }

    /// The first of them as a table.
    pub fn table(rows: &[Self]) -> String {
        if rows.is_empty() {
            return "  no samples\n".to_owned();
        }
        let all: i64 = rows.iter().map(|row| row.value).sum();
        let mut table = Table::new([">bytes", ">share", "who"]);
        for row in rows.iter().take(ROWS) {
            table.row([
                format!("{:.1} MiB", row.value as f64 / f64::from(1 << 20)),
                percent(row.value as f64, all as f64),
                shortened(&row.name, NAME),
            ]);
        }
        table.render("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_shares() {
        let rows = Row::list(vec![("a::b".to_owned(), 3 << 20), ("c".to_owned(), 1 << 20)]);
        assert_eq!(Row::table(&rows), "    bytes  share  who\n  3.0 MiB  75.0%  a::b\n  1.0 MiB  25.0%  c\n");
        assert_eq!(Row::table(&[]), "  no samples\n");
    }
}
