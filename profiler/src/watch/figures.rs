//! What is measured between two looks, and what it is compared with.

use std::{
    fmt,
    time::{Duration, Instant},
};

use greenprof_runtime::world::{self, Distribution};

use super::WatchError;
use crate::process;

/// When to capture.
///
/// ```
/// use greenprof_profiler::{http::Registry, watch::{Builder, Threshold, WatchError}};
///
/// let error = Builder::new("captures").when(Threshold::MemoryShare(1.5)).start(Registry::new()).unwrap_err();
/// assert!(matches!(error, WatchError::BadThreshold(_)), "a share is at most 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Threshold {
    /// The process used so many processors on average since the last look.
    Cpu(f64),
    /// So many bytes are resident.
    Memory(u64),
    /// Resident memory is such a share of the smallest limit of the control groups.
    MemoryShare(f64),
    /// There are so many tasks.
    Tasks(usize),
    /// One in a hundred of the tasks that became runnable since the last look waited so long for a worker. Of a sample
    /// of one in sixty; looked at only where there are 20 in it.
    Latency(Duration),
}

/// The process at one look.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Figures {
    /// Processors used on average since the last look.
    pub cpu: f64,
    /// Resident bytes.
    pub memory: u64,
    /// The smallest limit of the control groups, in bytes.
    pub limit: Option<u64>,
    /// Tasks that have not ended; nothing if nobody wanted to know.
    pub tasks: Option<usize>,
    /// The 99th percentile of the time from runnable to running; nothing if there were too few.
    pub latency: Option<Duration>,
}

/// Tasks that must have been measured for a percentile to mean something.
const ENOUGH: u64 = 20;

impl Threshold {
    pub(super) fn check(self) -> Result<(), WatchError> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let good = match self {
            Self::Cpu(processors) => positive(processors),
            Self::Memory(bytes) => bytes > 0,
            Self::MemoryShare(share) => positive(share) && share <= 1.0,
            Self::Tasks(tasks) => tasks > 0,
            Self::Latency(time) => !time.is_zero(),
        };
        if !good {
            return Err(WatchError::BadThreshold(self));
        }
        if matches!(self, Self::MemoryShare(_)) && process::memory_limit().is_none() {
            return Err(WatchError::NoLimit);
        }
        Ok(())
    }

    pub(super) fn is_crossed(self, figures: &Figures) -> bool {
        match self {
            Self::Cpu(processors) => figures.cpu >= processors,
            Self::Memory(bytes) => figures.memory >= bytes,
            Self::MemoryShare(share) => {
                figures.limit.is_some_and(|limit| figures.memory as f64 >= limit as f64 * share)
            }
            Self::Tasks(tasks) => figures.tasks.is_some_and(|there| there >= tasks),
            Self::Latency(time) => figures.latency.is_some_and(|latency| latency >= time),
        }
    }

    /// A word for the name of the directory.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Memory(_) | Self::MemoryShare(_) => "memory",
            Self::Tasks(_) => "tasks",
            Self::Latency(_) => "latency",
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu: {:.2} processors", self.cpu)?;
        writeln!(f, "memory: {} bytes", self.memory)?;
        if let Some(limit) = self.limit {
            writeln!(f, "limit: {limit} bytes, {:.1} % used", 100.0 * self.memory as f64 / limit.max(1) as f64)?;
        }
        if let Some(tasks) = self.tasks {
            writeln!(f, "tasks: {tasks}")?;
        }
        if let Some(latency) = self.latency {
            writeln!(f, "latency, 99th percentile: below {latency:?}")?;
        }
        Ok(())
    }
}

/// Reads figures, and knows those of the last time.
pub(super) struct Meter {
    counts_tasks: bool,
    at: Instant,
    cpu: Duration,
    latencies: Distribution,
}

impl Meter {
    pub fn new(counts_tasks: bool) -> Self {
        Self { counts_tasks, at: Instant::now(), cpu: process::cpu_time(), latencies: world::figures().latencies }
    }

    pub fn read(&mut self) -> Figures {
        let (at, cpu, latencies) = (Instant::now(), process::cpu_time(), world::figures().latencies);
        let elapsed = at.duration_since(self.at).as_secs_f64().max(1e-6);
        let recent = latencies.since(&self.latencies);
        let figures = Figures {
            cpu: cpu.saturating_sub(self.cpu).as_secs_f64() / elapsed,
            memory: process::resident().unwrap_or(0),
            limit: process::memory_limit(),
            tasks: self.counts_tasks.then(world::tasks::count),
            latency: (recent.count() >= ENOUGH).then(|| recent.quantile(0.99)).flatten(),
        };
        *self = Self { at, cpu, latencies, ..*self };
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_looks_at_its_figure() {
        let figures = Figures {
            cpu: 1.5,
            memory: 850,
            limit: Some(1000),
            tasks: Some(10),
            latency: Some(Duration::from_millis(5)),
        };
        for (threshold, crossed) in [
            (Threshold::Cpu(1.5), true),
            (Threshold::Cpu(1.6), false),
            (Threshold::Memory(850), true),
            (Threshold::Memory(851), false),
            (Threshold::MemoryShare(0.85), true),
            (Threshold::MemoryShare(0.86), false),
            (Threshold::Tasks(10), true),
            (Threshold::Tasks(11), false),
            (Threshold::Latency(Duration::from_millis(5)), true),
            (Threshold::Latency(Duration::from_millis(6)), false),
        ] {
            assert_eq!(threshold.is_crossed(&figures), crossed, "{threshold:?}");
            assert!(figures.to_string().contains(threshold.word()), "{threshold:?} {figures}");
        }
        let unknown = Figures { limit: None, tasks: None, latency: None, ..figures };
        for threshold in [Threshold::MemoryShare(0.1), Threshold::Tasks(1), Threshold::Latency(Duration::from_nanos(1))]
        {
            assert!(!threshold.is_crossed(&unknown), "{threshold:?}");
        }
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for bad in [
            Threshold::Cpu(0.0),
            Threshold::Cpu(f64::NAN),
            Threshold::Memory(0),
            Threshold::MemoryShare(1.1),
            Threshold::MemoryShare(-1.0),
            Threshold::Tasks(0),
            Threshold::Latency(Duration::ZERO),
        ] {
            assert!(matches!(bad.check(), Err(WatchError::BadThreshold(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_meter_sees_what_is_used_between_two_looks() {
        let mut meter = Meter::new(true);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let busy = meter.read();
        assert!(busy.cpu > 0.0 && busy.memory > 0 && busy.tasks.is_some(), "{busy:?}");
    }
}
