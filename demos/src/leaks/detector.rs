//! What a detector is to the corpus; the project's own, and simple ones to compare with.

use std::time::Duration;

use greenprof_profiler::{
    leak::{self, Link, Mode},
    symbolize,
    tasks::Task,
};
use greenprof_runtime::{
    heap,
    task::{TaskId, WaitReason},
    time::sleep,
    world::{self, TaskInfo, TaskState},
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

    /// Why a task is not reported, if the detector can tell; nothing if it is.
    fn why_not(&self, task: TaskId) -> Option<String> {
        _ = task;
        None
    }
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
        name: "leak",
        what: "every task that nobody alive can wake: greenprof's own",
        make: || Box::new(Reachability { mode: Mode::Stop, ignore_tags: false }),
    },
    Entry {
        name: "leak-fork",
        what: "the same, in a copy of the process",
        make: || Box::new(Reachability { mode: Mode::Fork, ignore_tags: false }),
    },
    Entry {
        name: "plain",
        what: "as leak, but any word that looks like a handle counts: a conservative scan without tags",
        make: || Box::new(Reachability { mode: Mode::Stop, ignore_tags: true }),
    },
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

/// The detector with that name.
pub fn named(name: &str) -> Option<Box<dyn Detector>> {
    DETECTORS.iter().find(|entry| entry.name == name).map(|entry| (entry.make)())
}

/// The task in which a program runs.
pub(super) const MAIN: &str = "main";

/// The tasks of the runtime that have not ended, the main task and the calling one left out. The table lies where no detector
/// looks: it has gaps, and in those what the program has left there.
pub(super) fn unfinished(runtime_id: u32) -> Sites {
    heap::untracked(|| {
        unfinished_tasks(runtime_id).into_iter().map(|task| (task.name.unwrap_or_default(), task.state)).collect()
    })
}

/// The same, as tasks.
pub(super) fn unfinished_tasks(runtime_id: u32) -> Vec<TaskInfo> {
    let caller = greenprof_runtime::task::current_id();
    let of_program = |task: &&TaskInfo| {
        task.runtime_id == runtime_id && Some(task.id) != caller && task.name.as_deref() != Some(MAIN)
    };
    heap::untracked(|| world::tasks(0).iter().filter(of_program).cloned().collect())
}

struct Reachability {
    mode: Mode,
    ignore_tags: bool,
}

impl Detector for Reachability {
    fn look(&self, runtime_id: u32) -> Report {
        let mut options = leak::Options::default();
        options.runtime = Some(runtime_id);
        options.mode = self.mode;
        options.ignore_tags = self.ignore_tags;
        match leak::detect_with(&options) {
            Ok(report) => Report {
                leaked: report.leaked().iter().map(|leak| (name_of(&leak.task), leak.task.state)).collect(),
                // What was asked for is the copy.
                incomplete: report
                    .incomplete()
                    .map(ToString::to_string)
                    .or(report.not_copied.map(|why| why.to_string())),
            },
            Err(error) => Report { leaked: Sites::default(), incomplete: Some(error.to_string()) },
        }
    }

    fn why_not(&self, task: TaskId) -> Option<String> {
        let why = leak::why_alive(task).ok()??;
        let links: Vec<String> = why.chain.iter().map(shown).collect();
        Some(if links.is_empty() { "it is not blocked".to_owned() } else { links.join(" > ") })
    }
}

/// A link of a chain, with the name of the function whose frame it is.
fn shown(link: &Link) -> String {
    match *link {
        Link::Frame(task, _, 0) => format!("stack of task {}", task.get()),
        Link::Frame(task, _, function) => {
            let mut symbolizer = symbolize::shared().lock();
            symbolizer.refresh();
            // An address of return lies behind its call.
            let frames = symbolizer.resolve(function.saturating_sub(1));
            let name = frames.first().map_or_else(|| format!("{function:#x}"), |frame| frame.function.to_string());
            format!("stack of task {}, in {name}", task.get())
        }
        Link::Block(_, size, at) => format!("block of {size} bytes, at {at}"),
        Link::Primitive(_, kind, made) => {
            let made = made.map_or_else(String::new, |made| format!(", made at {made}"));
            format!("{kind:?}{made}")
        }
        ref other => format!("{other:x?}"),
    }
}

fn name_of(task: &Task) -> String {
    task.name.clone().unwrap_or_default()
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
        let leaked = unfinished_tasks(runtime_id)
            .into_iter()
            .filter(|task| matches!(task.state, TaskState::Waiting(reason) if reason != WaitReason::Sleep))
            .filter(|task| u128::from(task.waiting_for) > self.0.as_nanos())
            .map(|task| (task.name.unwrap_or_default(), task.state))
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
