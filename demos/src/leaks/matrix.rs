//! The whole proof in one command: every program of the corpus and the random stress, in each build, with each number of workers, in both
//! modes of the detector.
//!
//! Each cell of the matrix is a process of its own. What it found is appended to a file as one line of JSON as soon as it has ended, so
//! the command can be stopped and goes on where it was. What was found by another commit is done again. The table of all is written
//! anew after each cell.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::stress::Outcome;
use crate::{
    console::{self, Step},
    table::{percent, seconds},
};

/// How this program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Build {
    /// The program that runs.
    This,
    /// Cargo's profile `dev`.
    Debug,
    /// Cargo's profile `release`.
    Release,
    /// The workspace's profile `release-lto`.
    Lto,
}

impl Build {
    /// Those of the whole matrix.
    pub const ALL: [Self; 3] = [Self::Debug, Self::Release, Self::Lto];

    /// Its name on the command line and in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::Debug => "debug",
            Self::Release => "release",
            Self::Lto => "lto",
        }
    }

    const fn profile(self) -> &'static str {
        match self {
            Self::This | Self::Debug => "dev",
            Self::Release => "release",
            Self::Lto => "release-lto",
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// In which builds.
    pub builds: Vec<Build>,
    /// With how many threads that run tasks.
    pub workers: Vec<usize>,
    /// Detectors, by their names.
    pub detectors: Vec<&'static str>,
    /// Programs of the corpus; all if empty.
    pub programs: Vec<String>,
    /// Runs of each form and frame.
    pub runs: u32,
    /// How long each stress lasts.
    pub stress: Duration,
    /// Where results are kept, one line each.
    pub state: PathBuf,
    /// The table.
    pub into: PathBuf,
}

/// Why the matrix could not be run.
#[derive(Debug, Error)]
pub enum MatrixError {
    /// A file cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A build failed.
    #[error("cargo could not build this program with profile {profile}: run this in the workspace. It said: {said}")]
    Cargo {
        /// Which profile.
        profile: &'static str,
        /// The last line of what it said.
        said: String,
    },
    /// A cell gave nothing that can be read.
    #[error("{cell} gave no result: {said}")]
    Cell {
        /// Which.
        cell: String,
        /// What came instead.
        said: String,
    },
}

/// Where a result belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Place {
    build: Build,
    workers: usize,
    detector: String,
    /// What was asked for: a cell with fewer runs is another one.
    part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Corpus { runs: u32, programs: Vec<String> },
    Stress { seconds: u64 },
}

/// A line of the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cell {
    commit: String,
    place: Place,
    seconds: f64,
    result: Found,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Found {
    Corpus(Corpus),
    Stress(Outcome),
}

/// Of a run of the corpus.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Corpus {
    runs: u64,
    false_positives: u64,
    defects: u64,
    incomplete: u64,
    /// Mean recall of the forced forms, with the frame alive, and returned.
    alive: Option<f64>,
    returned: Option<f64>,
    natural: Option<f64>,
    /// The first program that was wrong.
    wrong: Option<String>,
}

impl Found {
    fn is_sound(&self) -> bool {
        match self {
            Self::Corpus(corpus) => corpus.false_positives == 0 && corpus.defects == 0,
            Self::Stress(outcome) => outcome.is_sound(),
        }
    }
}

/// Runs what is missing. Whether all is as it should be.
///
/// # Errors
/// See [`MatrixError`].
pub fn run(settings: &Settings) -> Result<bool, MatrixError> {
    let commit = commit();
    let mut cells: HashMap<Place, Cell> =
        read(&settings.state)?.into_iter().filter(|cell| cell.commit == commit).map(|c| (c.place.clone(), c)).collect();
    let places = places(settings);
    let missing: Vec<&Place> = places.iter().filter(|place| !cells.contains_key(place)).collect();
    console::note(&format!("{} of {} cells are to be run", missing.len(), places.len()));
    let mut programs: HashMap<Build, PathBuf> = HashMap::new();
    for (at, place) in missing.iter().enumerate() {
        let program = match programs.get(&place.build) {
            Some(program) => program.clone(),
            None => programs.entry(place.build).or_insert(build(place.build)?).clone(),
        };
        let step = Step::start(&format!("{} of {}: {}", at + 1, missing.len(), place.title()), None);
        let began = Instant::now();
        let result = place.run(&program)?;
        let cell =
            Cell { commit: commit.clone(), place: (*place).clone(), seconds: began.elapsed().as_secs_f64(), result };
        step.done(&format!("{} in {}", cell.sentence(), seconds(cell.seconds)));
        append(&settings.state, &cell)?;
        cells.insert(cell.place.clone(), cell);
        write(&settings.into, &table(&places, &cells, &commit))?;
    }
    write(&settings.into, &table(&places, &cells, &commit))?;
    Ok(places.iter().all(|place| cells.get(place).is_some_and(|cell| cell.result.is_sound())))
}

/// All cells, those of one build next to each other.
fn places(settings: &Settings) -> Vec<Place> {
    let parts = [
        Part::Corpus { runs: settings.runs, programs: settings.programs.clone() },
        Part::Stress { seconds: settings.stress.as_secs() },
    ];
    let mut places = Vec::new();
    for part in &parts {
        for &build in &settings.builds {
            for &workers in &settings.workers {
                for detector in &settings.detectors {
                    places.push(Place { build, workers, detector: (*detector).to_owned(), part: part.clone() });
                }
            }
        }
    }
    places
}

impl Place {
    fn title(&self) -> String {
        let what = match &self.part {
            Part::Corpus { runs, .. } => format!("corpus, {runs} runs"),
            Part::Stress { seconds } => format!("stress, {seconds} s"),
        };
        format!("{}, workers: {}, detector {}: {what}", self.build.name(), self.workers, self.detector)
    }

    fn run(&self, program: &Path) -> Result<Found, MatrixError> {
        let mut command = Command::new(program);
        let workers = self.workers.to_string();
        match &self.part {
            Part::Corpus { runs, programs } => {
                command.arg("leaks").args(programs).args(["--json", "--floor", "0", "--runs", &runs.to_string()]);
                command.args(["--form", "forced", "--form", "natural", "--form", "rust"]);
                command.args(["--workers", &workers, "--detector", &self.detector]);
            }
            Part::Stress { seconds } => {
                command.args(["leak-stress", "--json", "--seconds", &seconds.to_string()]);
                command.args(["--workers", &workers, "--detector", &self.detector]);
            }
        }
        let none = |said: String| MatrixError::Cell { cell: self.title(), said };
        let output = command.stdin(Stdio::null()).output().map_err(|error| none(error.to_string()))?;
        let said = || {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            format!("{}, {}", output.status, text.lines().last().unwrap_or("and it said nothing"))
        };
        match self.part {
            Part::Corpus { .. } => {
                let value: Value = serde_json::from_slice(&output.stdout).map_err(|_| none(said()))?;
                Ok(Found::Corpus(Corpus::of(&value)))
            }
            Part::Stress { .. } => Ok(Found::Stress(serde_json::from_slice(&output.stdout).map_err(|_| none(said()))?)),
        }
    }
}

impl Corpus {
    /// From what `leaks --json` prints.
    fn of(value: &Value) -> Self {
        let programs = value["programs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mean = |form: &str, frame: &str| {
            let mut means = value["means"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
            means.find(|mean| mean["form"] == form && mean["frame"] == frame)?["recall"].as_f64()
        };
        let is_wrong = |program: &&Value| {
            let filled = |name: &str| program[name].as_array().is_some_and(|list| !list.is_empty());
            filled("false_positives") || filled("defects")
        };
        let wrong = programs.iter().find(is_wrong).map(|program| {
            let text = |name: &str| program[name].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {}: {}{}",
                text("id"),
                text("form"),
                text("frame"),
                program["false_positives"],
                program["defects"]
            )
        });
        Self {
            runs: programs.iter().filter_map(|program| program["runs"].as_u64()).sum(),
            false_positives: value["false_positives"].as_u64().unwrap_or(u64::MAX),
            defects: value["defects"].as_u64().unwrap_or(u64::MAX),
            incomplete: programs.iter().filter_map(|p| p["incomplete"].as_array()).map(|list| list.len() as u64).sum(),
            alive: mean("forced", "alive"),
            returned: mean("forced", "returned"),
            natural: mean("natural", "returned"),
            wrong,
        }
    }
}

impl Cell {
    fn sentence(&self) -> String {
        match &self.result {
            Found::Corpus(corpus) => {
                format!(
                    "{} runs, {} false positives, {} went wrong",
                    corpus.runs, corpus.false_positives, corpus.defects
                )
            }
            Found::Stress(stress) => {
                format!(
                    "{} tasks woken, {} false positives, {} stuck",
                    stress.woken, stress.false_positives, stress.stuck
                )
            }
        }
    }
}

/// The commit that is checked out, and whether there are changes, but for those of documents: the table is one. Empty outside of a
/// repository.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).stderr(Stdio::null()).output().ok()?;
        let text = output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())?;
        Some(text)
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let changes = git(&["status", "--porcelain", "--", ":/", ":(top,exclude)docs"]).unwrap_or_default();
    if changes.is_empty() { commit } else { format!("{commit} and changes") }
}

/// Builds this program, and gives its path.
fn build(build: Build) -> Result<PathBuf, MatrixError> {
    if build == Build::This {
        return Ok(std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")));
    }
    let profile = build.profile();
    let step = Step::start(&format!("building with profile {profile}"), None);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--package", "greenprof-demos", "--bin", "greenprof-demos"]);
    command.args(["--profile", profile, "--message-format", "json-render-diagnostics"]);
    let failed = |said: String| MatrixError::Cargo { profile, said };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    let messages =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let program = messages.filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?))).next_back();
    let last_line = || String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("nothing").to_owned();
    let program = program.filter(|_| output.status.success()).ok_or_else(|| failed(last_line()))?;
    step.done("built");
    Ok(program)
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> MatrixError {
    let path = path.to_owned();
    move |source| MatrixError::File { path: path.clone(), source }
}

/// The lines of the state that can be read: the last one may have been cut off.
fn read(path: &Path) -> Result<Vec<Cell>, MatrixError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error(path)(error)),
    };
    let lines: io::Result<Vec<String>> = BufReader::new(file).lines().collect();
    Ok(lines.map_err(file_error(path))?.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn append(path: &Path, cell: &Cell) -> Result<(), MatrixError> {
    make_room(path)?;
    let file = OpenOptions::new().create(true).append(true).open(path);
    let line = format!("{}\n", serde_json::to_string(cell).unwrap_or_default());
    file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(file_error(path))
}

fn write(path: &Path, text: &str) -> Result<(), MatrixError> {
    make_room(path)?;
    fs::write(path, text).map_err(file_error(path))
}

fn make_room(path: &Path) -> Result<(), MatrixError> {
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(file_error(path))
}

/// The result as Markdown.
fn table(places: &[Place], cells: &HashMap<Place, Cell>, commit: &str) -> String {
    let mut text = format!(
        "# The leak detector against the corpus and the random stress\n\n\
         Written by `greenprof-demos leak-matrix`; commit {}. Recall is the mean over programs of forced forms; \
         floors are not judged here. Cells that have not been run are empty.\n\n",
        if commit.is_empty() { "unknown" } else { commit }
    );
    text.push_str("## Corpus, and the programs of which nothing may be reported\n\n");
    text.push_str("| build | workers | detector | runs | false positives | went wrong | incomplete | recall, frame alive | frame returned | natural | time |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for place in places.iter().filter(|place| matches!(place.part, Part::Corpus { .. })) {
        let figures = match cells.get(place) {
            Some(Cell { result: Found::Corpus(found), seconds: time, .. }) => {
                let share = |recall: Option<f64>| recall.map_or_else(|| "-".to_owned(), |recall| percent(recall, 1.0));
                let Corpus { runs, false_positives, defects, incomplete, .. } = found;
                let recalls = [found.alive, found.returned, found.natural].map(share).join(" | ");
                format!("{runs} | {false_positives} | {defects} | {incomplete} | {recalls} | {}", seconds(*time))
            }
            _ => " | | | | | | | ".to_owned(),
        };
        let _ = writeln!(text, "| {} | {} | {} | {figures} |", place.build.name(), place.workers, place.detector);
    }
    text.push_str("\n## Random stress\n\n");
    text.push_str("Every blocked task was woken in the end.\n\n");
    text.push_str("| build | workers | detector | seconds | rounds | detections | incomplete | not copied | tasks woken | stuck | false positives | errors |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for place in places {
        let Part::Stress { seconds } = place.part else { continue };
        let figures = match cells.get(place) {
            Some(Cell { result: Found::Stress(of), .. }) => format!(
                "{} | {} | {} | {} | {} | {} | {} | {}",
                of.rounds,
                of.detections,
                of.incomplete,
                of.not_copied,
                of.woken,
                of.stuck,
                of.false_positives,
                of.errors
            ),
            _ => " | | | | | | | ".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {seconds} | {figures} |",
            place.build.name(),
            place.workers,
            place.detector
        );
    }
    let wrong = cells.values().filter_map(|cell| match &cell.result {
        Found::Corpus(corpus) => Some((cell, corpus.wrong.clone()?)),
        Found::Stress(outcome) => Some((cell, outcome.first.clone()?)),
    });
    for (cell, what) in wrong {
        let _ = writeln!(text, "\n{}: {what}", cell.place.title());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> Settings {
        Settings {
            builds: vec![Build::This],
            workers: vec![1, 2],
            detectors: vec!["leak"],
            programs: Vec::new(),
            runs: 1,
            stress: Duration::from_secs(1),
            state: folder.join("state"),
            into: folder.join("docs/table.md"),
        }
    }

    #[test]
    fn what_was_run_is_found_again_but_for_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let place = places(&settings).remove(0);
        let found = Corpus { runs: 7, alive: Some(0.5), ..Corpus::default() };
        let cell = Cell { commit: "c".to_owned(), place, seconds: 1.0, result: Found::Corpus(found) };
        append(&settings.state, &cell).unwrap();
        append(&settings.state, &cell).unwrap();
        let text = fs::read_to_string(&settings.state).unwrap();
        fs::write(&settings.state, &text[..text.len() - 9]).unwrap();
        let read = read(&settings.state).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].place, cell.place);
        let cells = [(cell.place.clone(), cell)].into();
        let table = table(&places(&settings), &cells, "c");
        assert!(table.contains("| this | 1 | leak | 7 | 0 | 0 | 0 | 50.0% | - | - | 1"), "{table}");
        assert!(table.contains("| this | 2 | leak |  | |"), "{table}");
    }

    #[test]
    fn a_false_positive_or_a_task_that_is_stuck_is_not_sound() {
        let stress = Outcome { detections: 3, woken: 2, ..Outcome::default() };
        assert!(stress.is_sound());
        assert!(!Outcome { stuck: 1, ..stress.clone() }.is_sound());
        assert!(!Outcome { false_positives: 1, ..stress.clone() }.is_sound());
        assert!(!Outcome { incomplete: 3, ..stress }.is_sound(), "it has not looked");
        assert!(!Found::Corpus(Corpus { defects: 1, ..Corpus::default() }).is_sound());
    }
}
