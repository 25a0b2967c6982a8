//! What does a snapshot of all tasks cost?
//!
//! `world::tasks(128)`, called from a plain thread while so many tasks wait on a channel and the workers sleep. Making
//! the snapshot is measured, freeing it is not. `time` is that of a whole snapshot, `thrpt` counts tasks.
//!
//! "as spawned": a task's stack has only the frames between its closure and the switch. "64 frames deep": a recursion of
//! 64 calls lies between them. The difference is what walking a stack costs.
//!
//! A snapshot looks at every stack that was ever used, also at free ones, so the small runs come first.

mod common;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use greenprof_benches::workload;
use greenprof_runtime::{
    Runtime, spawn,
    sync::Chan,
    world::{self, TaskState},
};

/// As many frames as the task profile asks for.
const FRAMES: usize = 128;

fn snapshot(criterion: &mut Criterion) {
    let mut group = common::question(criterion, "what does a snapshot of all tasks cost?");
    for tasks in [1_000, 10_000] {
        for (name, depth) in [("as spawned", 0), ("64 frames deep", 64)] {
            let runtime = workload::runtime(2);
            let parked = Parked::new(&runtime, tasks, depth);
            group.throughput(Throughput::Elements(tasks as u64));
            group.bench_function(BenchmarkId::new(name, tasks), |b| {
                b.iter_custom(|iterations| (0..iterations).map(|_| one_snapshot(tasks)).sum());
            });
            parked.release(&runtime);
        }
    }
    group.finish();
}

fn one_snapshot(tasks: usize) -> Duration {
    let start = Instant::now();
    let snapshot = black_box(world::tasks(FRAMES));
    let elapsed = start.elapsed();
    assert!(snapshot.len() >= tasks, "{} of {tasks} tasks", snapshot.len());
    elapsed
}

/// Tasks that wait on one channel.
struct Parked {
    channel: Arc<Chan<()>>,
}

impl Parked {
    /// Returns when all of them wait.
    fn new(runtime: &Runtime, tasks: usize, depth: usize) -> Self {
        let channel = Arc::new(Chan::new());
        runtime.run(|| {
            for _ in 0..tasks {
                let channel = channel.clone();
                drop(spawn(move || deep(depth, &channel)));
            }
        });
        let waiting = || world::tasks(0).iter().filter(|task| matches!(task.state, TaskState::Waiting(_))).count();
        while waiting() < tasks {
            std::thread::sleep(Duration::from_millis(1));
        }
        let snapshot = world::tasks(FRAMES);
        let frames = snapshot.iter().filter_map(|task| snapshot.stack(task)).map(<[usize]>::len).min().unwrap_or(0);
        assert!(frames > depth, "a stack of {frames} frames: the calls have been optimised away");
        Self { channel }
    }

    /// Lets them end, so that the next run finds their stacks free.
    fn release(self, runtime: &Runtime) {
        self.channel.close();
        while runtime.handle().alive_tasks() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits on the channel below `depth` calls.
#[inline(never)]
fn deep(depth: usize, channel: &Chan<()>) {
    if depth == 0 {
        channel.recv();
    } else {
        deep(depth - 1, channel);
        // Something to do after the call, so that it is none in tail position.
        black_box(depth);
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = snapshot }
criterion_main!(benches);
