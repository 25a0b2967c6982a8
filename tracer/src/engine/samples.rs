//! Samples of a CPU profiler, which go into the trace when both run at the same time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::tables::Stack;
use crate::go::tables::Sample;

/// Samples that are kept until the generation ends; more are left out.
const MAX_SAMPLES: usize = 1 << 16;

/// Whether somebody wants samples.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Samples since the last generation. Guards only the list.
static SAMPLES: Mutex<Vec<CpuSample>> = Mutex::new(Vec::new());

/// What a CPU profiler has seen at one moment.
#[derive(Clone, Debug)]
pub struct CpuSample {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The kernel's id of the thread.
    pub thread: i32,
    /// The task that it ran; 0 for none.
    pub task: u64,
    /// Addresses, innermost first: where it was, and the return addresses of its callers.
    pub stack: Vec<usize>,
}

/// Whether a trace is being taken that wants CPU samples. One load.
pub fn wants_cpu_samples() -> bool {
    // Relaxed: a sample more or less.
    WANTED.load(Ordering::Relaxed)
}

/// Adds samples to the trace that is being taken, if one is. Not in a signal handler.
///
/// ```
/// use greenprof_tracer::{CpuSample, add_cpu_samples, wants_cpu_samples};
///
/// assert!(!wants_cpu_samples(), "no trace is being taken");
/// let trace = greenprof_tracer::start(Vec::new())?;
/// assert!(wants_cpu_samples());
/// add_cpu_samples([CpuSample { time: 0, thread: 1, task: 0, stack: vec![0x1234] }]);
/// drop(trace);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn add_cpu_samples(samples: impl IntoIterator<Item = CpuSample>) {
    if wants_cpu_samples() {
        let mut all = SAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_SAMPLES.saturating_sub(all.len());
        all.extend(samples.into_iter().take(room));
    }
}

pub(super) fn want(wanted: bool) {
    // Relaxed: as above.
    WANTED.store(wanted, Ordering::Relaxed);
}

/// The samples until a time in nanoseconds that were not taken yet.
pub(super) fn take(until: u64, processor: impl Fn(u64) -> Option<u64>) -> Vec<Sample> {
    let taken = remove(|sample| sample.time <= until);
    let mut stacks: HashMap<Vec<usize>, Arc<Stack>> = HashMap::new();
    taken
        .into_iter()
        .map(|CpuSample { time, thread, task, stack }| {
            let stack = stacks.entry(stack).or_insert_with_key(|addresses| {
                Arc::new(Stack::Addresses { addresses: addresses.as_slice().into(), exact_leaf: true })
            });
            let thread = thread as u64;
            Sample { time, thread, processor: processor(thread), task, stack: stack.clone() }
        })
        .collect()
}

/// Forgets the samples before a time in nanoseconds.
pub(super) fn forget(before: u64) {
    remove(|sample| sample.time < before);
}

/// In the order in which they came.
fn remove(which: impl Fn(&CpuSample) -> bool) -> Vec<CpuSample> {
    let mut all = SAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
    all.extract_if(.., |sample| which(sample)).collect()
}
