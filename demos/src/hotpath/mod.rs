//! `hotpath`: a service that uses the processor more than it needs to, found by the CPU profile: the function first, then the
//! tenant that the sum hides.
//!
//! All tenants send as many requests. Each request looks for lines that occur twice in a list. `Version::Before` compares
//! each line with each, which nobody notices on short lists, and one tenant's are long. In the sum of all samples one
//! sees the function only; the label `tenant` says whose requests make it hot. `Version::After` sorts first.

mod lines;

use std::time::{Duration, Instant};

use greenprof_profiler::cpu;
use greenprof_runtime::{JoinHandle, Runtime, labels, task};
use nix::time::{ClockId, clock_gettime};

use crate::{
    allocations::{by_function, by_label},
    console::{self, BOLD, Paint},
    guide::{Guide, Length, Settings},
    interrupt::Interrupt,
    scenario::{ScenarioError, build_runtime, read_back},
    setup,
    table::{Table, count, percent, shortened},
    tour::checks::{self, Check},
};

const GUIDE: Guide<'static> = Guide {
    does: "Five tenants send as many requests each; a request looks for lines that occur twice in a list. As it is, each line \
           is compared with each. Then the same, with the lines sorted first.",
    page: (
        "profiles",
        "capture `profile` for 5 s: lines::compare_all has nearly all of the width; choose the label tenant=acme",
    ),
    paths: &[("goroutine?debug=1", "nobody waits for anything: the tasks run, or are queued")],
    commands: &[
        ("pprof -top 'URL/profile?seconds=5'", "lines::compare_all has nearly all of flat"),
        ("pprof -tags 'URL/profile?seconds=5'", "tenant acme has most of the time, and a fifth of the requests"),
        ("pprof -top -tagignore=tenant=acme 'URL/profile?seconds=5'", "the same function, for all others together"),
    ],
};

/// The label of a request.
const KEY: &str = "tenant";

/// Who sends requests, and how many lines each has.
const TENANTS: [(&str, usize); 5] = [("acme", 4000), ("bluefin", 300), ("cobalt", 300), ("dune", 300), ("ember", 300)];

/// The tenant whose lists are long.
const LARGE: &str = TENANTS[0].0;

/// CPU time that the profiled part of the first version uses: 200 samples.
const USES: Duration = Duration::from_secs(2);

/// The part of the samples of a request that may be left after the repair.
const LEFT: f64 = 0.2;

/// As it is, and repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Before,
    After,
}

/// What the profile of a version has.
#[derive(Clone, Debug, Default)]
struct Run {
    /// Rounds of requests, one of each tenant.
    rounds: u64,
    /// Lines that were found twice, in a round.
    found: u64,
    samples: i64,
    by_function: Vec<(String, i64)>,
    by_tenant: Vec<(String, i64)>,
}

/// Runs both versions, and says what their profiles have. Whether everything that was checked was right.
///
/// # Errors
/// See [`ScenarioError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, ScenarioError> {
    let server = setup::open_port(&settings.address)?;
    let runtime = build_runtime(settings.workers)?;
    GUIDE.print(server.local_addr());
    if settings.length != Length::Once {
        interrupt.end_in_order();
    }
    let version = |version, rounds| {
        console::note(if version == Version::Before { "running, as it is ..." } else { "running, repaired ..." });
        let begin = Instant::now();
        while settings.length.goes_on(begin.elapsed(), interrupt) {
            round(&runtime, version)?;
        }
        profiled(&runtime, version, rounds)
    };
    let before = version(Version::Before, None)?;
    let after = version(Version::After, Some(before.rounds))?;
    let checks = vec![
        checks::check(
            "both versions give the same",
            before.found == after.found && before.found > 0,
            format!("{} and {} lines occur twice", before.found, after.found),
        ),
        function_is_named(&before),
        tenant_is_named(&before),
        repair_helps(&before, &after),
    ];
    console::print(&render(&before, &after, &checks, Paint::for_stdout()));
    server.shutdown();
    Ok(checks.iter().all(|check| check.passed))
}

/// Profiles a version: for so many rounds, else until it has used enough CPU time to have samples.
fn profiled(runtime: &Runtime, version: Version, rounds: Option<u64>) -> Result<Run, ScenarioError> {
    let session = cpu::start(cpu::DEFAULT_HZ)?;
    let (begin, mut run) = (cpu_time(), Run::default());
    while rounds.map_or(cpu_time() - begin < USES, |rounds| run.rounds < rounds) {
        run.found = round(runtime, version)?;
        run.rounds += 1;
    }
    let mut profile = read_back(&session.stop().profile)?;
    // Of the port's threads and of the runtime's own there are a few, too.
    profile.samples.retain(|sample| sample.label(KEY).is_some());
    run.by_function = by_function(&profile, "samples");
    run.by_tenant = by_label(&profile, "samples", KEY);
    run.samples = run.by_tenant.iter().map(|row| row.1).sum();
    Ok(run)
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A request of each tenant, each in a task of its own. How many lines occur twice.
fn round(runtime: &Runtime, version: Version) -> Result<u64, ScenarioError> {
    let mut requests: Vec<JoinHandle<u64>> = Vec::with_capacity(TENANTS.len());
    for (tenant, length) in TENANTS {
        labels::with(&[(KEY, tenant)], || {
            let request = move || request(length, version);
            requests.push(runtime.handle().spawn_with(task::Builder::new().name("request"), request)?);
            Ok::<(), ScenarioError>(())
        })?;
    }
    Ok(requests.into_iter().map(|request| request.join().unwrap_or(0)).sum())
}

fn request(length: usize, version: Version) -> u64 {
    let lines = lines::list(length);
    match version {
        Version::Before => lines::compare_all(&lines),
        Version::After => lines::sort_first(lines),
    }
}

/// The function that compares has most of the samples.
fn function_is_named(run: &Run) -> Check {
    let (name, samples) = run.by_function.first().map_or(("nothing", 0), |row| (row.0.as_str(), row.1));
    let found = format!("{name} has {} of {} samples", percent(samples as f64, run.samples as f64), run.samples);
    let most = samples as f64 > 0.6 * run.samples as f64;
    checks::check("the profile names the function", name == lines::HOT && most, found)
}

/// The tenant with the long lists has most of the samples, though it sends a fifth of the requests.
fn tenant_is_named(run: &Run) -> Check {
    let (name, samples) = run.by_tenant.first().map_or(("nobody", 0), |row| (row.0.as_str(), row.1));
    let requests = percent(1.0, TENANTS.len() as f64);
    let found = format!(
        "{name} has {} of the samples, and {requests} of the requests",
        percent(samples as f64, run.samples as f64)
    );
    let most = samples as f64 > 0.6 * run.samples as f64;
    checks::check("its label names the tenant", name == LARGE && most, found)
}

/// As many requests use less of the processor.
fn repair_helps(before: &Run, after: &Run) -> Check {
    let found =
        format!("{} samples before, {} after, of {} requests each", before.samples, after.samples, requests(before));
    let right = before.rounds == after.rounds && (after.samples as f64) < LEFT * before.samples as f64;
    checks::check("the repair helps", right, found)
}

fn requests(run: &Run) -> String {
    count(run.rounds * TENANTS.len() as u64)
}

fn render(before: &Run, after: &Run, checks: &[Check], paint: Paint) -> String {
    let mut text = String::new();
    let mut section = |title: &str, first: &str, of: fn(&Run) -> &[(String, i64)]| {
        text.push_str(&format!("\n{}\n", paint.text(BOLD, title)));
        let mut table = Table::new([first, ">before", ">share", ">after"]);
        for (name, samples) in of(before).iter().take(6) {
            let left = of(after).iter().find(|row| row.0 == *name).map_or(0, |row| row.1);
            let share = percent(*samples as f64, before.samples as f64);
            table.row([shortened(name, 60), samples.to_string(), share, left.to_string()]);
        }
        text.push_str(&table.render("  "));
    };
    section("Samples by function: what the processor does", "function", |run| &run.by_function);
    section("The same samples by tenant: for whom", "tenant", |run| &run.by_tenant);
    text.push_str(&format!("\n{}\n", paint.text(BOLD, "What was found, against what was done")));
    text.push_str(&checks::table(checks, paint));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_notice_what_is_wrong() {
        let run = |function: &str, tenant: &str, samples| Run {
            rounds: 10,
            found: 1,
            samples: 200,
            by_function: vec![(function.to_owned(), samples), ("rest".to_owned(), 200 - samples)],
            by_tenant: vec![(tenant.to_owned(), samples), ("rest".to_owned(), 200 - samples)],
        };
        let good = run(lines::HOT, LARGE, 190);
        assert!(function_is_named(&good).passed && tenant_is_named(&good).passed);
        for bad in [run("other", "other", 190), run(lines::HOT, LARGE, 110), Run::default()] {
            assert!(!function_is_named(&bad).passed && !tenant_is_named(&bad).passed);
        }
        let after = |rounds, samples| Run { rounds, samples, ..Run::default() };
        assert!(repair_helps(&good, &after(10, 39)).passed);
        assert!(!repair_helps(&good, &after(10, 41)).passed && !repair_helps(&good, &after(9, 0)).passed);
    }
}
