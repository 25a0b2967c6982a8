//! What does a round trip between two tasks cost?
//!
//! A number goes to a partner over one channel and comes back over another: two sends, two receives.
//!
//! - `greenprof, rendezvous`: channels of capacity 0: each send hands its value to a receiver, or waits for one.
//! - `greenprof, capacity 1`: the send leaves the value and goes on.
//! - `tokio, capacity 1`: `tokio::sync::mpsc::channel(1)`, the smallest that tokio has: it has no rendezvous. Compare it
//!   with capacity 1 above. Two differences remain: mpsc has one receiver, greenprof's channels any number; and tokio
//!   makes a task yield after 128 operations in a row, which greenprof does not.
//!
//! With two workers the partner may run on the other one. That it mostly does not, because a woken task runs next where
//! it was woken, is part of the answer.

mod common;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenprof_benches::{
    peers::{self, tokio::Tokio},
    workload,
};

fn round_trip(criterion: &mut Criterion) {
    let mut group = common::question(criterion, "what does a round trip between two tasks cost?");
    for workers in [1, 2] {
        let id = |name: &str| BenchmarkId::new(name, format!("workers={workers}"));

        let runtime = workload::runtime(workers);
        for (name, capacity) in [("greenprof, rendezvous", 0), ("greenprof, capacity 1", 1)] {
            group.bench_function(id(name), |b| {
                b.iter_custom(|iterations| workload::ping_pong(&runtime, capacity, iterations));
            });
        }
        drop(runtime);

        let tokio = Tokio::new(workers).expect("threads");
        group.bench_function(id("tokio, capacity 1"), |b| {
            b.iter_custom(|iterations| tokio.run(peers::tokio::ping_pong(iterations)));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = round_trip }
criterion_main!(benches);
