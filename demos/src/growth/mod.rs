//! `growth`: a program whose tasks grow from 100 to 10 000, found by counting them in the task profile, and repaired.
//!
//! A hundred tasks serve sessions, as they should. Each request leaves some tasks behind that wait for ever
//! (`requests`). The task profile counts tasks by their stacks; what differs between an early count and a late one is
//! what grows, and its stack says where it waits. The repaired program ends with the hundred that it began with.

mod requests;

use std::{
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::{profile::Profile as Taken, tasks};
use greenprof_runtime::{Runtime, sync::Chan, task};

use crate::{
    allocations::by_function,
    console::{self, BOLD, Paint},
    guide::{Guide, Length, Settings},
    interrupt::Interrupt,
    scenario::{ScenarioError, build_runtime, read_back},
    setup,
    table::{Table, count, shortened},
    tour::checks::{self, Check},
};

const GUIDE: Guide<'static> = Guide {
    does: "A hundred tasks serve sessions. Each of 3 300 requests asks four suppliers and takes the first answer; the \
           three tasks whose answers nobody takes stay. So there are 10 000 tasks in the end. Then the same, repaired.",
    page: (
        "live",
        "tasks by state: waiting goes from 100 to 10 000; then `#profiles`, and the difference of two `goroutine`s",
    ),
    paths: &[
        ("", "the count of goroutine grows: load the page again"),
        ("goroutine?debug=1", "the largest group comes first: chan send, in requests::answer, spawned by request"),
    ],
    commands: &[
        ("pprof -top -cum URL/goroutine?seconds=5", "what has grown in five seconds: requests::answer"),
        (
            "pprof -traces -tagfocus='wait_reason=chan send' URL/goroutine",
            "where they wait, and where they were spawned",
        ),
    ],
};

/// Tasks that belong there.
const SESSIONS: u64 = 100;

/// Tasks that there are after the requests of the first version.
const GROWN: u64 = 10_000;

/// Requests that leave so many behind.
const REQUESTS: u64 = (GROWN - SESSIONS) / requests::LATE;

/// Looks at the count, and at which numbers of requests.
const LOOKS: [u64; 3] = [0, REQUESTS / 10, REQUESTS];

/// How long tasks that end may take to do so.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts of tasks in one version.
#[derive(Clone, Debug, Default)]
struct Run {
    /// After so many requests there were so many tasks.
    counts: Vec<(u64, u64)>,
    /// By how many the tasks have grown, by function; the most first.
    growth: Vec<(String, i64)>,
    /// Requests whose answer was another's.
    wrong: u64,
}

/// Runs both versions, and says what has grown. Whether everything that was checked was right.
///
/// # Errors
/// See [`ScenarioError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, ScenarioError> {
    let server = setup::open_port(&settings.address)?;
    GUIDE.print(server.local_addr());
    if settings.length != Length::Once {
        interrupt.end_in_order();
    }
    let before = version(settings, false, interrupt)?;
    let after = version(settings, true, interrupt)?;
    let checks = vec![
        checks::check(
            "every request has its answer",
            before.wrong + after.wrong == 0,
            format!("{} and {} wrong", before.wrong, after.wrong),
        ),
        counts_are("the profile counts what there is", &before, [SESSIONS, SESSIONS + 990, GROWN]),
        grower_is_named(&before),
        counts_are("the repair helps", &after, [SESSIONS; 3]),
    ];
    console::print(&render(&before, &after, &checks, Paint::for_stdout()));
    server.shutdown();
    Ok(checks.iter().all(|check| check.passed))
}

/// Runs a version in a runtime of its own.
fn version(settings: &Settings, is_repaired: bool, interrupt: &Interrupt) -> Result<Run, ScenarioError> {
    let runtime = build_runtime(settings.workers)?;
    let sessions = Chan::<()>::new();
    for _ in 0..SESSIONS {
        let session = sessions.clone();
        drop(runtime.handle().spawn_with(task::Builder::new().name("session"), move || session.recv())?);
    }
    console::note(if is_repaired { "running, repaired ..." } else { "running, as it is ..." });
    let mut run = Run::default();
    // A program that has this bug does not keep them.
    let mut all_answers = Vec::new();
    let mut first: Option<Taken> = None;
    let mut done = 0;
    let begin = Instant::now();
    for look in LOOKS {
        while done < look {
            let (is_right, answers) = runtime.run(|| requests::request(done, is_repaired))?;
            run.wrong += u64::from(!is_right);
            if !is_repaired {
                all_answers.push(answers);
            }
            done += 1;
            slow_down(settings.length, begin, done, interrupt);
        }
        let profile = settled(&runtime, if is_repaired { SESSIONS } else { SESSIONS + done * requests::LATE });
        run.counts.push((done, total(&profile)));
        console::note(&format!("  after {} requests: {} tasks", count(done), count(total(&profile))));
        match first.take() {
            None => first = Some(profile),
            Some(early) => {
                run.growth = by_function(&read_back(&profile.since(early.clone()))?, "goroutine");
                first = Some(early);
            }
        }
    }
    sessions.close();
    // So that the next version begins without them.
    for answers in all_answers {
        (0..requests::LATE).for_each(|_| assert!(answers.recv().is_some(), "nobody closes it"));
    }
    runtime.shutdown_timeout(PATIENCE);
    Ok(run)
}

/// The tasks, once there are as many as `expected`, or will not be.
fn settled(runtime: &Runtime, expected: u64) -> Taken {
    let begin = Instant::now();
    loop {
        let snapshot = tasks::snapshot();
        let waits = |task: &tasks::Task| task.status().starts_with("chan ");
        let calm = snapshot.tasks.iter().all(waits) && runtime.handle().alive_tasks() == expected;
        if calm || begin.elapsed() > PATIENCE {
            return tasks::profile(&snapshot);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn total(profile: &Taken) -> u64 {
    profile.samples.iter().map(|sample| sample.values[0]).sum::<i64>().unsigned_abs()
}

/// Spreads the requests over the time that the version is to go on.
fn slow_down(length: Length, begin: Instant, done: u64, interrupt: &Interrupt) {
    if let Length::For(length) = length {
        let due = length.mul_f64(done as f64 / REQUESTS as f64);
        // Who wants it to end does not wait for the rest, only for the requests.
        interrupt.wait(due.saturating_sub(begin.elapsed()));
    }
}

fn counts_are(name: &'static str, run: &Run, expected: [u64; 3]) -> Check {
    let counts: Vec<u64> = run.counts.iter().map(|(_, tasks)| *tasks).collect();
    let text: Vec<String> = counts.iter().map(|tasks| count(*tasks)).collect();
    checks::check(name, counts == expected, format!("{} tasks", text.join(", ")))
}

/// All that has grown is one function's.
fn grower_is_named(run: &Run) -> Check {
    let (name, tasks) = run.growth.first().map_or(("nothing", 0), |row| (row.0.as_str(), row.1));
    let right = name == requests::HOT && tasks.unsigned_abs() == GROWN - SESSIONS;
    let found = format!("{name} by {}", count(tasks.unsigned_abs()));
    checks::check("what has grown is named", right, found)
}

fn render(before: &Run, after: &Run, checks: &[Check], paint: Paint) -> String {
    let mut text = format!("\n{}\n", paint.text(BOLD, "Tasks by the number of requests"));
    let mut table = Table::new([">requests", ">tasks", ">repaired"]);
    for ((requests, tasks), (_, repaired)) in before.counts.iter().zip(&after.counts) {
        table.row([count(*requests), count(*tasks), count(*repaired)]);
    }
    text.push_str(&table.render("  "));
    text.push_str(&format!("\n{}\n", paint.text(BOLD, "What has grown")));
    let mut table = Table::new([">more tasks", "function"]);
    for (function, tasks) in before.growth.iter().take(4) {
        table.row([tasks.to_string(), shortened(function, 64)]);
    }
    text.push_str(&table.render("  "));
    text.push_str(&format!("\n{}\n", paint.text(BOLD, "What was found, against what was done")));
    text.push_str(&checks::table(checks, paint));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_notice_what_is_wrong() {
        let run = |counts: [u64; 3], function: &str, grown| Run {
            counts: LOOKS.into_iter().zip(counts).collect(),
            growth: vec![(function.to_owned(), grown)],
            wrong: 0,
        };
        assert_eq!(SESSIONS + REQUESTS * requests::LATE, GROWN);
        let good = run([100, 1090, 10_000], requests::HOT, 9900);
        assert!(grower_is_named(&good).passed && counts_are("x", &good, [100, 1090, 10_000]).passed);
        assert!(!counts_are("x", &good, [100; 3]).passed);
        assert!(!grower_is_named(&run([100; 3], "other", 9900)).passed);
        assert!(!grower_is_named(&run([100; 3], requests::HOT, 990)).passed);
        assert!(!grower_is_named(&Run::default()).passed);
    }
}
