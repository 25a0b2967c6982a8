//! One run of one program, in a process of its own: what leaks there is gone with the process, and no run sees another's.
//!
//! The detector is called on the main task of the program's runtime, or, in the program that asks for it, on another.

use std::{
    process::{ExitCode, exit},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use greenprof_runtime::{BuildError, Runtime, heap, time::sleep, world::TaskInfo};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    detector::{self, DETECTORS, Detector, unfinished, unfinished_tasks},
    program::{Form, Kind, Program, Site},
    scene::{Frame, Moment, Scene, Stage, poll, wipe},
    sites::{Counted, Sites},
};
use crate::console;

/// Why a run came to no result.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is no runtime.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The result cannot be written.
    #[error("the result could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// There is no such detector.
    #[error("there is no such detector")]
    NoDetector,
}

/// What was seen in one run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Observation {
    /// The tasks that had not ended when the detector was asked.
    pub blocked: Vec<Counted>,
    /// Those that it called leaked; of all looks, if there were several.
    pub reported: Vec<Counted>,
    /// Why it may have missed some.
    pub incomplete: Option<String>,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Why tasks that should be reported were not, if that was asked for and the detector can tell.
    #[serde(default)]
    pub why: Vec<String>,
    /// What had not ended after the program had woken whom it could.
    pub left: Vec<Counted>,
}

/// Longest sleep between two looks at whether all is quiet.
const NAP: std::time::Duration = std::time::Duration::from_millis(1);

/// Looks at whether all is quiet before it is given up: some three seconds, counted.
const LOOKS: u32 = 2_000;

struct Judge {
    runtime_id: u32,
    form: &'static Form,
    detector: Box<dyn Detector>,
    asks_why: bool,
    /// What was seen; nothing before the first look.
    seen: Mutex<Option<Observation>>,
}

impl Judge {
    /// The sites whose tasks must be there for the form to be looked at.
    fn expected(&self) -> Sites {
        Sites::of(self.form.leaks, 1).plus(Sites::of(self.form.held, 1))
    }

    /// Why what should be reported is not.
    fn why(&self) -> Vec<String> {
        let why = |task: TaskInfo| {
            let Site(name, ..) = self.form.leaks.iter().find(|site| task.name.as_deref() == Some(site.0))?;
            Some(format!("{name} (task {}): {}", task.id.get(), self.detector.why_not(task.id)?))
        };
        unfinished_tasks(self.runtime_id).into_iter().filter_map(why).collect()
    }

    /// Waits until the program is what it should be, or is not going to be.
    fn rest(&self) {
        match self.form.kind {
            Kind::Natural => self.quiet(),
            // Where something is held, those who hold it are there, too.
            _ if self.form.held.is_empty() => self.reach(|sites| *sites == self.expected()),
            _ => self.reach(|sites| self.expected().within(sites)),
        }
    }

    /// Waits until two looks in a row have found what is wanted. A look is not at one moment: a task can be missing that was
    /// spawned meanwhile by one that is there.
    fn reach(&self, wanted: impl Fn(&Sites) -> bool) {
        let is_there = || wanted(&unfinished(self.runtime_id));
        poll(|| is_there() && is_there());
    }

    /// Waits until nothing runs or sleeps, and nothing changes for a while.
    fn quiet(&self) {
        let (mut before, mut since) = (unfinished(self.runtime_id), Instant::now());
        for _ in 0..LOOKS {
            sleep(NAP);
            let now = unfinished(self.runtime_id);
            if now != before || now.is_busy() {
                (before, since) = (now, Instant::now());
            } else if since.elapsed() >= self.form.quiet {
                return;
            }
        }
    }
}

/// The stage of a run.
struct Run(Arc<Judge>);

impl Stage for Run {
    fn look(&self, when: Moment) {
        let Self(judge) = self;
        if when == Moment::AtRest {
            judge.rest();
        }
        let blocked = heap::untracked(|| unfinished(judge.runtime_id).counted());
        let start = Instant::now();
        let report = judge.detector.look(judge.runtime_id);
        let micros = start.elapsed().as_micros() as u64;
        let why = if judge.asks_why { judge.why() } else { Vec::new() };
        let mut seen = judge.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.take().map(|seen| seen.reported.into_iter().collect::<Sites>()).unwrap_or_default();
        let reported = heap::untracked(|| before.plus(report.leaked).counted());
        *seen = Some(Observation { blocked, reported, incomplete: report.incomplete, micros, why, left: Vec::new() });
    }

    fn look_aside(&self) {
        self.0.detector.look(self.0.runtime_id);
    }

    fn end(&self) -> ! {
        exit(i32::from(self.0.hand_over().is_err()))
    }
}

impl Judge {
    fn hand_over(&self) -> Result<(), RunError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        console::print(&format!("{}\n", serde_json::to_string(&seen.unwrap_or_default())?));
        Ok(())
    }

    /// What is there and is not leaked, after everybody should have been woken.
    fn left(&self) -> Sites {
        let leaks = Sites::of(self.form.leaks, 1);
        poll(|| unfinished(self.runtime_id).within(&leaks));
        unfinished(self.runtime_id).minus(&leaks)
    }
}

/// Not inlined: when it returns, no frame of the program is left.
#[inline(never)]
fn play(form: &'static Form, scene: &Scene) {
    (form.run)(scene);
}

/// How to run a form.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Whether to look with the program's frame alive.
    pub frame: Frame,
    /// The detector's name.
    pub detector: &'static str,
    /// Threads that run tasks; the runtime's own default if nothing is said.
    pub workers: Option<usize>,
    /// Whether to say why leaks were missed.
    pub asks_why: bool,
}

/// The first argument of a process that is to run one form once.
const COMMAND: &str = "leaks-run";

impl Order {
    /// The arguments with which this binary runs the form.
    pub fn arguments(&self, program: &Program, form: &Form) -> [String; 7] {
        let workers = self.workers.map_or_else(|| "default".to_owned(), |workers| workers.to_string());
        let why = if self.asks_why { "why" } else { "-" };
        [COMMAND, program.id, &form.name(), self.frame.name(), self.detector, &workers, why].map(str::to_owned)
    }

    /// What such arguments mean.
    fn read(arguments: &[String]) -> Option<(&'static Form, Self)> {
        let [command, program, form, frame, detector, workers, why] = arguments else { return None };
        let entry = DETECTORS.iter().find(|entry| entry.name == detector)?;
        let order = Self {
            frame: Frame::named(frame)?,
            detector: entry.name,
            workers: workers.parse().ok(),
            asks_why: why == "why",
        };
        let form = super::form(super::program(program)?, form)?;
        (command == COMMAND).then_some((form, order))
    }
}

/// Runs a form once, if the process was started for that.
///
/// Before anything else, without the command line's parser, and freeing nothing: what others leave on this thread's stack
/// may lead to blocks that the program gets, as the same blocks are used again.
pub fn main() -> Option<ExitCode> {
    if std::env::args_os().nth(1).is_none_or(|first| first != COMMAND) {
        return None;
    }
    let arguments: &'static [String] = std::env::args().skip(1).collect::<Vec<_>>().leak();
    let Some((form, order)) = Order::read(arguments) else {
        console::note("greenprof-demos: leaks-run is for `greenprof-demos leaks` only: use that");
        return Some(ExitCode::from(2));
    };
    match run(form, order) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            console::note(&format!("greenprof-demos: {error}"));
            Some(ExitCode::FAILURE)
        }
    }
}

/// Runs a form once and writes what was seen to standard output.
fn run(form: &'static Form, order: Order) -> Result<(), RunError> {
    let Order { frame, detector, workers, asks_why } = order;
    let detector = detector::named(detector).ok_or(RunError::NoDetector)?;
    let mut builder = Runtime::builder();
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    let runtime = builder.build()?;
    let runtime_id = runtime.handle().runtime_id();
    let judge = Arc::new(Judge { runtime_id, form, detector, asks_why, seen: Mutex::new(None) });
    let natural = form.kind == Kind::Natural;
    let looks_in_frame = !form.held.is_empty() || (frame == Frame::Alive && !natural);
    let scene = Scene::new(runtime_id, !natural, looks_in_frame, Box::new(Run(judge.clone())));
    runtime.run(|| {
        for _ in 0..form.instances {
            play(form, &scene);
        }
        wipe();
        if judge.seen.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            Run(judge.clone()).look(Moment::AtRest);
        }
        if !form.held.is_empty() {
            let left = judge.left().counted();
            if let Some(seen) = &mut *judge.seen.lock().unwrap_or_else(PoisonError::into_inner) {
                seen.left = left;
            }
        }
    });
    judge.hand_over()?;
    // The leaked tasks need not be abandoned one by one.
    exit(0)
}
