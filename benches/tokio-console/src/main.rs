//! What it costs a tokio program to record what its tasks do, for tokio-console: CPU time with its subscriber, and without.
//!
//! ```text
//! greenprof-benches-tokio-console WORKERS OPERATIONS BATCHES
//! ```
//!
//! Prints the values of the case `trace-service` as JSON. Nobody is connected to the subscriber: it keeps what it would show,
//! for as long as it does by itself. A subscriber cannot be taken away, so the batches without it come first.

use std::{env, error::Error, hint::black_box, time::Duration};

use nix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
};
use tracing_subscriber::prelude::*;

/// As in `src/workload/tracing.rs` of the benches.
const REQUESTS: u64 = 16;
const HALF: Duration = Duration::from_micros(5);

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = env::args().skip(1).map(|number| number.parse()).collect::<Result<Vec<u64>, _>>()?;
    let &[workers, operations, batches] = &numbers[..] else {
        return Err("three numbers are needed: workers, operations, batches".into());
    };
    let runtime = Builder::new_multi_thread().worker_threads(workers as usize).build()?;
    let length = calibrate();
    let measure = || {
        run(&runtime, operations / 10, length);
        let mut times: Vec<f64> = (0..batches).map(|_| run(&runtime, operations, length)).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let off = measure();
    let layer = console_subscriber::ConsoleLayer::builder().server_addr(([127, 0, 0, 1], 0)).spawn();
    tracing_subscriber::registry().with(layer).init();
    let on = measure();
    println!("{{\"off\": {off}, \"on\": {on}, \"cost\": {}}}", on / off);
    Ok(())
}

/// Nanoseconds of CPU time of a request, of all threads.
fn run(runtime: &Runtime, operations: u64, length: u64) -> f64 {
    let before = cpu();
    runtime.block_on(async { runtime.spawn(service(operations, length)).await }).expect("nobody panics");
    (cpu() - before).as_nanos() as f64 / operations.max(1) as f64
}

/// An operation is a request: a task that computes for 5 us, asks another task, and computes for 5 us again.
async fn service(operations: u64, length: u64) {
    let (questions, mut asked) = mpsc::channel::<oneshot::Sender<u64>>(64);
    let oracle = tokio::spawn(async move {
        while let Some(answer) = asked.recv().await {
            answer.send(42).expect("somebody waits");
        }
    });
    let mut left = operations;
    while left > 0 {
        let now = left.min(REQUESTS);
        let request = |request| {
            let questions = questions.clone();
            tokio::spawn(async move {
                let half = compute(left ^ request, length);
                let (answer, answered) = oneshot::channel();
                questions.send(answer).await.expect("open");
                half ^ answered.await.expect("an answer") ^ compute(request, length)
            })
        };
        let tasks: Vec<_> = (0..now).map(request).collect();
        for task in tasks {
            black_box(task.await.expect("a request does not panic"));
        }
        left -= now;
    }
    drop(questions);
    oracle.await.expect("it does not panic");
}

/// Multiplications, each of which needs the one before.
fn compute(seed: u64, length: u64) -> u64 {
    (0..length).fold(seed | 1, |x, i| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i)
}

/// How many multiplications take half of a request's time.
fn calibrate() -> u64 {
    const MANY: u64 = 1_000_000;
    let time = |seed| {
        let start = std::time::Instant::now();
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
