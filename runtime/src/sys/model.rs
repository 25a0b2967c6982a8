//! How the model tests run: every interleaving up to a number of preemptions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use loom::cell::UnsafeCell;

use super::clock;

/// Explores `body` with up to `preemptions` preemptions an execution, and makes sure that this is at least `least`
/// executions: a model in which nothing can happen in different orders checks nothing.
///
/// Two or three preemptions find nearly all concurrency bugs; which of them a model can afford depends on its size.
/// Voluntary switches, such as those of a thread that waits, are not counted.
#[track_caller]
pub(crate) fn check(preemptions: usize, least: usize, body: impl Fn() + Sync + Send + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = executions.clone();
    let begin = Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        clock::set(1, 0);
        crate::sync::begin_execution();
        body();
    });
    let executions = executions.load(Ordering::Relaxed);
    let model = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{model}: {executions} executions, {preemptions} preemptions, {:.1} s", begin.elapsed().as_secs_f64());
    assert!(executions >= least, "only {executions} executions: the model has degenerated");
}

/// A value that loom checks: a model in which two threads use it at the same time, or one after the other without an order
/// between them that all processors keep, fails.
#[derive(Default)]
pub(crate) struct Checked(UnsafeCell<u32>);

// SAFETY: loom checks it.
unsafe impl Sync for Checked {}
// SAFETY: as above.
unsafe impl Send for Checked {}

impl Checked {
    pub(crate) fn add(&self, amount: u32) {
        // SAFETY: loom fails the model if there is a race.
        self.0.with_mut(|value| unsafe { *value += amount });
    }

    pub(crate) fn read(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|value| unsafe { *value })
    }
}
