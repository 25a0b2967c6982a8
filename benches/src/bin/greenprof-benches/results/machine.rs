//! Where, when and of what a section was measured.

use std::{
    env, fmt, fs,
    process::{Command, Stdio},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use greenprof_demos::leaks::matrix;
use nix::time::{ClockId, clock_getres};
use serde::{Deserialize, Serialize};

/// A machine, as far as it matters for figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Hertz of the kernel's clock tick.
    pub(crate) tick: u64,
}

/// How a section of a result set was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) machine: Machine,
    pub(crate) rustc: String,
    /// Nothing if no toolchain was needed, or found.
    pub(crate) go: Option<String>,
    /// In UTC.
    pub(crate) date: String,
    pub(crate) samples: usize,
    pub(crate) quick: bool,
    pub(crate) commit: String,
    /// `release` or `debug`.
    pub(crate) build: String,
    /// Seconds that the whole report took, of which this may be a part.
    pub(crate) seconds: u64,
    /// What the report said under its tables.
    pub(crate) notes: Vec<String>,
}

const UNKNOWN: &str = "unknown";

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        // Coarse clocks move with the tick.
        let tick =
            clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(|tick| (tick.tv_sec() as u64, tick.tv_nsec() as u64));
        Self {
            cpu: model(&read("/proc/cpuinfo")),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            tick: tick.map_or(0, |(_, nanoseconds)| 1_000_000_000 / nanoseconds.max(1)),
        }
    }

    /// Whether times measured on both can be compared. The kernel may be another one; that is said beside it.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.cpu, self.cores, self.tick) == (&other.cpu, other.cores, other.tick)
    }
}

impl Run {
    /// Of a report that ends now.
    pub(crate) fn now(
        machine: &Machine,
        go: Option<&str>,
        length: (usize, bool),
        seconds: u64,
        notes: &[String],
    ) -> Self {
        let commit = matrix::commit();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self {
            machine: machine.clone(),
            rustc: rustc(),
            go: go.map(str::to_owned),
            date: date(now),
            samples: length.0,
            quick: length.1,
            commit: known(&commit),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            seconds,
            notes: notes.to_vec(),
        }
    }

    pub(crate) fn languages(&self) -> String {
        let go = self.go.as_ref().map_or_else(String::new, |go| format!(", {go}"));
        format!("{}{go}", self.rustc)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, Linux {}, tick {} Hz", self.cpu, self.cores, self.kernel, self.tick)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, date, samples, commit, build, seconds, .. } = self;
        let quick = if self.quick { "quick, " } else { "" };
        write!(
            f,
            "Measured on {date} by a {build} build of commit {commit}, {quick}{samples} samples, in a report of {seconds} seconds.\n\
             Machine: {machine}. Compilers: {}.",
            self.languages()
        )
    }
}

fn known(text: &str) -> String {
    if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
}

/// The first processor's name.
fn model(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    known(name.map_or("", |(_, name)| name.trim()))
}

/// Of the compiler that builds here.
fn rustc() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").stdin(Stdio::null()).output();
    let version = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    known(String::from_utf8_lossy(&version.unwrap_or_default()).trim())
}

/// Seconds since 1970 as a date.
fn date(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, rest / 3600, rest / 60 % 60)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn run() -> Run {
        Run {
            machine: Machine { cpu: "a CPU".to_owned(), cores: 2, kernel: "6.18".to_owned(), tick: 250 },
            rustc: "rustc 1.95.0".to_owned(),
            go: Some("go1.27.3".to_owned()),
            date: "2026-11-29 07:20 UTC".to_owned(),
            samples: 9,
            quick: false,
            commit: "abc".to_owned(),
            build: "release".to_owned(),
            seconds: 60,
            notes: Vec::new(),
        }
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_936_859), "2026-11-29 07:20 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        assert_eq!(model("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(model(""), UNKNOWN);
        let here = Machine::here();
        assert!(here.cores > 0 && [100, 250, 300, 1000].contains(&here.tick), "{here}");
        assert!(here.is_like(&Machine { kernel: "other".to_owned(), ..here.clone() }));
        assert!(!here.is_like(&Machine { cores: here.cores + 1, ..here.clone() }));
    }
}
