//! What does a yield cost?
//!
//! Sixteen tasks per worker yield to each other. The number is wall time multiplied by the number of workers and divided
//! by all yields, so the cost on one worker: with two workers it is as with one if they do not disturb each other.
//!
//! - `greenprof`: `yield_now`, which puts the task behind the others of its worker and switches to the next.
//! - `tokio`: `tokio::task::yield_now().await`. A stackless task returns `Pending` and is polled again; and tokio defers
//!   those that yield until its worker has polled the driver, to give I/O and timers their turn, which greenprof's yield
//!   does not. Like for like in what the program says, not in what is promised.

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenprof_benches::workload::{self, YIELDERS};
use tokio::sync::Barrier;

fn yields(criterion: &mut Criterion) {
    let mut group = common::question(criterion, "what does a yield cost?");
    for workers in [1, 2] {
        let tasks = YIELDERS * workers as u64;
        let id = |name: &str| BenchmarkId::new(name, format!("workers={workers}"));

        let runtime = workload::runtime(workers);
        group.bench_function(id("greenprof"), |b| {
            b.iter_custom(|iterations| workload::yields(&runtime, tasks, iterations));
        });
        drop(runtime);

        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).build().expect("threads");
        group.bench_function(id("tokio"), |b| {
            b.iter_custom(|iterations| {
                let main = tokio.spawn(tokio_yields(tasks, iterations));
                tokio.block_on(main).expect("the main task does not panic") * workers as u32
            });
        });
    }
    group.finish();
}

async fn tokio_yields(tasks: u64, operations: u64) -> Duration {
    let gate = Arc::new(Barrier::new(tasks as usize + 1));
    let tasks: Vec<_> = (0..tasks)
        .map(|index| {
            let gate = gate.clone();
            tokio::spawn(async move {
                gate.wait().await;
                for _ in 0..workload::share(operations, tasks, index) {
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    gate.wait().await;
    let start = Instant::now();
    for task in tasks {
        task.await.expect("a yielding task does not panic");
    }
    start.elapsed()
}

criterion_group! { name = benches; config = common::criterion(); targets = yields }
criterion_main!(benches);
