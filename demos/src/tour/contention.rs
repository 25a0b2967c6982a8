//! What the contention profiles say: who has waited for how long, and who waits now.

use serde::Serialize;

use super::{
    checks::{Check, check},
    profile::{Profile, Sample},
};
use crate::{
    allocations::by_function,
    orders::parked::{LABEL, PARKED},
    table::{Table, count, seconds, shortened},
};

/// The sample types in Go's order.
const TYPES: [(&str, &str); 2] = [("contentions", "count"), ("delay", "nanoseconds")];

/// Rows that a table shows, and the longest name that it shows whole.
const ROWS: usize = 6;
const NAME: usize = 64;

/// A function in which tasks wait, or that lets them wait.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub function: String,
    /// How often.
    pub contentions: i64,
    /// How long, all together.
    pub delay_seconds: f64,
}

/// The profiles in rows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContentionReport {
    /// Waits that have ended, by who has waited; the longest first.
    pub waited: Vec<Row>,
    /// Waits in progress.
    pub waiting: Vec<Row>,
    /// Unlocks that others have waited for.
    pub unlocked: Vec<Row>,
    /// What the block profile says about itself.
    pub notes: Vec<String>,
}

impl ContentionReport {
    /// Sums up both profiles.
    pub fn new(block: &Profile, mutex: &Profile) -> Self {
        Self {
            waited: rows(block, |sample| !is_waiting(sample)),
            waiting: rows(block, is_waiting),
            unlocked: rows(mutex, |_| true),
            notes: block.comments.clone(),
        }
    }

    /// The tables, each with its heading.
    pub fn tables(&self) -> [(&'static str, String); 3] {
        let table = |rows: &[Row]| {
            if rows.is_empty() {
                return "  no samples\n".to_owned();
            }
            let mut table = Table::new([">contentions", ">delay", "who"]);
            for row in rows.iter().take(ROWS) {
                let name = shortened(&row.function, NAME);
                table.row([count(row.contentions.unsigned_abs()), seconds(row.delay_seconds), name]);
            }
            table.render("  ")
        };
        [
            ("Waits that have ended, by who has waited", table(&self.waited)),
            ("Waits in progress, by who waits", table(&self.waiting)),
            ("Unlocks that others have waited for, by who has unlocked", table(&self.unlocked)),
        ]
    }
}

fn is_waiting(sample: &Sample) -> bool {
    sample.label("state") == Some("waiting")
}

fn rows(profile: &Profile, wanted: impl Fn(&Sample) -> bool) -> Vec<Row> {
    let mut profile = profile.clone();
    profile.samples.retain(wanted);
    let contentions = by_function(&profile, TYPES[0].0);
    let of = |function: &str| contentions.iter().find(|row| row.0 == function).map_or(0, |row| row.1);
    by_function(&profile, TYPES[1].0)
        .into_iter()
        .map(|(function, delay)| Row { contentions: of(&function), delay_seconds: delay as f64 / 1e9, function })
        .collect()
}

/// Both profiles have Go's types in Go's order.
pub fn types_are_gos(block: &Profile, mutex: &Profile) -> Check {
    let types =
        |profile: &Profile| profile.types.iter().map(|(kind, unit)| format!("{kind}/{unit}")).collect::<Vec<_>>();
    let right = |profile: &Profile| {
        profile.types.iter().map(|(name, unit)| (name.as_str(), unit.as_str())).eq(TYPES) && profile.period == 1
    };
    let found = format!("{} and {}", types(block).join(", "), types(mutex).join(", "));
    check("block and mutex are Go's", right(block) && right(mutex), found)
}

/// The tasks that wait for a primitive for ever are in the block profile, though no wait of theirs has ended.
pub fn waits_are_seen(block: &Profile) -> Check {
    let expected: usize = PARKED.iter().filter(|parked| parked.reason != "sleep").map(|parked| parked.count).sum();
    let parked = |sample: &Sample| sample.label(LABEL.0) == Some(LABEL.1);
    let count = |wanted: &dyn Fn(&Sample) -> bool| {
        block.value_index(TYPES[0].0).map_or(0, |value| block.sum(value, |sample| parked(sample) && wanted(sample)))
    };
    let seen = count(&is_waiting);
    let found = format!("{seen} of {expected} waits in progress");
    check("waits in progress are seen", seen == expected as i64, found)
}

#[cfg(test)]
mod tests {
    use super::{super::profile::Frame, *};

    fn profile(samples: &[(&[(&str, &str)], i64)]) -> Profile {
        let sample = |(labels, contentions): &(&[(&str, &str)], i64)| Sample {
            values: vec![*contentions, 2_000_000_000],
            frames: vec![Frame { function: "greenprof_demos::orders::x".to_owned(), ..Frame::default() }],
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let types = TYPES.map(|(name, unit)| (name.to_owned(), unit.to_owned())).to_vec();
        Profile { types, period: 1, samples: samples.iter().map(sample).collect(), ..Profile::default() }
    }

    #[test]
    fn types_are_judged() {
        let good = profile(&[]);
        assert!(types_are_gos(&good, &good).passed);
        let mut other = good.clone();
        other.types.swap(0, 1);
        assert!(!types_are_gos(&good, &other).passed && !types_are_gos(&other, &good).passed);
        assert!(!types_are_gos(&good, &Profile { period: 0, ..good.clone() }).passed);
    }

    #[test]
    fn a_wait_that_is_not_there_is_noticed() {
        let waits: &[(&str, &str)] = &[LABEL, ("state", "waiting")];
        assert!(waits_are_seen(&profile(&[(waits, 6), (waits, 4), (&[LABEL], 3), (&waits[1..], 7)])).passed);
        assert!(!waits_are_seen(&profile(&[(waits, 9)])).passed);
        assert!(!waits_are_seen(&profile(&[(&[LABEL], 10)])).passed && !waits_are_seen(&Profile::default()).passed);
    }

    #[test]
    fn waits_in_progress_are_rows_of_their_own() {
        let block = profile(&[(&[("state", "waiting")], 1), (&[], 5), (&[], 4)]);
        let report = ContentionReport::new(&block, &profile(&[]));
        let row = |contentions, delay_seconds| Row {
            function: "greenprof_demos::orders::x".to_owned(),
            contentions,
            delay_seconds,
        };
        assert_eq!((report.waited, report.waiting), (vec![row(9, 4.0)], vec![row(1, 2.0)]));
        assert!(report.unlocked.is_empty());
    }
}
