//! Locks, condition variables, once and semaphores from the outside: exclusion, order, misuse, and what a waiter shows.

mod condvar;
mod locks;
mod once;
mod semaphore;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Handle, JoinHandle, Runtime, spawn,
    task::WaitReason,
    world::{self, TaskState},
    yield_now,
};

fn run<T: Send>(workers: usize, main: impl FnOnce() -> T + Send) -> T {
    Runtime::builder().workers(workers).build().expect("threads").run(main)
}

/// How many tasks of this runtime wait for `reason`.
fn waiting(reason: WaitReason) -> usize {
    let runtime = Handle::current().expect("a task").runtime_id();
    let waits = |task: &&world::TaskInfo| task.runtime_id == runtime && task.state == TaskState::Waiting(reason);
    world::tasks(1).iter().filter(waits).count()
}

/// Waits until so many tasks of this runtime wait for `reason`.
#[track_caller]
fn until_waiting(count: usize, reason: WaitReason) {
    let start = Instant::now();
    while waiting(reason) != count {
        assert!(start.elapsed() < Duration::from_secs(10), "{count} tasks should wait for {reason}");
        yield_now();
    }
}

/// Spawns tasks one after the other, each when the one before waits for `reason`.
#[track_caller]
fn spawn_waiters<T: Send + 'static>(
    count: usize,
    reason: WaitReason,
    body: impl Fn(usize) -> T + Clone + Send + 'static,
) -> Vec<JoinHandle<T>> {
    let before = waiting(reason);
    (0..count)
        .map(|n| {
            let body = body.clone();
            let task = spawn(move || body(n));
            until_waiting(before + n + 1, reason);
            task
        })
        .collect()
}

fn join_all<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    tasks.into_iter().map(|task| task.join().expect("no panic")).collect()
}

/// Runs `body` eight times at once: as tasks on one worker, on two, as plain threads, and half of them as each.
fn everywhere(body: impl Fn(usize) + Clone + Send + 'static) {
    let tasks = |count: usize, body: &(dyn Fn(usize) -> Box<dyn FnOnce() + Send> + Sync)| {
        join_all((0..count).map(|n| spawn(body(n))).collect())
    };
    let boxed = {
        let body = body.clone();
        move |n| -> Box<dyn FnOnce() + Send> {
            let body = body.clone();
            Box::new(move || body(n))
        }
    };
    let boxed = std::sync::Mutex::new(boxed);
    let make = |n| boxed.lock().unwrap()(n);
    let threads = |range: std::ops::Range<usize>| range.map(|n| thread::spawn(make(n))).collect::<Vec<_>>();
    run(1, || tasks(8, &make));
    run(2, || tasks(8, &make));
    threads(0..8).into_iter().for_each(|thread| thread.join().unwrap());
    let half = threads(4..8);
    run(2, || tasks(4, &make));
    half.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What the panic of `body` says.
#[track_caller]
fn panic_text(body: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(body)).expect_err("it should panic");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().expect("a text").to_string(),
    }
}
