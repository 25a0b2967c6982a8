//! How long tasks are runnable before they run: a histogram of a sample of them.
//!
//! A worker measures one task for every sixty or so that it runs: the next that it makes runnable after it has
//! looked into the injector first. Other threads measure one of every [`OUTSIDE`] that they wake. So the histogram is of about
//! one in sixty of all that become runnable by a wake-up or by their spawn. Tasks that yield are not measured.
//!
//! Cost: a worker looks at a flag of its own for each task that it queues, and at a byte of the control block, in the cache
//! line that it needs anyway, for each that it runs. The clock is read twice for a task that is measured.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{
    sys::{
        clock,
        histogram::{Distribution, Histogram},
    },
    task::control::Control,
};

/// Of so many tasks that other threads than workers wake, one is measured.
const OUTSIDE: u32 = 61;

static LATENCIES: Histogram = Histogram::new();

/// Tasks that other threads than workers have queued.
pub(crate) struct Outside(AtomicU32);

impl Outside {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Measures one of these, if it is its turn.
    pub(super) fn queue(&self, tasks: &[NonNull<Control>]) {
        // Relaxed, and not one operation: if two threads count at once, one task is not counted.
        let before = self.0.load(Ordering::Relaxed) % OUTSIDE;
        let after = before + tasks.len() as u32;
        self.0.store(after, Ordering::Relaxed);
        if after >= OUTSIDE {
            // SAFETY: control blocks are never unmapped.
            begin(unsafe { tasks[(OUTSIDE - 1 - before) as usize].as_ref() });
        }
    }
}

/// Measures this task, which is about to be queued.
#[cold]
pub(super) fn begin(control: &Control) {
    control.set_runnable_since(clock::now());
}

/// Ends the measurement of a task that is about to run.
#[cold]
pub(super) fn end(control: &Control) {
    LATENCIES.add(Duration::from_nanos(clock::now().saturating_sub(control.take_runnable_since())));
}

pub(super) fn distribution() -> Distribution {
    LATENCIES.snapshot()
}
