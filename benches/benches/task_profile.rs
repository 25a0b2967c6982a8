//! What does the `goroutine` profile of 100 000 tasks cost?
//!
//! The whole of it, as the port writes it, while the tasks wait on a channel and the workers sleep: "file" is the gzipped
//! `profile.proto`, "text" is `debug=1`. The world is not stopped for it; the bench asserts that.

mod common;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use greenprof_benches::workload;
use greenprof_profiler::{http::NamedProfile, tasks::TaskProfile};
use greenprof_runtime::{
    spawn,
    sync::Chan,
    world::{self, TaskState, stop::pauses},
};

const TASKS: usize = 100_000;

fn task_profile(criterion: &mut Criterion) {
    let runtime = workload::runtime(2);
    let gate = Arc::new(Chan::<()>::new());
    runtime.run(|| {
        for _ in 0..TASKS {
            let gate = gate.clone();
            drop(spawn(move || gate.recv()));
        }
    });
    let waiting = || world::tasks(0).iter().filter(|task| matches!(task.state, TaskState::Waiting(_))).count();
    while waiting() < TASKS {
        std::thread::sleep(Duration::from_millis(1));
    }
    let stops = pauses().stopped.count();
    let mut group = common::question(criterion, "what does the goroutine profile of 100 000 tasks cost?");
    group.throughput(Throughput::Elements(TASKS as u64)).sample_size(10);
    for (name, debug) in [("file", 0), ("text", 1)] {
        group.bench_function(BenchmarkId::new(name, TASKS), |b| {
            b.iter(|| black_box(TaskProfile.write(debug).expect("a profile")));
        });
    }
    group.finish();
    assert_eq!(pauses().stopped.count(), stops, "the world was stopped");
    gate.close();
    while runtime.handle().alive_tasks() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = task_profile }
criterion_main!(benches);
