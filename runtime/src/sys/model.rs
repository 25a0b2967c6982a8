//! How the model tests run: every interleaving up to a number of preemptions.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Preemptions per execution. Two or three find nearly all concurrency bugs; three take minutes on the larger models.
const PREEMPTIONS: usize = 3;

/// Runs `body` under loom, and makes sure that it really explored something.
pub(crate) fn check(body: impl Fn() + Sync + Send + 'static) {
    static EXECUTIONS: AtomicUsize = AtomicUsize::new(0);
    let before = EXECUTIONS.load(Ordering::Relaxed);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        EXECUTIONS.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let executions = EXECUTIONS.load(Ordering::Relaxed) - before;
    assert!(executions >= 10, "only {executions} executions: the model explores nothing");
}
