//! What does it cost to spawn a task and to join it?
//!
//! - `greenprof`: `spawn` of an empty closure, and `join`. A task gets a stack of its own (a used one again), a control
//!   block with its spawn site and the innermost frames of the stack that spawned it, and nothing for its result,
//!   which has no bytes.
//! - `tokio`: `tokio::spawn` of an empty `async` block, and `.await` of its handle, from inside the runtime. It has no
//!   stack and records nothing: its whole state is one allocation. So greenprof does more for its time; but for a program
//!   that chooses between them the operation is the same.
//! - `corosensei`: making a coroutine on a stack that is there already, running its empty body, and taking the stack
//!   back. No handle, no queue, no result for others: what a stackful task costs before a scheduler comes in.
//!
//! "in batches": 1 000 are spawned before the first is joined. "one at a time": each is joined before the next is
//! spawned, so every join waits, and with two workers the other one may be woken for each task.

mod common;

use std::{hint::black_box, time::Instant};

use corosensei::{Coroutine, Yielder, stack::DefaultStack};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use greenprof_benches::{
    peers::{self, tokio::Tokio},
    workload::{self, BATCH},
};

fn in_batches(criterion: &mut Criterion) {
    compare(criterion, "what does spawn + join cost, in batches?", BATCH);
}

fn one_at_a_time(criterion: &mut Criterion) {
    compare(criterion, "what does spawn + join cost, one at a time?", 1);
}

fn compare(criterion: &mut Criterion, question: &str, batch: u64) {
    let mut group = common::question(criterion, question);
    for workers in [1, 2] {
        let id = |name: &str| BenchmarkId::new(name, format!("workers={workers}"));

        let runtime = workload::runtime(workers);
        group.bench_function(id("greenprof"), |b| {
            b.iter_custom(|iterations| workload::spawn_join(&runtime, batch, iterations));
        });
        drop(runtime);

        let tokio = Tokio::new(workers).expect("threads");
        group.bench_function(id("tokio"), |b| {
            b.iter_custom(|iterations| tokio.run(peers::tokio::spawn_join(batch, iterations)));
        });
    }
    group.finish();
}

fn bare_coroutine(criterion: &mut Criterion) {
    let mut group = common::question(criterion, "what does a coroutine cost that runs to its end?");
    group.bench_function("corosensei", |b| {
        b.iter_custom(|iterations| {
            let mut stack = DefaultStack::default();
            let start = Instant::now();
            for _ in 0..iterations {
                let mut coroutine = Coroutine::with_stack(stack, |_: &Yielder<(), ()>, ()| black_box(1));
                black_box(coroutine.resume(()));
                stack = coroutine.into_stack();
            }
            start.elapsed()
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = in_batches, one_at_a_time, bare_coroutine }
criterion_main!(benches);
