//! For tests: a piece of code that must not leave leaked tasks behind.

use std::{
    thread,
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime, heap,
    world::{self, TaskState},
};

use super::{DetectError, Options, Report, detect_with, endpoint, text};
use crate::{symbolize, tasks};

/// How long the tasks of the runtime may take to come to rest.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two looks whether they have.
const LOOK: Duration = Duration::from_millis(1);
/// How often it is tried if a scan is not complete: what kept it from that is mostly over soon.
const ATTEMPTS: u32 = 20;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs `body` as the main task of a runtime of its own, and then looks for tasks of that runtime that are leaked. Gives what
/// `body` returned.
///
/// When `body` has returned, tasks that are still running are waited for, for one second at the most. Those that sleep are
/// not: a task that will be leaked after its sleep is not leaked yet. What `body` returns is live, and so is what the
/// caller holds. The tasks of other runtimes may run meanwhile, those of other tests in this process for
/// example; they are stopped for the time of the scan.
///
/// ```standalone_crate
/// use greenprof_profiler::leak;
/// use greenprof_runtime::{heap::Heap, spawn, sync::Chan};
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// leak::verify_none(|| {
///     let results = Chan::with_capacity(1);
///     let sender = results.clone();
///     // Who gives up on the result leaves nobody behind: there is room for it.
///     spawn(move || sender.send(7));
/// });
/// ```
///
/// # Panics
/// With the report's text if a task is leaked. If it could not be found out: because the program's allocator is not
/// [`greenprof_runtime::heap::Heap`], or because a thread could not be stopped. And as `body` does.
#[track_caller]
#[inline(never)]
pub fn verify_none<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let runtime = match Runtime::builder().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime to look for leaks in: {error}"),
    };
    let value = run(&runtime, body);
    let id = runtime.handle().runtime_id();
    let verdict = judge(id);
    // Leaked tasks are given up, and never run again.
    drop(runtime);
    match verdict {
        Ok(()) => value,
        Err(text) => panic!("{text}"),
    }
}

/// On a frame of its own: what lies there is not looked at afterwards.
#[inline(never)]
fn run<T: Send>(runtime: &Runtime, body: impl FnOnce() -> T + Send) -> T {
    runtime.run(body)
}

#[inline(never)]
fn judge(runtime: u32) -> Result<(), String> {
    settle(runtime);
    let options = Options { runtime: Some(runtime), ..Options::default() };
    for attempt in 1.. {
        let report = match detect_with(&options) {
            Ok(report) => report,
            Err(error @ DetectError::NoHeap) => return Err(error.to_string()),
            Err(error) => return Err(format!("it could not be found out whether tasks are leaked: {error}")),
        };
        match report.incomplete() {
            None if report.leaked().is_empty() => return Ok(()),
            None => return Err(told(&report)),
            Some(_) if attempt < ATTEMPTS => thread::sleep(PAUSE),
            Some(reason) => return Err(format!("it could not be found out whether tasks are leaked: {reason}")),
        }
    }
    unreachable!("the last attempt returns")
}

/// Waits until no task of the runtime is running or runnable.
fn settle(runtime: u32) {
    let began = Instant::now();
    let is_active = || {
        heap::untracked(|| {
            let tasks = world::tasks(0);
            let mut own = tasks.iter().filter(|task| task.runtime_id == runtime);
            own.any(|task| !matches!(task.state, TaskState::Waiting(_)))
        })
    };
    while is_active() && began.elapsed() < SETTLE {
        thread::sleep(LOOK);
    }
}

/// What a person reads: how many, and of each task the stack and what it waits for.
fn told(report: &Report) -> String {
    heap::untracked(|| {
        let count = report.leaked().len();
        let (tasks, are) = if count == 1 { ("task", "is") } else { ("tasks", "are") };
        let mut words = format!("{count} {tasks} {are} leaked: nothing that is still reachable can wake them\n\n");
        let snapshot = endpoint::snapshot(report);
        words.push_str(&tasks::dump_with(&snapshot, &mut symbolize::shared().lock(), |_| " (leaked)"));
        words.push('\n');
        words.push_str(&text::graph(report));
        words.push_str(&text::remarks(report));
        words
    })
}
