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

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenprof_benches::{
    peers::{self, tokio::Tokio},
    workload::{self, YIELDERS},
};

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

        let tokio = Tokio::new(workers).expect("threads");
        group.bench_function(id("tokio"), |b| {
            b.iter_custom(|iterations| tokio.run(peers::tokio::yields(tasks, iterations)) * workers as u32);
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = yields }
criterion_main!(benches);
