//! What the tests of leaks share: tasks with names, complete reports, and reclaims of all that a report has.

use std::{thread, time::Duration};

use greenprof_profiler::leak::{
    self, Report,
    reclaim::{self, Reclamation, reclaim_if},
};
use greenprof_runtime::{
    JoinHandle, Runtime, task,
    world::{self, TaskState},
};
use parking_lot::{Mutex, MutexGuard};

/// A reclaim outdates the reports of other tests, and what one test leaves in memory hides the leaks of another.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

/// One with two workers.
pub fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().expect("a runtime")
}

/// Runs `make` as a task that ends, so that nothing stale hides what it makes.
#[inline(never)]
pub fn made<T: Send>(runtime: &Runtime, make: impl FnOnce() -> T + Send) -> T {
    runtime.run(make)
}

/// Spawns a task with a name.
#[track_caller]
pub fn go<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    task::Builder::new().name(name).spawn(body).expect("a task")
}

/// Waits until so many tasks of the runtime wait.
pub fn settle(runtime: &Runtime, count: usize) {
    let id = runtime.handle().runtime_id();
    let waiting = || {
        let tasks = world::tasks(0);
        tasks.iter().filter(|t| t.runtime_id == id && matches!(t.state, TaskState::Waiting(_))).count()
    };
    while waiting() < count {
        thread::sleep(Duration::from_millis(1));
    }
}

/// For the tasks of one runtime.
pub fn options_for(runtime: &Runtime) -> leak::Options {
    let mut options = leak::Options::default();
    options.runtime = Some(runtime.handle().runtime_id());
    options
}

/// A complete report; looks again while another program's load keeps a thread from stopping.
pub fn complete(options: &leak::Options) -> Box<Report> {
    for _ in 0..50 {
        let report = leak::detect_with(options).expect("a report");
        if report.incomplete().is_none() {
            return report;
        }
    }
    panic!("the world cannot be stopped");
}

/// The leaked tasks of a runtime when they have come to rest.
pub fn report(runtime: &Runtime) -> Box<Report> {
    let mut options = options_for(runtime);
    options.settle = Duration::from_secs(2);
    let report = complete(&options);
    assert_eq!(report.errors, 0, "a reclaim is no fault of the detector");
    report
}

/// With the patience that the destructors of many tasks need, on a machine with other work.
pub fn reclaim_options() -> reclaim::Options {
    let mut options = reclaim::Options::default();
    options.patience = Duration::from_secs(60);
    options
}

/// Reclaims all that a report has.
pub fn reclaim_all(report: &Report) -> Reclamation {
    reclaim_if(report, &reclaim_options(), |_| true)
}
