//! What one run of the binary `workload` measures, as it prints it and as `hooks-cost` reads it: one line of JSON.

use serde::{Deserialize, Serialize};

/// How the instrumentation points of a run were built and used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hooks {
    /// Built without the feature `hooks`.
    Absent,
    /// Built in, and nobody listens.
    Off,
    /// Built in, and an instrument counts every event.
    On,
}

impl Hooks {
    /// In the order of reports: the baseline first.
    pub const ALL: [Self; 3] = [Self::Absent, Self::Off, Self::On];
}

/// One process's measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub workload: String,
    pub workers: usize,
    pub hooks: Hooks,
    /// Operations measured, in all batches together.
    pub operations: u64,
    /// Nanoseconds of an operation: the median of the batches' wall times.
    pub wall_ns: f64,
    /// Nanoseconds of processor time of an operation, of all threads of the process, over all batches.
    pub cpu_ns: f64,
    /// Events that the instrument was told of, the warm-up included; shows that it was really on.
    pub events: Option<u64>,
}
