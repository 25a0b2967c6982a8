//! One program at a time, for learners: it runs again and again, its blocked tasks pile up, and the detector says which of
//! them are leaked, what each waits for, and who holds it.

use std::{collections::BTreeMap, fmt::Write as _, process::exit, time::Duration};

use greenprof_profiler::{
    http::DebugServer,
    leak::{self, Leak, Report, WaitsOn},
};
use greenprof_runtime::{Runtime, task::TaskId, time::sleep};

use super::{
    detector::unfinished,
    program::{Form, Kind, Program},
    runner::LeaksError,
    scene::{Moment, Scene, Stage, poll, wipe},
    sites::{Sites, words},
};
use crate::{
    console::{self, BOLD, GREEN, Paint, RED},
    table::Table,
};

/// How often the program runs, and the pause after each time.
const TIMES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(400);

/// Nobody looks but at the end.
struct Quiet;

impl Stage for Quiet {
    fn look(&self, _: Moment) {}

    fn look_aside(&self) {}

    fn end(&self) -> ! {
        exit(0)
    }
}

/// Runs a program for somebody who watches. With a port, what has leaked can be looked at there afterwards, until Ctrl-C.
///
/// # Errors
/// If there is no such program, it does not leak, or there is no runtime.
pub fn explain(id: &str, server: Option<&DebugServer>, paint: Paint) -> Result<(), LeaksError> {
    let program = super::select(&[id.to_owned()]).map_err(LeaksError::NoProgram)?;
    let [program] = program[..] else { return Err(LeaksError::NoProgram(id.to_owned())) };
    let form = program.forms.iter().find(|form| form.kind == Kind::Forced && !form.leaks.is_empty());
    let form = form.ok_or_else(|| LeaksError::NoLeak(id.to_owned()))?;
    if let Some(server) = server {
        let root = format!("http://{}/debug/pprof", server.local_addr());
        console::note(&format!("its tasks, while they pile up: {root}/goroutine?debug=1"));
    }
    console::print(&format!("{}\n{}\n  from {}\n\n", paint.text(BOLD, program.id), program.what, program.origin));
    let runtime = Runtime::builder().workers(1).build()?;
    let report = runtime.run(|| grow(&runtime, form, paint));
    match report {
        Ok(report) => console::print(&told(&report, program, paint)),
        Err(error) => console::note(&format!("greenprof-demos: {error}")),
    }
    if let Some(server) = server {
        let root = format!("http://{}/debug/pprof", server.local_addr());
        console::note(&format!(
            "the report:     {root}/goroutineleak?debug=1\n\
             the wait graph: {root}/goroutineleak?format=dot (for `dot -Tsvg`)\n\
             the page:       {root}/ui/\n\
             until Ctrl-C"
        ));
        loop {
            std::thread::park();
        }
    }
    // What has leaked goes with the process.
    exit(0)
}

#[inline(never)]
fn grow(runtime: &Runtime, form: &'static Form, paint: Paint) -> Result<Box<Report>, leak::DetectError> {
    let id = runtime.handle().runtime_id();
    for time in 1..=TIMES {
        let expected = Sites::of(form.leaks, time);
        (form.run)(&Scene::new(id, true, false, Box::new(Quiet)));
        poll(|| unfinished(id) == expected);
        let blocked = unfinished(id);
        console::print(&format!(
            "run {time}: {:>3} tasks that have not ended  {}\n",
            blocked.total(),
            paint.text(RED, &"#".repeat(blocked.total().min(60) as usize))
        ));
        sleep(PAUSE);
    }
    wipe();
    leak::detect()
}

/// The report, grouped, the wait graph of one instance, and the fix.
fn told(report: &Report, program: &Program, paint: Paint) -> String {
    let mut text = format!("\n{}\n", paint.text(BOLD, "Leaked, as nobody alive can wake them"));
    let mut groups: BTreeMap<(String, &str, String), usize> = BTreeMap::new();
    for leak in report.leaked() {
        let site = leak.task.spawned_at.map_or_else(String::new, |site| format!("{}:{}", site.file(), site.line()));
        *groups.entry((leak.task.name.clone().unwrap_or_default(), words(leak.reason()), site)).or_default() += 1;
    }
    let mut table = Table::new([">tasks", "name", "waits for", "spawned at"]);
    for ((name, waits_for, site), count) in groups {
        table.row([count.to_string(), name, waits_for.to_owned(), site]);
    }
    text.push_str(&table.render("  "));
    let _ = write!(text, "\n{}\n", paint.text(BOLD, "Who waits for whom, in the first run"));
    let first: Vec<&Leak> = report.leaked().iter().take(report.leaked().len().div_ceil(TIMES as usize)).collect();
    for leak in first {
        let _ = writeln!(text, "  {} {}", name(leak), waits(leak, report));
    }
    for deadlock in report.deadlocks.iter().take(1) {
        let names: Vec<String> = deadlock.tasks.iter().map(|(task, _)| name_of(report, *task)).collect();
        let _ = writeln!(text, "  deadlock: {} wait for locks of each other", names.join(", "));
    }
    let _ = write!(text, "\n{} {}\n", paint.text(GREEN, "Fix:"), program.fix);
    text
}

fn name(leak: &Leak) -> String {
    format!("{} (task {})", leak.task.name.as_deref().unwrap_or("a task"), leak.id().get())
}

fn name_of(report: &Report, task: TaskId) -> String {
    report.leaked().iter().find(|leak| leak.id() == task).map_or_else(|| format!("task {}", task.get()), name)
}

fn waits(leak: &Leak, report: &Report) -> String {
    let on = |on: &WaitsOn| match on {
        WaitsOn::Task(task) => format!("for the end of {}", name_of(report, *task)),
        WaitsOn::Primitive(primitive) => {
            let made =
                primitive.created_at.map_or_else(String::new, |at| format!(" made at {}:{}", at.file(), at.line()));
            let held: Vec<String> = primitive.held_by.iter().map(|task| name_of(report, *task)).collect();
            let held = if held.is_empty() { String::new() } else { format!(", held by {}", held.join(", ")) };
            format!("on {:?} #{}{made}{held}", primitive.kind, primitive.number)
        }
        _ => "on something else".to_owned(),
    };
    match &leak.waits_on[..] {
        // A nil channel, or a select without arms: there is nothing to name.
        [] => format!("waits ({})", leak.reason()),
        all => format!("waits {} ({})", all.iter().map(on).collect::<Vec<_>>().join(" or "), leak.reason()),
    }
}
