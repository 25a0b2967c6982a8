//! One run of one program, in a process of its own: what leaks there is gone with the process, and no run sees another's.
//!
//! The detector is called on the main task of the program's runtime, or, in the program that asks for it, on another.

use std::{
    io,
    process::exit,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use greenprof_runtime::{BuildError, Runtime, time::sleep};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    detector::{Detector, unfinished},
    program::{Form, Kind},
    scene::{Frame, Moment, Scene, Stage, poll},
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
    /// The result cannot be handed over.
    #[error("the result could not be handed over: {0}")]
    Write(#[from] io::Error),
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
    /// What was seen; nothing before the first look.
    seen: Mutex<Option<Observation>>,
}

impl Judge {
    /// The sites whose tasks must be there for the form to be looked at.
    fn expected(&self) -> Sites {
        Sites::of(self.form.leaks, 1).plus(Sites::of(self.form.held, 1))
    }

    /// Waits until the program is what it should be, or is not going to be.
    fn rest(&self) {
        match self.form.kind {
            Kind::Natural => self.quiet(),
            // Where something is held, those who hold it are there, too.
            _ if self.form.held.is_empty() => _ = poll(|| unfinished(self.runtime_id) == self.expected()),
            _ => _ = poll(|| self.expected().within(&unfinished(self.runtime_id))),
        }
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
        let blocked = unfinished(judge.runtime_id);
        let start = Instant::now();
        let report = judge.detector.look(judge.runtime_id);
        let micros = start.elapsed().as_micros() as u64;
        let mut seen = judge.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.take().map(|seen| seen.reported.into_iter().collect::<Sites>()).unwrap_or_default();
        *seen = Some(Observation {
            blocked: blocked.counted(),
            reported: before.plus(report.leaked).counted(),
            incomplete: report.incomplete,
            micros,
            left: Vec::new(),
        });
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

/// Runs a form once and writes what was seen to standard output.
///
/// # Errors
/// If there is no runtime, or the result cannot be written.
pub fn run(
    form: &'static Form,
    frame: Frame,
    workers: Option<usize>,
    detector: Box<dyn Detector>,
) -> Result<(), RunError> {
    let mut builder = Runtime::builder();
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    let runtime = builder.build()?;
    let runtime_id = runtime.handle().runtime_id();
    let judge = Arc::new(Judge { runtime_id, form, detector, seen: Mutex::new(None) });
    let natural = form.kind == Kind::Natural;
    let looks_in_frame = !form.held.is_empty() || (frame == Frame::Alive && !natural);
    let scene = Scene::new(runtime_id, !natural, looks_in_frame, Box::new(Run(judge.clone())));
    runtime.run(|| {
        for _ in 0..form.instances {
            play(form, &scene);
        }
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
