//! Automatic capture: when a figure of the process crosses a threshold, the profiles of that moment go to a directory.
//!
//! So the capture of three o'clock is there in the morning, also if the process was killed a moment later: the cheapest
//! profile is written first, each file is complete when it has its name, and memory is measured against the limit of the control
//! group, beyond which the kernel kills.
//!
//! ```no_run
//! use std::time::Duration;
//! use greenprof_profiler::{registry, watch::{self, Threshold}};
//!
//! let watch = watch::Builder::new("/var/tmp/captures")
//!     .when(Threshold::MemoryShare(0.85))
//!     .when(Threshold::Cpu(3.5))
//!     .cool_down(Duration::from_secs(600))
//!     .start(registry())?;
//! # drop(watch);
//! # Ok::<(), greenprof_profiler::watch::WatchError>(())
//! ```
//!
//! # What a capture is
//! A directory, `DATE-TIME-REASON`, with `why.txt` (the figures), `metrics.txt`, the task profile as text and as file, the heap
//! profile if there is one, every other registered profile, and at last a CPU profile of some seconds, unless somebody
//! else is taking one; what could not be had is said in `errors.txt`. When all captures come to more than the bound, the oldest go; a capture
//! that alone exceeds it ends early.
//!
//! # Cost
//! A thread that looks once a second: some microseconds, and for a threshold on tasks some 10 ns a stack that was ever used.

mod capture;
mod directory;
mod figures;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use greenprof_runtime::heap;
use thiserror::Error;

use crate::http::Registry;
use directory::Directory;
use figures::Meter;
pub use figures::{Figures, Threshold};

/// How often it looks, unless said otherwise.
const PERIOD: Duration = Duration::from_secs(1);

/// How long it captures nothing after a capture, unless said otherwise.
const COOL_DOWN: Duration = Duration::from_secs(300);

/// Bytes of all captures, unless said otherwise.
const SIZE: u64 = 256 << 20;

/// Why nothing is watched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WatchError {
    /// There is no threshold.
    #[error("a watch needs a threshold: add one with `when`")]
    NoThreshold,
    /// A threshold that no figure crosses, or every one does.
    #[error("{0:?} is no threshold: it must be a positive number, a share at most 1")]
    BadThreshold(Threshold),
    /// A share of a limit that is not there.
    #[error("no control group limits this process's memory, so there is no share of the limit: use Threshold::Memory")]
    NoLimit,
    /// Captures cannot be written.
    #[error("captures cannot be written to {path}: {source}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no thread to watch on.
    #[error("the thread that watches could not be started: {0}")]
    Thread(io::Error),
}

/// Settings of a [`Watch`].
///
/// ```
/// use std::time::Duration;
/// use greenprof_profiler::{registry, watch::{self, Threshold}};
///
/// let directory = std::env::temp_dir().join(format!("greenprof-watch-{}", std::process::id()));
/// let watch = watch::Builder::new(&directory)
///     .when(Threshold::Memory(1)) // more than that is resident in any program
///     .period(Duration::from_millis(10))
///     .cpu_profile(Duration::ZERO)
///     .start(registry())?;
/// while watch.captures() == 0 {
///     std::thread::sleep(Duration::from_millis(10));
/// }
/// drop(watch);
/// let capture = std::fs::read_dir(&directory)?.next().expect("one")?.path();
/// assert!(capture.join("why.txt").exists());
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    path: PathBuf,
    thresholds: Vec<Threshold>,
    period: Duration,
    cool_down: Duration,
    size: u64,
    cpu_profile: Duration,
}

impl Builder {
    /// Captures go to this directory, which is made if it does not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let cpu_profile = Duration::from_secs(5);
        Self {
            path: path.into(),
            thresholds: Vec::new(),
            period: PERIOD,
            cool_down: COOL_DOWN,
            size: SIZE,
            cpu_profile,
        }
    }

    /// Adds a threshold. Any one that is crossed makes a capture.
    pub fn when(mut self, threshold: Threshold) -> Self {
        self.thresholds.push(threshold);
        self
    }

    /// How often it looks; 1 s unless said otherwise. CPU and latency are those of the time between two looks.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period.max(Duration::from_millis(10));
        self
    }

    /// How long after a capture there is no other; 5 min unless said otherwise.
    pub fn cool_down(mut self, cool_down: Duration) -> Self {
        self.cool_down = cool_down;
        self
    }

    /// Bytes of all captures together; 256 MiB unless said otherwise.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// How long the CPU profile of a capture takes; 5 s unless said otherwise, none if zero.
    pub fn cpu_profile(mut self, length: Duration) -> Self {
        self.cpu_profile = length;
        self
    }

    /// Starts watching. The captures have the profiles of the registry.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub fn start(self, registry: Registry) -> Result<Watch, WatchError> {
        if self.thresholds.is_empty() {
            return Err(WatchError::NoThreshold);
        }
        for &threshold in &self.thresholds {
            threshold.check()?;
        }
        let directory = Directory::open(&self.path, self.size)
            .map_err(|source| WatchError::Directory { path: self.path.clone(), source })?;
        let captures = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("greenprof-watch".into()).spawn({
            let captures = captures.clone();
            move || heap::untracked(|| watch(&self, &registry, &directory, &captures, &stopped))
        });
        Ok(Watch { captures, stop: Some(stop), thread: Some(thread.map_err(WatchError::Thread)?) })
    }
}

/// A thread that watches. Dropping it ends that; a capture that is being written is completed, but for its CPU profile.
#[derive(Debug)]
pub struct Watch {
    captures: Arc<AtomicU64>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// How many captures it has written.
    pub fn captures(&self) -> u64 {
        // Acquire: pairs with the Release in `watch`: whoever sees the number sees the files.
        self.captures.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened and must not become ours.
            let _ = thread.join();
        }
    }
}

/// Waits; whether the watch goes on.
fn wait(stopped: &mpsc::Receiver<()>, time: Duration) -> bool {
    matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

fn watch(
    settings: &Builder,
    registry: &Registry,
    directory: &Directory,
    captures: &AtomicU64,
    stopped: &mpsc::Receiver<()>,
) {
    let counts_tasks = settings.thresholds.iter().any(|threshold| matches!(threshold, Threshold::Tasks(_)));
    let mut meter = Meter::new(counts_tasks);
    let mut last: Option<Instant> = None;
    while wait(stopped, settings.period) {
        let figures = meter.read();
        if last.is_some_and(|last| last.elapsed() < settings.cool_down) {
            continue;
        }
        let Some(crossed) = settings.thresholds.iter().find(|threshold| threshold.is_crossed(&figures)) else {
            continue;
        };
        let pause = |length| wait(stopped, length);
        // What went wrong is in the capture, if there is one. Without a place to write there is nobody to tell.
        if capture::write(directory, registry, *crossed, &figures, settings.cpu_profile, &pause).is_ok() {
            // Release: pairs with the Acquire in `Watch::captures`.
            captures.fetch_add(1, Ordering::Release);
        }
        last = Some(Instant::now());
        // What the capture itself has used is not the program's.
        meter.read();
    }
}
