//! What the execution tracer costs: CPU time with it and without, events, and bytes.
//!
//! The CPU time is the process's, so that of the tracer's own threads is in it, and so is the end of a trace. The trace goes to a
//! writer that forgets it. `go/tracing.go` measures the same.

use std::{
    hint::black_box,
    io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenprof_runtime::{Runtime, spawn, sync::Chan, task, yield_now};
use greenprof_tracer::{FlightRecorder, Trace};
use nix::time::{ClockId, clock_gettime};

use super::finished;
use crate::{
    case::Effort,
    statistics::{Summary, quantile_of},
    values::{BYTES, COST, EVENT, LOST, OFF, ON, P99, P99_OFF, Values},
};

/// Requests that are in the works at a time.
const REQUESTS: u64 = 16;

/// How long a request computes before it asks somebody else, and after that.
const HALF: Duration = Duration::from_micros(5);

/// What runs beside the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// A trace that is written to the end.
    Trace,
    /// A flight recorder.
    Flight,
}

/// An operation is a request: a task that computes for 5 us, asks another task, and computes for 5 us again.
pub fn service(runtime: &Runtime, operations: u64) {
    let length = *LENGTH.get_or_init(calibrate);
    runtime.run(move || {
        let questions = Chan::<Chan<u64>>::with_capacity(64);
        let asked = questions.clone();
        let oracle = spawn(move || asked.iter().for_each(|answer| answer.send(42).expect("open")));
        let mut left = operations;
        while left > 0 {
            let now = left.min(REQUESTS);
            let tasks: Vec<_> = (0..now)
                .map(|request| {
                    let questions = questions.clone();
                    spawn(move || {
                        let half = compute(left ^ request, length);
                        let answer = Chan::new();
                        questions.send(answer.clone()).expect("open");
                        half ^ answer.recv().expect("open") ^ compute(request, length)
                    })
                })
                .collect();
            for task in tasks {
                black_box(task.join().expect("a request does not panic"));
            }
            left -= now;
        }
        questions.close();
        finished(oracle);
    });
}

/// Multiplications, each of which needs the one before.
fn compute(seed: u64, length: u64) -> u64 {
    (0..length).fold(seed | 1, |x, i| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i)
}

/// How many multiplications take half of a request's time.
static LENGTH: OnceLock<u64> = OnceLock::new();

fn calibrate() -> u64 {
    const MANY: u64 = 1_000_000;
    let time = |seed| {
        let start = Instant::now();
        black_box(compute(black_box(seed), MANY));
        start.elapsed()
    };
    // The fastest: others were interrupted.
    let took = (0..9).map(time).min().unwrap_or(HALF);
    (MANY as f64 * HALF.as_secs_f64() / took.as_secs_f64()) as u64
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock that every Linux has").into()
}

/// Forgets what is written, but not how much.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is running.
enum Running {
    Nothing,
    Trace(Trace<Count>),
    Flight(FlightRecorder),
}

/// One batch.
struct Sample {
    cpu: Duration,
    events: u64,
    lost: u64,
    bytes: u64,
}

fn sample(tracing: Option<Tracing>, work: impl FnOnce()) -> Sample {
    let running = match tracing {
        None => Running::Nothing,
        Some(Tracing::Trace) => Running::Trace(greenprof_tracer::start(Count(0)).expect("hooks are built in")),
        Some(Tracing::Flight) => {
            // So little room that most records have to be passed over within the batch, as all have in the long run.
            let recorder = greenprof_tracer::flight_recorder().max_bytes(0);
            Running::Flight(recorder.start().expect("hooks are built in"))
        }
    };
    let before = cpu();
    work();
    let (mut events, mut lost, mut bytes) = (0, 0, 0);
    match running {
        Running::Nothing => {}
        Running::Trace(trace) => {
            let (count, stats) = trace.stop().expect("a whole trace");
            (events, lost, bytes) = (stats.events, stats.lost, count.0);
        }
        Running::Flight(recorder) => drop(recorder),
    }
    Sample { cpu: cpu() - before, events, lost, bytes }
}

/// Runs each batch with tracing and without, in changing order. Gives the medians of the pairs.
pub fn traced(effort: Effort, tracing: Tracing, run: impl Fn(u64)) -> Values {
    greenprof_profiler::trace::name_functions();
    sample(Some(tracing), || run(effort.operations / 10));
    sample(None, || run(effort.operations / 10));
    let (mut off, mut on, mut cost, mut event) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut lost) = (Vec::new(), Vec::new());
    for batch in 0..effort.batches {
        let mut pair = [batch % 2 == 0, batch % 2 == 1].map(|is_on| {
            let sample = sample(is_on.then_some(tracing), || run(effort.operations));
            (is_on, sample)
        });
        pair.sort_by_key(|(is_on, _)| *is_on);
        let [(_, without), (_, with)] = pair;
        let [without_cpu, with_cpu] = [&without, &with].map(|sample| sample.cpu.as_nanos() as f64);
        off.push(without_cpu / effort.operations as f64);
        on.push(with_cpu / effort.operations as f64);
        cost.push(with_cpu / without_cpu);
        let events = with.events.max(1) as f64;
        event.push((with_cpu - without_cpu) / events);
        bytes.push(with.bytes as f64 / events);
        lost.push(with.lost as f64 / (with.lost as f64 + events) * 100.0);
    }
    let mut values = vec![(OFF, off), (ON, on), (COST, cost)];
    if tracing == Tracing::Trace {
        values.extend([(EVENT, event), (BYTES, bytes), (LOST, lost)]);
    }
    values.into_iter().map(|(name, values)| (name.to_owned(), Summary::of(&values).median)).collect()
}

/// From before a trace's beginning until after its end.
const AROUND: Duration = Duration::from_millis(2);

/// An operation is a trace that begins and ends beside tasks that yield all the time, one for each worker. Gives the 99th percentile
/// of the milliseconds in which a task did not get on for longest, around a trace and without one.
pub fn edges(runtime: &Runtime, operations: u64) -> Values {
    let (end, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let workers = runtime.handle().workers();
    let [with, without] = thread::scope(|scope| {
        let tracing = scope.spawn(|| {
            let longest_around = |work: &dyn Fn()| {
                thread::sleep(AROUND);
                // Relaxed, as all here: nothing else depends on it.
                longest.store(0, Ordering::Relaxed);
                work();
                thread::sleep(AROUND);
                longest.load(Ordering::Relaxed) as f64 / 1e6
            };
            let trace = || {
                let trace = greenprof_tracer::start(Count(0)).expect("hooks are built in");
                thread::sleep(AROUND);
                trace.stop().expect("a whole trace");
            };
            let (with, without): (Vec<f64>, Vec<f64>) = (0..operations)
                .map(|_| {
                    let began = Instant::now();
                    let with = longest_around(&trace);
                    let took = began.elapsed().saturating_sub(2 * AROUND);
                    (with, longest_around(&|| thread::sleep(took)))
                })
                .unzip();
            end.store(true, Ordering::Relaxed);
            [with, without]
        });
        runtime.run(|| {
            task::scope(|tasks| {
                for _ in 0..workers {
                    tasks.spawn(|| {
                        let mut before = Instant::now();
                        while !end.load(Ordering::Relaxed) {
                            let now = Instant::now();
                            longest.fetch_max((now - before).as_nanos() as u64, Ordering::Relaxed);
                            before = now;
                            yield_now();
                        }
                    });
                }
            });
        });
        tracing.join().expect("no panic")
    });
    [(P99, with), (P99_OFF, without)].map(|(name, times)| (name.to_owned(), quantile_of(&times, 0.99))).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{ping_pong, runtime};

    #[test]
    fn figures_are_there_for_a_trace_and_for_a_flight_recorder() {
        let runtime = runtime(1);
        let effort = Effort { operations: 100, batches: 2 };
        let values = traced(effort, Tracing::Trace, |operations| _ = ping_pong(&runtime, 0, operations));
        assert!(values[BYTES] > 1.0 && values[COST] > 0.0, "{values:?}");
        let values = traced(effort, Tracing::Flight, |operations| service(&runtime, operations));
        assert!(values[COST] > 0.0 && !values.contains_key(EVENT), "{values:?}");
        let values = edges(&runtime, 2);
        assert!(values[P99] > 0.0 && values[P99_OFF] > 0.0, "{values:?}");
    }
}
