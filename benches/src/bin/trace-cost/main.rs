//! What the execution tracer costs: CPU time and bytes for each event of two tasks that do nothing but wake each other, and
//! the slow-down of a service whose requests take 10 us.
//!
//! Samples with and without tracing alternate, and each pair begins with the other one. The CPU time is the process's, so the
//! tracer's own threads are in it.

use std::{io, time::Duration};

use clap::Parser;
use greenprof_benches::statistics::Summary;
use greenprof_runtime::{Runtime, spawn, sync::Chan};
use nix::time::{ClockId, clock_gettime};

/// Measures the execution tracer.
#[derive(Debug, Parser)]
struct Settings {
    /// Pairs of samples
    #[arg(long, default_value_t = 15)]
    pairs: usize,
    /// Round trips of a sample of two tasks that wake each other
    #[arg(long, default_value_t = 300_000)]
    round_trips: u64,
    /// Requests of a sample of the service
    #[arg(long, default_value_t = 20_000)]
    requests: u64,
    /// Number of threads that run tasks
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock that every Linux has").into()
}

/// Two tasks that wake each other.
fn ping_pong(runtime: &Runtime, round_trips: u64) {
    runtime.run(|| {
        let (there, back) = (Chan::new(), Chan::new());
        let (receive, answer) = (there.clone(), back.clone());
        let echo = spawn(move || receive.iter().for_each(|number: u64| answer.send(number).expect("open")));
        for number in 0..round_trips {
            there.send(number).expect("open");
            back.recv().expect("open");
        }
        there.close();
        echo.join().expect("no panic");
    });
}

/// A task for each request, which computes for about 10 us and asks another task in between.
fn service(runtime: &Runtime, requests: u64) {
    runtime.run(|| {
        let questions = Chan::<Chan<u64>>::with_capacity(64);
        let asked = questions.clone();
        let oracle = spawn(move || asked.iter().for_each(|answer| answer.send(42).expect("open")));
        for batch in 0..requests / 16 {
            let tasks: Vec<_> = (0..16)
                .map(|i| {
                    let questions = questions.clone();
                    spawn(move || {
                        let half = compute(batch + i);
                        let answer = Chan::new();
                        questions.send(answer.clone()).expect("open");
                        half ^ answer.recv().expect("open") ^ compute(i)
                    })
                })
                .collect();
            for task in tasks {
                std::hint::black_box(task.join().expect("no panic"));
            }
        }
        questions.close();
        oracle.join().expect("no panic");
    });
}

/// Some 5 us of multiplications, each of which needs the one before.
fn compute(seed: u64) -> u64 {
    (0..3500).fold(seed | 1, |x, i| std::hint::black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i))
}

/// CPU seconds of `work`, and with tracing the events and bytes.
fn sample(traced: bool, work: impl Fn()) -> (f64, u64, u64) {
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
    let trace = traced.then(|| greenprof_tracer::start(Count(0)).expect("a trace"));
    let before = cpu();
    work();
    let used = (cpu() - before).as_secs_f64();
    match trace.map(|trace| trace.stop().expect("a whole trace")) {
        Some((Count(bytes), stats)) => {
            if stats.lost > 0 {
                println!(
                    "{} events of {} were lost: the tracer's thread got no processor for too long",
                    stats.lost, stats.events
                );
            }
            (used, stats.events, bytes)
        }
        None => (used, 0, 0),
    }
}

fn main() {
    let settings = Settings::parse();
    let runtime = Runtime::builder().workers(settings.workers).build().expect("a runtime");
    let report = |name: &str, work: &dyn Fn()| {
        sample(true, work);
        let (mut ratios, mut costs, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..settings.pairs {
            let first = sample(pair % 2 == 0, work);
            let second = sample(pair % 2 == 1, work);
            let (on, off) = if pair % 2 == 0 { (first, second) } else { (second, first) };
            ratios.push(on.0 / off.0);
            costs.push((on.0 - off.0) * 1e9 / on.1 as f64);
            sizes.push(on.2 as f64 / on.1 as f64);
        }
        for (what, values) in [("CPU on/off", ratios), ("ns an event", costs), ("bytes an event", sizes)] {
            let Summary { median, low, high, .. } = Summary::of(&values);
            println!("{name:10} {what:15} {median:8.3}  (95% interval {low:.3} to {high:.3})");
        }
    };
    report("ping-pong", &|| ping_pong(&runtime, settings.round_trips));
    report("service", &|| service(&runtime, settings.requests));
}
