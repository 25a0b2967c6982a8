//! Runs programs, each run in a process of its own, some at a time.

use std::{
    io,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use thiserror::Error;

use super::{
    child::{Observation, Order},
    frames,
    program::{Form, Kind, Program},
    report::{Row, Summary},
    scene::Frame,
    select, table,
    verdict::Verdict,
};
use crate::console::{self, Step};

/// What to run, and how to show it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ids or groups; all if empty.
    pub programs: Vec<String>,
    /// Runs of each form and frame.
    pub runs: u32,
    /// Threads that run tasks; the runtime's own default if nothing is said.
    pub workers: Option<usize>,
    /// Only forms of these kinds.
    pub kinds: Vec<Kind>,
    /// Only these frames.
    pub frames: Vec<Frame>,
    /// The detector's name.
    pub detector: &'static str,
    /// Processes at a time.
    pub jobs: usize,
    /// The least mean recall, in percent, while the creating frame is alive.
    pub floor: f64,
    /// Whether to say why leaks were missed.
    pub why: bool,
    /// How to show the result.
    pub sort: Sort,
}

/// The shape of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// The table of `docs/leaks-in-rust.md`.
    Markdown,
}

/// Why nothing could be run, or shown.
#[derive(Debug, Error)]
pub enum LeaksError {
    /// There is no such program.
    #[error("there is no program {0}: `greenprof-demos leaks --list` says which there are")]
    NoProgram(String),
    /// Nothing leaks in it.
    #[error("nothing leaks in {0}: choose a program of the groups simple, patterns or goker")]
    NoLeak(String),
    /// There is no runtime.
    #[error(transparent)]
    Build(#[from] greenprof_runtime::BuildError),
    /// What was asked for has no such form.
    #[error("none of these programs has such a form with such a frame: leave out --form or --frame")]
    NoForm,
    /// The binary cannot start itself.
    #[error("cannot start {} again, which each run needs: {source}", path.display())]
    Start {
        /// The binary.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The result is not printable.
    #[error("the report could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Clone, Copy)]
struct Case {
    program: &'static Program,
    form: &'static Form,
    frame: Frame,
}

/// Runs, shows, and says whether all was as it should be.
///
/// # Errors
/// See [`LeaksError`].
pub fn run(settings: &Settings) -> Result<bool, LeaksError> {
    let programs = select(&settings.programs).map_err(LeaksError::NoProgram)?;
    let cases: Vec<Case> = programs.into_iter().flat_map(cases_of).filter(|case| settings.wants(case)).collect();
    if cases.is_empty() {
        return Err(LeaksError::NoForm);
    }
    let rows = run_all(&cases, settings)?;
    let summary = Summary::of(&rows, settings.floor);
    match settings.sort {
        Sort::Table => console::print(&table::render(&rows, &summary, settings, console::Paint::for_stdout())),
        Sort::Json => console::print(&summary.json(&rows, settings)?),
        Sort::Markdown => console::print(&table::markdown(&rows)),
    }
    Ok(summary.ok)
}

/// What a detector made of one form of a program, over all runs.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The program's id.
    pub program: &'static str,
    /// Its form and the state of its frame.
    pub form: String,
    /// See the form.
    pub frame: Frame,
    /// Tasks that were leaked.
    pub expected: u32,
    /// Those of them that were reported.
    pub found: u32,
    /// Tasks that were reported and not leaked.
    pub false_positives: u32,
    /// Runs in which the program was not what it should be: no detector's fault, and nothing to judge by. Why, of the first.
    pub defect: Option<String>,
    /// Microseconds of the median look.
    pub micros: u64,
}

/// As [`run`], but shows nothing, and gives what came out instead.
///
/// # Errors
/// See [`LeaksError`].
pub fn judge(settings: &Settings) -> Result<Vec<Outcome>, LeaksError> {
    let programs = select(&settings.programs).map_err(LeaksError::NoProgram)?;
    let cases: Vec<Case> = programs.into_iter().flat_map(cases_of).filter(|case| settings.wants(case)).collect();
    if cases.is_empty() {
        return Err(LeaksError::NoForm);
    }
    let outcome = |row: Row| Outcome {
        program: row.program.id,
        form: row.form.name(),
        frame: row.frame,
        expected: row.expected.total(),
        found: row.found.total(),
        false_positives: row.false_positives.total(),
        defect: row.defects.into_iter().next(),
        micros: row.micros,
    };
    Ok(run_all(&cases, settings)?.into_iter().map(outcome).collect())
}

fn cases_of(program: &'static Program) -> impl Iterator<Item = Case> {
    let with_frames = move |form: &'static Form| frames(form).iter().map(move |&frame| Case { program, form, frame });
    program.forms.iter().flat_map(with_frames)
}

impl Settings {
    fn wants(&self, case: &Case) -> bool {
        let one_frame = frames(case.form).len() == 1;
        self.kinds.contains(&case.form.kind) && (one_frame || self.frames.contains(&case.frame))
    }
}

fn run_all(cases: &[Case], settings: &Settings) -> Result<Vec<Row>, LeaksError> {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let total = cases.len() * settings.runs as usize;
    let step = Step::start("running programs", None);
    let start = Instant::now();
    // The next run; runs of one case are next to each other.
    let next = AtomicUsize::new(0);
    let verdicts: Vec<Mutex<Vec<Verdict>>> = cases.iter().map(|_| Mutex::new(Vec::new())).collect();
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        let work = || {
            loop {
                // Relaxed: a ticket; nothing else is read through it.
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= total {
                    return;
                }
                let case = &cases[at / settings.runs as usize];
                match run_one(&path, case, settings) {
                    Ok(verdict) => {
                        verdicts[at / settings.runs as usize]
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(verdict);
                    }
                    Err(error) => {
                        next.store(total, Ordering::Relaxed);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                }
            }
        };
        let workers: Vec<_> = (0..settings.jobs).map(|_| scope.spawn(work)).collect();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let done = next.load(Ordering::Relaxed).min(total);
            step.progress(
                format!("{done} of {total} runs, {}", cases[(done.max(1) - 1) / settings.runs as usize].program.id),
                start.elapsed(),
            );
            thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    if let Some(source) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        step.clear();
        return Err(LeaksError::Start { path, source });
    }
    step.done(&format!("{total} runs in {}", crate::table::seconds(start.elapsed().as_secs_f64())));
    let row = |(case, verdicts): (&Case, Mutex<Vec<Verdict>>)| {
        Row::new(case.program, case.form, case.frame, verdicts.into_inner().unwrap_or_else(PoisonError::into_inner))
    };
    Ok(cases.iter().zip(verdicts).map(row).collect())
}

fn run_one(path: &std::path::Path, case: &Case, settings: &Settings) -> io::Result<Verdict> {
    let order =
        Order { frame: case.frame, detector: settings.detector, workers: settings.workers, asks_why: settings.why };
    let mut command = Command::new(path);
    command.args(order.arguments(case.program, case.form));
    let output = command.stdin(Stdio::null()).output()?;
    let complaint = || {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    };
    if !output.status.success() {
        return Ok(Verdict::broken(format!("ended with {}: {}", output.status, complaint())));
    }
    Ok(match serde_json::from_slice::<Observation>(&output.stdout) {
        Ok(seen) => {
            let mut verdict = Verdict::of(case.form, seen);
            // A task that panicked is not there: say why.
            if let Some(defect) = &mut verdict.defect
                && !output.stderr.is_empty()
            {
                *defect = format!("{defect}; {}", complaint());
            }
            verdict
        }
        Err(error) => Verdict::broken(format!("gave no result: {error}")),
    })
}
