//! What a trace says of how long tasks ran, waited and could run, against the program's own clock, and against what Go's tool makes of
//! the same file.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use greenprof_benches::accuracy::trace::{Clock, ROUNDS, beside_clocks, group, program};
use greenprof_profiler::trace::name_functions;
use greenprof_tests::{go, pprof, trace};
use greenprof_tracer::reader::Summary;

fn assert_close(what: &str, ours: u64, theirs: u64) {
    let difference = ours.abs_diff(theirs) as f64 / theirs.max(1) as f64;
    assert!(difference <= 0.01, "{what}: {ours} ns and {theirs} ns differ by {:.2} %", difference * 100.0);
}

#[test]
fn times_of_a_trace_are_those_of_the_programs_clock_and_of_gos_tool() {
    name_functions();
    let clock = Arc::new(Clock::default());
    let bytes = program(&clock, ROUNDS);
    for (what, ours, theirs) in beside_clocks(&bytes, &clock) {
        assert_close(what, ours, theirs);
    }
    let waiters = group(&Summary::read(&bytes[..]).expect("valid"), "waiter").tasks;
    assert_eq!(u64::from(ROUNDS), waiters);

    if !go::available("times_of_a_trace_are_those_of_the_programs_clock_and_of_gos_tool") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("truth.trace");
    fs::write(&file, &bytes).expect("written");
    let of = |sum: &std::sync::atomic::AtomicU64| sum.load(Ordering::Relaxed);
    let profile = |kind: &str, function: &str| -> u64 {
        let samples = pprof::samples(&trace::profile_bytes(&file, kind));
        samples.iter().filter(|sample| sample.calls(function)).map(|sample| sample.values[1] as u64).sum()
    };
    assert_close("Go: waiting", profile("sync", "waits"), of(&clock.waited));
    assert_close("Go: blocking", profile("syscall", "blocks"), of(&clock.blocked));
    // By the stack of who has made it runnable.
    assert_close("Go: runnable", profile("sched", "holds"), of(&clock.could_run));
}
