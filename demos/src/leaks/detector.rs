//! What a detector is to the corpus, and two simple ones to compare with.

use std::time::Duration;

use greenprof_runtime::{
    task::WaitReason,
    time::sleep,
    world::{self, TaskState},
};

use super::sites::Sites;

/// What a detector said.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The tasks that it calls leaked.
    pub leaked: Sites,
    /// Why it may have missed some, if it says so itself.
    pub incomplete: Option<String>,
}

/// Something that says which tasks of a runtime are leaked. Called on a task of that runtime.
pub trait Detector: Send + Sync {
    /// Looks once.
    fn look(&self, runtime_id: u32) -> Report;
}

/// A detector's name on the command line, what it does, and how to get one.
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Makes one.
    pub make: fn() -> Box<dyn Detector>,
}

/// The detectors that there are.
pub const DETECTORS: &[Entry] = &[
    Entry {
        name: "unfinished",
        what: "every task that has not ended, as leak checkers at the end of a test do",
        make: || Box::new(Unfinished),
    },
    Entry {
        name: "longer",
        what: "every task that has been blocked for more than 50 ms",
        make: || Box::new(LongerThan(Duration::from_millis(50))),
    },
    Entry {
        name: "none",
        what: "nothing; what the programs themselves do is still checked",
        make: || Box::new(Silent),
    },
];

/// The task in which a program runs.
pub(super) const MAIN: &str = "main";

/// The tasks of the runtime that have not ended, the main task and the calling one left out.
pub(super) fn unfinished(runtime_id: u32) -> Sites {
    let caller = greenprof_runtime::task::current_id();
    let tasks = world::tasks(0);
    tasks
        .iter()
        .filter(|task| task.runtime_id == runtime_id && Some(task.id) != caller && task.name.as_deref() != Some(MAIN))
        .map(|task| (task.name.clone().unwrap_or_default(), task.state))
        .collect()
}

struct Unfinished;

impl Detector for Unfinished {
    fn look(&self, runtime_id: u32) -> Report {
        Report { leaked: unfinished(runtime_id), incomplete: None }
    }
}

struct LongerThan(Duration);

impl Detector for LongerThan {
    fn look(&self, runtime_id: u32) -> Report {
        // Twice: the age of a wait is known to a kernel tick only.
        sleep(self.0 * 2);
        let caller = greenprof_runtime::task::current_id();
        let tasks = world::tasks(0);
        let leaked = tasks
            .iter()
            .filter(|task| task.runtime_id == runtime_id && Some(task.id) != caller)
            .filter(|task| task.name.as_deref() != Some(MAIN))
            .filter(|task| matches!(task.state, TaskState::Waiting(reason) if reason != WaitReason::Sleep))
            .filter(|task| u128::from(task.waiting_for) > self.0.as_nanos())
            .map(|task| (task.name.clone().unwrap_or_default(), task.state))
            .collect();
        Report { leaked, incomplete: None }
    }
}

struct Silent;

impl Detector for Silent {
    fn look(&self, _: u32) -> Report {
        Report::default()
    }
}
