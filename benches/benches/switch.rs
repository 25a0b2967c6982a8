//! What does a switch to the scheduler and back cost?
//!
//! - `greenprof`: `yield_now` of a task that is alone on a runtime with one worker. That is two context switches, and
//!   between them all that the worker does: the task goes through the run queue, its state is published for profiles, and
//!   the worker looks whether it should stop and whether others wait in the injector.
//! - `corosensei`: a coroutine that suspends and is resumed. That is two context switches, and nothing else: no queue,
//!   no thread but one, nobody who looks.
//!
//! - `bare switch`: the runtime's own context switch, there and back, between two contexts and without a scheduler: the
//!   like-for-like partner of corosensei.
//!
//! The first is not like for like, on purpose: the difference is what a scheduler adds to the bare switch.

mod common;

use std::{hint::black_box, time::Instant};

use corosensei::{Coroutine, CoroutineResult};
use criterion::{Criterion, criterion_group, criterion_main};
use greenprof_benches::workload;

fn round_trip(criterion: &mut Criterion) {
    let mut group = common::question(criterion, "what does a switch to the scheduler and back cost?");

    let runtime = workload::runtime(1);
    group.bench_function("greenprof", |b| b.iter_custom(|iterations| workload::yields_alone(&runtime, iterations)));
    drop(runtime);

    group.bench_function("bare switch", |b| b.iter_custom(greenprof_runtime::task::switch_round_trips));

    // Ends when it is told to, so that nothing has to be unwound.
    let mut coroutine = Coroutine::new(|yielder, mut go_on: bool| {
        while go_on {
            go_on = yielder.suspend(());
        }
    });
    group.bench_function("corosensei", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            for _ in 0..iterations {
                black_box(coroutine.resume(black_box(true)));
            }
            start.elapsed()
        });
    });
    assert!(matches!(coroutine.resume(false), CoroutineResult::Return(())), "told to end");
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = round_trip }
criterion_main!(benches);
