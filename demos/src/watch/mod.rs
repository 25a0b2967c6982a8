//! `watch`: a program whose tasks pile up, and the capture that is there when somebody comes to look.
//!
//! A partner stops answering, and each request to it leaves a task behind. Nobody looks. The watch notices that there are too
//! many tasks, and writes what the process looks like at that moment; afterwards the partner answers, and all is well
//! again. The capture still says who waited for what.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use greenprof_profiler::watch::{self, Threshold, WatchError};
use greenprof_runtime::{JoinHandle, labels, sync::Chan, task};
use serde::Serialize;

use crate::{
    console::{self, BOLD, Paint},
    guide::Guide,
    interrupt::Interrupt,
    scenario::{ScenarioError, Settings},
    setup,
    table::Table,
    tour::checks::{self, Check},
};

const GUIDE: Guide<'static> = Guide {
    does: "A partner does not answer, and tasks pile up; at 1000 of them a watch writes the profiles of that moment into a directory. \
           Then the partner answers.",
    page: ("live", "tasks by state: waiting goes up, and down again at once"),
    paths: &[("goroutine?debug=1", "tasks in watch::wait_for_partner, with the label partner=silent")],
    commands: &[(
        "pprof -tags URL/goroutine",
        "whom the tasks wait for, while they do; afterwards the capture tells it",
    )],
};

/// Tasks at which a capture is made.
const THRESHOLD: usize = 1000;

/// Tasks that a burst of requests leaves behind.
const BURST: usize = 100;

/// How long the watch may take to notice, and then for each file: the first profile waits for the names of functions.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file of the capture.
#[derive(Debug, Serialize)]
struct File {
    name: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    directory: PathBuf,
    capture: Option<String>,
    files: Vec<File>,
    why: String,
    checks: Vec<Check>,
    passed: bool,
}

/// A request whose answer does not come.
#[inline(never)]
fn wait_for_partner(answer: &Chan<()>) {
    answer.recv();
}

/// Shows it. Whether everything that was checked was right.
///
/// # Errors
/// See [`ScenarioError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, ScenarioError> {
    let directory = setup::out_directory(settings.out.as_deref())?;
    let (server, runtime) = settings.begin(&GUIDE, interrupt)?;
    let watch = watch::Builder::new(&directory)
        .when(Threshold::Tasks(THRESHOLD))
        .period(Duration::from_millis(100))
        .cpu_profile(Duration::from_secs(1))
        .start(greenprof_profiler::registry())
        .map_err(watching)?;
    let answer = Chan::<()>::new();
    let mut waiting: Vec<JoinHandle<()>> = Vec::new();
    let (mut written, mut since) = (0, Instant::now());
    while watch.captures() == 0 && since.elapsed() < PATIENCE {
        let files = newest(&directory).and_then(|folder| fs::read_dir(folder).ok()).map_or(0, Iterator::count);
        if files > written {
            (written, since) = (files, Instant::now());
        }
        // They go on piling up, but not for ever.
        if waiting.len() < 4 * THRESHOLD {
            labels::with(&[("partner", "silent")], || {
                for _ in 0..BURST {
                    let answer = answer.clone();
                    let request = move || wait_for_partner(&answer);
                    waiting.push(runtime.handle().spawn_with(task::Builder::new().name("request"), request)?);
                }
                Ok::<(), ScenarioError>(())
            })?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    settings.while_watched(interrupt, || std::thread::sleep(Duration::from_millis(50)));
    answer.close();
    let ended = waiting.into_iter().map(JoinHandle::join).filter(Result::is_ok).count();
    let captures = watch.captures();
    drop(watch);
    server.shutdown();
    let report = report(directory, captures, ended);
    if settings.json {
        console::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    } else {
        console::print(&render(&report, Paint::for_stdout()));
    }
    Ok(report.passed)
}

/// The demo's word for what the watch needs.
fn watching(error: WatchError) -> ScenarioError {
    match error {
        WatchError::Directory { path, source } => ScenarioError::Write { path, source },
        error => ScenarioError::Watch(error),
    }
}

/// Reads what was captured.
fn report(directory: PathBuf, captures: u64, ended: usize) -> Report {
    let folder = newest(&directory);
    let text =
        |name: &str| folder.as_ref().and_then(|folder| fs::read_to_string(folder.join(name)).ok()).unwrap_or_default();
    let (tasks, why) = (text("goroutine.txt"), text("why.txt"));
    let mut files: Vec<File> = folder
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .filter_map(|file| {
            Some(File { name: file.file_name().into_string().ok()?, bytes: file.metadata().ok()?.len() })
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let has = |name: &str| files.iter().any(|file| file.name == name && file.bytes > 0);
    let culprit = tasks.contains("watch::wait_for_partner") && tasks.contains("\"partner\":\"silent\"");
    let checks = vec![
        checks::check("one capture, and not one for each look", captures == 1, format!("{captures}")),
        checks::check("it says why", why.starts_with("crossed: Tasks(1000)"), why.lines().next().unwrap_or("")),
        checks::check("it names who waits, and for whom", culprit, tasks.lines().next().unwrap_or("")),
        checks::check(
            "tasks, heap and CPU are there as files",
            ["goroutine.pb.gz", "heap.pb.gz", "profile.pb.gz"].iter().all(|name| has(name)),
            format!("{} files", files.len()),
        ),
        checks::check("the tasks went on undisturbed", ended >= THRESHOLD, format!("{ended} ended")),
    ];
    let capture = folder.and_then(|folder| folder.file_name()?.to_str().map(str::to_owned));
    Report { directory, capture, files, why, passed: checks.iter().all(|check| check.passed), checks }
}

/// The capture written last.
fn newest(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).max()
}

fn render(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    let head = |words: &str| format!("\n{}\n", paint.text(BOLD, words));
    // Writing to a String cannot fail, here and below.
    let _ = write!(text, "{}{}", head("Why there is a capture"), report.why);
    let mut files = Table::new(["FILE", ">bytes"]);
    for file in &report.files {
        files.row([file.name.clone(), file.bytes.to_string()]);
    }
    let capture = report.capture.as_deref().unwrap_or("none");
    let place = report.directory.join(capture);
    let _ = write!(text, "{}{}", head(&format!("What is in {}", place.display())), files.render("  "));
    let _ = write!(text, "{}{}", head("Checks"), checks::table(&report.checks, paint));
    let _ = writeln!(text, "\nSee for yourself: go tool pprof -http=: {}", place.join("goroutine.pb.gz").display());
    text
}
