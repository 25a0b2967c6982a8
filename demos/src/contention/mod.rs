//! `contention`: a lock and a channel that tasks wait for too often, found by the mutex and the block profile, and
//! repaired.
//!
//! `ledger` has a lock that is held during something slow; the mutex profile names who holds it. `readings` has a
//! channel over which each of many values goes by itself; the block profile names who waits. Both run as they are and
//! repaired, under the label `version`. What is judged is how often tasks had to wait: how long depends on the machine.

mod ledger;
mod readings;

use std::time::Instant;

use greenprof_profiler::{
    contention::{self, Snapshot},
    set_block_profile_rate, set_mutex_profile_fraction,
};
use greenprof_runtime::{Runtime, labels};

use crate::{
    allocations::by_function,
    console::{self, BOLD, Paint},
    guide::{Guide, Length, Settings},
    interrupt::Interrupt,
    scenario::{ScenarioError, build_runtime, read_back},
    setup::{self, SetupError},
    table::{Table, count, shortened},
    tour::{
        checks::{self, Check},
        profile::Profile,
    },
};

const GUIDE: Guide<'static> = Guide {
    does: "Eight clerks book into one ledger, which each keeps locked while it writes a journal; a meter hands 20 000 \
           readings to a collector, one by one. Then the same with the journal written after unlocking, and the readings \
           in batches. The samples have the label version=before or version=after.",
    page: ("profiles", "capture `mutex`, then `block`: book_and_write has the width of the one, collect of the other"),
    paths: &[
        ("mutex?debug=1", "book_and_write first: its unlock ends the waits of all others"),
        ("mutex?debug=1&side=waiter", "the same waits, by who has waited"),
        ("block?debug=1", "hand_over and collect: a contention for nearly each reading; state=waiting: who waits now"),
    ],
    commands: &[
        ("pprof -top -cum -sample_index=delay URL/mutex", "book_and_write has nearly all of the delay"),
        ("pprof -top -cum -sample_index=contentions URL/block", "hand_over and collect have most contentions"),
        (
            "pprof -top -cum -sample_index=contentions -tagfocus=version=after URL/block",
            "what is left after the repair",
        ),
    ],
};

/// The label that tells the versions apart.
const KEY: &str = "version";

/// The part of the contentions that may be left after the repair.
const LEFT: f64 = 0.2;

/// The programs as they are, and repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Before,
    After,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Runs both versions, and says what the profiles have of them. Whether everything that was checked was right.
///
/// # Errors
/// See [`ScenarioError`].
pub fn run(settings: &Settings, interrupt: &Interrupt) -> Result<bool, ScenarioError> {
    let server = setup::open_port(&settings.address)?;
    let runtime = build_runtime(settings.workers)?;
    set_block_profile_rate(1).map_err(SetupError::Rate)?;
    set_mutex_profile_fraction(1).map_err(SetupError::Rate)?;
    GUIDE.print(server.local_addr());
    if settings.length != Length::Once {
        interrupt.end_in_order();
    }
    let sums = [Version::Before, Version::After].map(|version| {
        console::note(&format!("running, {KEY}={} ...", version.name()));
        labels::with(&[(KEY, version.name())], || rounds(&runtime, version, settings.length, interrupt))
    });
    let read = |snapshot: &Snapshot| read_back(&contention::profile(snapshot));
    let (block, mutex) = (read(&contention::block())?, read(&contention::mutex())?);
    let found = |profile: &Profile, version| Found { rows: rows(profile, version), rounds: sums[version as usize].0 };
    let [before, after] = [Version::Before, Version::After]
        .map(|version| Versions { block: found(&block, version), mutex: found(&mutex, version) });
    let checks = vec![
        same_results(sums),
        holder_is_named(&before.mutex),
        channel_is_named(&before.block),
        lock_is_repaired(&before.mutex, &after.mutex),
        channel_is_repaired(&before.block, &after.block),
    ];
    console::print(&render(&before, &after, &checks, Paint::for_stdout()));
    server.shutdown();
    Ok(checks.iter().all(|check| check.passed))
}

/// Goes on as long as is asked for. How many rounds that were, and the sums of the last.
fn rounds(runtime: &Runtime, version: Version, length: Length, interrupt: &Interrupt) -> (u64, [u64; 2]) {
    let begin = Instant::now();
    let mut rounds = 0;
    loop {
        let sums = runtime.run(move || [ledger::round(version), readings::round(version)]);
        rounds += 1;
        if !length.goes_on(begin.elapsed(), interrupt) {
            return (rounds, sums);
        }
    }
}

/// What a profile has of a version.
#[derive(Clone, Debug, Default)]
struct Found {
    rows: Vec<Row>,
    rounds: u64,
}

struct Versions {
    block: Found,
    mutex: Found,
}

/// A function of the demo, how often somebody waited there or for it, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    function: String,
    contentions: i64,
    delay: i64,
}

impl Found {
    /// Contentions of some functions, in a round.
    fn contentions(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let rows = self.rows.iter().filter(|row| wanted(&row.function));
        rows.map(|row| row.contentions).sum::<i64>() as f64 / self.rounds.max(1) as f64
    }
}

/// The functions of a version, the longest delay first.
fn rows(profile: &Profile, version: Version) -> Vec<Row> {
    let mut own = profile.clone();
    own.samples.retain(|sample| sample.label(KEY) == Some(version.name()) && sample.label("state").is_none());
    let contentions = by_function(&own, "contentions");
    let of = |function: &str| contentions.iter().find(|row| row.0 == function).map_or(0, |row| row.1);
    by_function(&own, "delay")
        .into_iter()
        .map(|(function, delay)| Row { contentions: of(&function), function, delay })
        .collect()
}

fn same_results(sums: [(u64, [u64; 2]); 2]) -> Check {
    let right = sums.iter().all(|(_, sums)| *sums == [ledger::SUM, readings::SUM]);
    checks::check("both versions give the same", right, format!("{:?} and {:?}", sums[0].1, sums[1].1))
}

fn is_ledger(function: &str) -> bool {
    function.contains("::contention::ledger::")
}

fn is_readings(function: &str) -> bool {
    function.contains("::contention::readings::")
}

/// Nearly all of the delay is charged to the function that holds the lock.
fn holder_is_named(mutex: &Found) -> Check {
    let first = mutex.rows.first().map_or("nobody", |row| row.function.as_str());
    checks::check("the mutex profile names the holder", first == ledger::HOT, format!("{first} comes first"))
}

/// Most contentions are those of the two ends of the channel.
fn channel_is_named(block: &Found) -> Check {
    let hot = block.contentions(|function| readings::HOT.contains(&function));
    let all = block.contentions(|_| true);
    let found = format!("{hot:.0} of {all:.0} contentions in a round");
    checks::check("the block profile names both ends of the channel", hot > 0.5 * all, found)
}

fn lock_is_repaired(before: &Found, after: &Found) -> Check {
    let [before, after] = [before, after].map(|found| found.contentions(is_ledger));
    repaired("the lock's repair helps", before, after)
}

fn channel_is_repaired(before: &Found, after: &Found) -> Check {
    let [before, after] = [before, after].map(|found| found.contentions(is_readings));
    repaired("the channel's repair helps", before, after)
}

fn repaired(name: &'static str, before: f64, after: f64) -> Check {
    let found = format!("{before:.0} contentions in a round before, {after:.0} after");
    checks::check(name, before > 0.0 && after < LEFT * before, found)
}

fn render(before: &Versions, after: &Versions, checks: &[Check], paint: Paint) -> String {
    let mut text = String::new();
    for (heading, found) in [
        ("Mutex profile, by who unlocks: before", &before.mutex),
        ("after", &after.mutex),
        ("Block profile, by who waits: before", &before.block),
        ("after", &after.block),
    ] {
        text.push_str(&format!("\n{}\n", paint.text(BOLD, heading)));
        let mut table = Table::new([">contentions", ">delay", "function"]);
        for row in found.rows.iter().take(4) {
            table.row([
                count(row.contentions.unsigned_abs()),
                format!("{:.1} ms", row.delay as f64 / 1e6),
                shortened(&row.function, 64),
            ]);
        }
        text.push_str(&table.render("  "));
    }
    text.push_str(&format!("\n{}\n", paint.text(BOLD, "What was found, against what was done")));
    text.push_str(&checks::table(checks, paint));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[(&str, i64)]) -> Found {
        let row = |(function, contentions): &(&str, i64)| Row {
            function: (*function).to_owned(),
            contentions: *contentions,
            delay: 1,
        };
        Found { rows: rows.iter().map(row).collect(), rounds: 2 }
    }

    #[test]
    fn checks_notice_what_is_wrong() {
        assert!(holder_is_named(&found(&[(ledger::HOT, 9), ("x", 1)])).passed);
        assert!(!holder_is_named(&found(&[("x", 9), (ledger::HOT, 1)])).passed && !holder_is_named(&found(&[])).passed);
        let channel = |rows: &[(&str, i64)]| channel_is_named(&found(rows)).passed;
        assert!(channel(&[(readings::HOT[0], 5), (readings::HOT[1], 5), ("x", 9)]));
        assert!(!channel(&[(readings::HOT[0], 5), ("x", 9)]) && !channel(&[]));
        let (many, few) = (found(&[(ledger::HOT, 100)]), found(&[(ledger::HOT, 10)]));
        assert!(lock_is_repaired(&many, &few).passed && !lock_is_repaired(&many, &many).passed);
        assert!(!lock_is_repaired(&found(&[]), &found(&[])).passed, "nothing to repair");
        let (many, few) = (found(&[(readings::HOT[0], 100)]), found(&[(readings::HOT[1], 10)]));
        assert!(channel_is_repaired(&many, &few).passed && !channel_is_repaired(&few, &many).passed);
        let right = (1, [ledger::SUM, readings::SUM]);
        assert!(same_results([right, right]).passed && !same_results([right, (1, [1, 2])]).passed);
    }
}
