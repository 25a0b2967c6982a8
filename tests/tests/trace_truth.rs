//! What a trace says of how long tasks ran, waited and could run, against the program's own clock, and against what Go's tool makes of
//! the same file.

use std::{fs, sync::Arc};

use greenprof_benches::accuracy::trace::{Clock, ROUNDS, beside_clocks, program};
use greenprof_profiler::trace::name_functions;
use greenprof_tests::{go, pprof, trace};

#[test]
fn times_of_a_trace_are_those_of_the_programs_clock_and_of_gos_tool() {
    name_functions();
    let clock = Arc::new(Clock::default());
    let bytes = program(&clock, ROUNDS);
    let times = beside_clocks(&bytes, &clock);
    for time in &times {
        assert_eq!((time.traced.len(), time.truth.len()), (ROUNDS as usize, ROUNDS as usize), "{}: rounds", time.name);
        let (ours, truth) = time.sums();
        let difference = ours.abs_diff(truth) as f64 / truth.max(1) as f64;
        assert!(difference <= 0.01, "sums differ by {:.2} %: {time:?}", difference * 100.0);
    }

    if !go::available("times_of_a_trace_are_those_of_the_programs_clock_and_of_gos_tool") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("truth.trace");
    fs::write(&file, &bytes).expect("written");
    // The tool gives sums over all rounds. They are of the same file as ours, so no turn of the kernel lies between them.
    let [_, _, waited, could_run, blocked] = &times;
    for (time, kind, function) in [
        (waited, "sync", "waits"),
        (blocked, "syscall", "blocks"),
        // By the stack of who has made it runnable.
        (could_run, "sched", "holds"),
    ] {
        let samples = pprof::samples(&trace::profile_bytes(&file, kind));
        // `holds` makes two tasks runnable, one of them by a message.
        let is_it = |sample: &&pprof::Sample| sample.calls(function) && !sample.calls("Chan::send");
        let theirs: u64 = samples.iter().filter(is_it).map(|sample| sample.values[1] as u64).sum();
        let (ours, _) = time.sums();
        let difference = ours.abs_diff(theirs) as f64 / theirs.max(1) as f64;
        assert!(difference <= 0.001, "{}: {ours} ns and, by the tool, {theirs} ns: {samples:?}", time.name);
    }
}
