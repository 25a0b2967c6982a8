//! `deadlock`: two tasks that wait for each other's lock, found by the leak detector, and repaired.
//!
//! A transfer locks the account that it takes from, then the one that it gives to. Two transfers in opposite directions may each
//! get their first lock and wait for the second, for ever; a third task that wants to read an account waits behind them.
//! No profile of the processor shows anything: nobody runs. The detector says that nobody alive can wake these tasks, who
//! holds what, and which of them is only a hostage. In the repaired version all lock in the order of the accounts' numbers.

mod transfer;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use greenprof_profiler::{
    leak::{self, Leak, Report, WaitsOn},
    tasks,
};
use greenprof_runtime::{JoinHandle, Runtime, task};

use crate::{
    console::{self, BOLD, Paint},
    guide::{Guide, Length, Settings},
    interrupt::Interrupt,
    scenario::{ScenarioError, build_runtime},
    setup,
    table::Table,
    tour::checks::{self, Check},
};
use transfer::{Account, Bank, Order};

const GUIDE: Guide<'static> = Guide {
    does: "Two transfers in opposite directions lock two accounts, each the one that it takes from first; a statement wants \
           to read one of them. Then the same with accounts locked in the order of their numbers.",
    page: (
        "leaks",
        "press `Find leaked tasks`: the two transfers in a circle of two locks, the statement waiting at its side",
    ),
    paths: &[
        ("goroutineleak?debug=1", "three tasks in sync.Mutex.Lock, two of them in transfer::transfer"),
        ("goroutine?debug=2", "all tasks, with where each was spawned"),
    ],
    commands: &[
        ("pprof -traces URL/goroutineleak", "where the leaked tasks wait"),
        ("pprof -top 'URL/profile?seconds=2'", "no sample in any of them: waiting uses no CPU"),
    ],
};

/// Names of the tasks.
const TRANSFERS: [&str; 2] = ["transfer to b", "transfer to a"];
const STATEMENT: &str = "statement";

/// What the accounts have, and what each transfer moves.
const BALANCE: i64 = 100;
const AMOUNTS: [i64; 2] = [30, 10];

/// How long tasks may take to come to where they wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a version came to.
struct Run {
    report: Box<Report>,
    /// Tasks that have ended, of three.
    ended: usize,
    balances: Option<[i64; 2]>,
}

/// Runs both versions, and says what the detector finds. Whether everything that was checked was right.
///
/// # Errors
/// See [`ScenarioError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, ScenarioError> {
    let server = setup::open_port(&settings.address)?;
    GUIDE.print(server.local_addr());
    if settings.length != Length::Once {
        interrupt.end_in_order();
    }
    let before = version(settings, Order::AsAsked, interrupt)?;
    let after = version(settings, Order::ByNumber, interrupt)?;
    let checks = vec![
        circle_is_found(&before.report),
        holders_are_named(&before.report),
        hostage_is_told(&before.report),
        repair_helps(&after),
    ];
    console::print(&render(&before, &after, &checks, Paint::for_stdout()));
    server.shutdown();
    Ok(checks.iter().all(|check| check.passed))
}

/// Runs a version in a runtime of its own, and looks for leaks when nothing moves any more.
fn version(settings: &Settings, order: Order, interrupt: &Interrupt) -> Result<Run, ScenarioError> {
    console::note(if order == Order::AsAsked { "running, as it is ..." } else { "running, repaired ..." });
    let runtime = build_runtime(settings.workers)?;
    let bank = Bank::new(BALANCE);
    let started = start(&runtime, &bank, order)?;
    let begin = Instant::now();
    while !is_still(&runtime, &started) && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(2));
    }
    let begin = Instant::now();
    // Only what does not end can be looked at.
    while runtime.handle().alive_tasks() > 0 && settings.length.goes_on(begin.elapsed(), interrupt) {
        thread::sleep(Duration::from_millis(50));
    }
    let report = leak::detect()?;
    let ended = started.iter().filter(|task| task.is_finished()).count();
    let balances = (ended == started.len()).then(|| [bank.a.balance(), bank.b.balance()]);
    drop(started);
    // What waits for ever is abandoned, its locks with it.
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(Run { report, ended, balances })
}

/// Two transfers, and a statement when these have their first locks.
fn start(runtime: &Runtime, bank: &Arc<Bank>, order: Order) -> Result<Vec<JoinHandle<()>>, ScenarioError> {
    let spawn = |name: &'static str, body: Box<dyn FnOnce() + Send>| {
        runtime.handle().spawn_with(task::Builder::new().name(name), body).map_err(ScenarioError::from)
    };
    let (forth, back, read) = (bank.clone(), bank.clone(), bank.clone());
    let mut tasks = vec![
        spawn(TRANSFERS[0], Box::new(move || transfer::transfer(&forth, Account::A, AMOUNTS[0], order)))?,
        spawn(TRANSFERS[1], Box::new(move || transfer::transfer(&back, Account::B, AMOUNTS[1], order)))?,
    ];
    bank.until_both_have_one(order);
    tasks.push(spawn(STATEMENT, Box::new(move || transfer::statement(&read)))?);
    Ok(tasks)
}

/// Whether all tasks have ended, or wait for a lock.
fn is_still(runtime: &Runtime, started: &[JoinHandle<()>]) -> bool {
    if started.iter().all(JoinHandle::is_finished) {
        return true;
    }
    let waits = |task: &&tasks::Task| task.status() == "sync.Mutex.Lock";
    let waiting = tasks::snapshot().tasks.iter().filter(waits).count();
    waiting == started.len() && runtime.handle().alive_tasks() == waiting as u64
}

fn name(leak: &Leak) -> &str {
    leak.task.name.as_deref().unwrap_or("a task")
}

fn named<'a>(report: &'a Report, wanted: &str) -> Option<&'a Leak> {
    report.leaked().iter().find(|leak| name(leak) == wanted)
}

/// Who of the leaked holds what a task waits for.
fn holders(report: &Report, task: &str) -> Vec<String> {
    let on = named(report, task).into_iter().flat_map(|leak| &leak.waits_on);
    let held = on.flat_map(|on| match on {
        WaitsOn::Primitive(primitive) => primitive.held_by.to_vec(),
        WaitsOn::Task(task) => vec![*task],
        _ => Vec::new(),
    });
    held.filter_map(|id| report.leaked().iter().find(|leak| leak.id() == id))
        .map(|leak| name(leak).to_owned())
        .collect()
}

fn circle_is_found(report: &Report) -> Check {
    let names: Vec<Vec<&str>> = report
        .deadlocks
        .iter()
        .map(|circle| circle.tasks.iter().filter_map(|(id, _)| report.leaked().iter().find(|leak| leak.id() == *id)))
        .map(|leaks| leaks.map(name).collect())
        .collect();
    checks::check("the circle is found", names == [TRANSFERS.to_vec()], format!("deadlocks: {names:?}"))
}

fn holders_are_named(report: &Report) -> Check {
    let held = TRANSFERS.map(|task| holders(report, task));
    let right = held[0] == [TRANSFERS[1]] && held[1] == [TRANSFERS[0]];
    checks::check("each waits for the other's lock", right, format!("held by {held:?}"))
}

fn hostage_is_told(report: &Report) -> Check {
    let hostages: Vec<&str> = report.leaked().iter().filter(|leak| leak.hostage).map(name).collect();
    checks::check("who only waits for them is told apart", hostages == [STATEMENT], format!("hostages: {hostages:?}"))
}

fn repair_helps(after: &Run) -> Check {
    let moved = [BALANCE - AMOUNTS[0] + AMOUNTS[1], BALANCE + AMOUNTS[0] - AMOUNTS[1]];
    let right = after.ended == 3 && after.report.leaked().is_empty() && after.balances == Some(moved);
    let balances = after.balances.map_or_else(|| "none".to_owned(), |[a, b]| format!("a {a}, b {b}"));
    let found = format!("{} of 3 tasks end, {} leaked; balances: {balances}", after.ended, after.report.leaked().len());
    checks::check("the repair helps", right, found)
}

fn render(before: &Run, after: &Run, checks: &[Check], paint: Paint) -> String {
    let mut text = format!("\n{}\n", paint.text(BOLD, "Leaked, as nobody alive can wake them"));
    let mut table = Table::new(["task", "waits in", "for a lock first used at", "held by"]);
    for leak in before.report.leaked() {
        let made = leak.waits_on.iter().find_map(|on| match on {
            WaitsOn::Primitive(primitive) => primitive.created_at.map(|at| format!("{}:{}", at.file(), at.line())),
            _ => None,
        });
        let held = holders(&before.report, name(leak)).join(", ");
        table.row([name(leak).to_owned(), leak.reason().to_string(), made.unwrap_or_default(), held]);
    }
    text.push_str(&table.render("  "));
    text.push_str(&format!("\n{}\n", paint.text(BOLD, "Side by side")));
    let mut table = Table::new(["", ">before", ">after"]);
    let mut row =
        |what: &str, of: fn(&Run) -> usize| table.row([what.into(), of(before).to_string(), of(after).to_string()]);
    row("tasks that end, of 3", |run| run.ended);
    row("leaked", |run| run.report.leaked().len());
    row("circles of locks", |run| run.report.deadlocks.len());
    text.push_str(&table.render("  "));
    text.push_str(&format!("\n{}\n", paint.text(BOLD, "What was found, against what was done")));
    text.push_str(&checks::table(checks, paint));
    text
}
