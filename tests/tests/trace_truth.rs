//! What a trace says of how long tasks ran, waited and could run, against the program's own clock, and against what Go's tool makes of
//! the same file.
//!
//! The kernel may take the processor between a reading of the clock and the event beside it, and on a busy machine it does. So the
//! program reads its clock on both sides of each event: no traced duration may leave what these readings leave open, in any round.
//! What they leave open is next to nothing where the kernel has not come between; the sums over such rounds are within 1 %.

use std::fs;

use greenprof_benches::accuracy::trace::{Beside, ROUNDS, beside_clocks, program};
use greenprof_profiler::trace::name_functions;
use greenprof_tests::{go, pprof, trace};

/// A round counts in the sums if its bounds are so far apart, as a share of the upper.
const NARROW: f64 = 0.02;

/// Rounds that count, which each kind of time has to have. One program has more on a quiet machine.
const ENOUGH: usize = 15;

/// Programs that are run for them.
const PROGRAMS: usize = 20;

/// How far the clock of the events and that of the program may be apart: events have whole ticks, and the rate of the tracer's clock,
/// which it measures for two milliseconds before the first event and corrects from then on, is off by some ten-thousandths at first.
fn apart(duration: u64) -> u64 {
    1_000 + duration / 2_000
}

/// Sums of the rounds that count.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    rounds: usize,
    traced: u64,
    truth: u64,
}

impl Sums {
    fn add(&mut self, time: &Beside) {
        let lengths = (time.traced.len(), time.truth.len(), time.bounds.len());
        assert_eq!(lengths, (ROUNDS as usize, ROUNDS as usize, ROUNDS as usize), "{}: rounds", time.name);
        for ((traced, truth), bounds) in time.traced.iter().zip(&time.truth).zip(&time.bounds) {
            let (least, most) = (*bounds.start(), *bounds.end());
            assert!(
                traced + apart(least) >= least && *traced <= most + apart(most),
                "{}: {traced} ns in the trace, and {least} to {most} by the clock",
                time.name
            );
            if most > 0 && (most - least) as f64 <= NARROW * most as f64 {
                *self = Self { rounds: self.rounds + 1, traced: self.traced + traced, truth: self.truth + truth };
            }
        }
    }
}

#[test]
fn times_of_a_trace_are_those_of_the_programs_clock_and_of_gos_tool() {
    name_functions();
    let mut sums = [Sums::default(); 5];
    let mut first = None;
    for _ in 0..PROGRAMS {
        let (bytes, rounds) = program(ROUNDS);
        let times = beside_clocks(&bytes, &rounds);
        sums.iter_mut().zip(&times).for_each(|(sums, time)| sums.add(time));
        first.get_or_insert((bytes, times));
        if sums.iter().all(|sums| sums.rounds >= ENOUGH) {
            break;
        }
    }
    let (bytes, times) = first.expect("a program has run");
    for (sums, time) in sums.iter().zip(&times) {
        assert!(sums.rounds >= ENOUGH, "{}: the kernel has come between in all rounds but {}", time.name, sums.rounds);
        let difference = sums.traced.abs_diff(sums.truth) as f64 / sums.truth as f64;
        assert!(difference <= 0.01, "{}: {:.2} % between the sums: {sums:?}", time.name, difference * 100.0);
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
