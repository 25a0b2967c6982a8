//! What the situations are made with.

use std::{
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use greenprof_profiler::{
    leak::{self, DetectError, Leak, Link, Mode, Options, Report},
    symbolize,
};
use greenprof_runtime::{
    JoinHandle, task,
    world::{self, Patience},
};

/// How long a task that is to be found alive sleeps: longer than a detection takes, most of the time; if it does not, nothing is
/// lost but the point.
pub const NAP: Duration = Duration::from_millis(400);

/// How long a detection waits for tasks to block.
const SETTLE: Duration = Duration::from_millis(150);

/// Other processes may keep a thread from stopping for long.
const PATIENCE: Patience = Patience { deadline: Duration::from_secs(2), attempts: 5 };

/// Counts what detections have reported.
pub struct Lab {
    mode: Mode,
    expected: Vec<&'static str>,
    seen: Mutex<Vec<Vec<String>>>,
}

impl Lab {
    pub fn new(expected: &[&'static str], mode: Mode) -> Self {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        Self { mode, expected, seen: Mutex::default() }
    }

    /// Looks for leaks, as a program would.
    #[inline(never)]
    pub fn detect(&self) {
        let mut options = Options::default();
        options.settle = SETTLE;
        options.patience = PATIENCE;
        options.mode = self.mode;
        let report = leak::detect_with(&options);
        self.judge(report);
    }

    /// Looks at once, however busy the tasks are.
    #[inline(never)]
    pub fn detect_now(&self) {
        let mut options = Options::default();
        options.mode = self.mode;
        let report = leak::detect_with(&options);
        self.judge(report);
    }

    /// As `detect`, where a situation cannot do without a leaked task.
    #[inline(never)]
    pub fn detect_expecting(&self, leaked: &[&str]) {
        let mut options = Options::default();
        options.settle = SETTLE;
        options.patience = PATIENCE;
        options.mode = self.mode;
        let report = leak::detect_with(&options).expect("a report");
        let mut names: Vec<String> = report.leaked().iter().map(shown).collect();
        leaked.iter().for_each(|name| assert!(names.iter().any(|other| other == name), "{name} is not in {names:?}"));
        names.retain(|name| !leaked.contains(&name.as_str()));
        self.seen.lock().unwrap().push(names);
    }

    /// On a frame of its own, so that the detection's caller has as small a one as a program would.
    #[inline(never)]
    fn judge(&self, report: Result<Box<Report>, DetectError>) {
        let report = report.expect("a report");
        assert_eq!(report.not_copied, None, "a copy can be made here");
        if let Some(reason) = report.incomplete() {
            println!("incomplete: {reason}");
            return;
        }
        assert_eq!(report.errors, 0, "a task that was reported has run");
        let mut names: Vec<String> = report.leaked().iter().map(shown).collect();
        names.sort();
        for name in &names {
            if !self.expected.contains(&name.as_str()) {
                for leak in report.leaked() {
                    println!("reported: {:?} {} {:?}", leak.task.name, leak.reason(), leak.task.spawned_at);
                }
            }
        }
        self.explain(&names);
        self.seen.lock().unwrap().push(names);
    }

    /// Says why the tasks live that were missed.
    fn explain(&self, names: &[String]) {
        for info in world::tasks(0).iter() {
            let name = info.name.as_deref().unwrap_or_default();
            if !self.expected.contains(&name) || names.iter().any(|reported| reported == name) {
                continue;
            }
            println!("{name} lives:");
            let Some(why) = leak::why_alive(info.id).expect("an answer") else { continue };
            for link in &why.chain {
                match *link {
                    Link::Frame(task, address, place) => {
                        let mut symbolizer = symbolize::shared().lock();
                        symbolizer.refresh();
                        let frames = symbolizer.resolve(place.saturating_sub(1));
                        let function = frames.iter().map(|frame| frame.function.to_string()).collect::<Vec<_>>();
                        println!("    frame of task {task} at {address:#x} in {function:?}");
                    }
                    other => println!("    {other:x?}"),
                }
            }
        }
    }

    /// Says what was seen: a task that is not leaked and was reported is an error, one that was missed is not.
    pub fn verdict(&self) -> ExitCode {
        let seen = self.seen.lock().unwrap();
        assert!(!seen.is_empty(), "nobody has looked");
        let mut code = ExitCode::SUCCESS;
        for names in seen.iter() {
            let wrong = difference(names, &self.expected);
            if !wrong.is_empty() {
                println!("false: {}", wrong.join(", "));
                code = ExitCode::FAILURE;
            }
            let expected: Vec<String> = self.expected.iter().map(|name| (*name).to_owned()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let missed = difference(&expected, &names);
            println!("found {} of {}", expected.len() - missed.len(), expected.len());
            if !missed.is_empty() {
                println!("missed: {}", missed.join(", "));
            }
        }
        code
    }
}

/// The task's name, or what it waits for.
fn shown(leak: &Leak) -> String {
    leak.task.name.clone().unwrap_or_else(|| format!("? ({})", leak.reason()))
}

/// What is in the first and not in the second; of equal ones, as many as the second has are left out.
fn difference(of: &[String], without: &[&str]) -> Vec<String> {
    let mut without = without.to_vec();
    let mut rest = Vec::new();
    for name in of {
        match without.iter().position(|other| other == name) {
            Some(at) => {
                without.swap_remove(at);
            }
            None => rest.push(name.clone()),
        }
    }
    rest
}

/// Spawns a task with a name.
#[track_caller]
pub fn go<T: Send + 'static>(name: &str, task: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    task::Builder::new().name(name).spawn(task).expect("a task")
}

/// Spawns tasks until `done`, so that what is measured is not the first use of everything.
#[inline(never)]
pub fn wait_for(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} has not happened");
        greenprof_runtime::sleep(Duration::from_millis(1));
    }
}
