//! What the leak report says (`goroutineleak?format=json`): which tasks nobody can wake, and what they wait for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::checks::{Check, check};
use crate::table::Table;

/// What is asked for.
pub const ASKED: &str = "goroutineleak?format=json";

/// Leaked tasks that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeakRow {
    /// How many.
    pub tasks: u64,
    /// Their name.
    pub name: String,
    /// What they wait for.
    pub reason: String,
    /// Where they were spawned.
    pub spawned_at: String,
}

/// The report, summed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LeakReport {
    /// Whether all that the program can reach was seen.
    pub complete: bool,
    /// Why not.
    pub incomplete: Option<String>,
    /// Tasks that there were.
    pub tasks: u64,
    /// Those of them that waited for others.
    pub blocked: u64,
    /// For how long the program stood still, in milliseconds.
    pub stopped_milliseconds: f64,
    /// Tasks that were called leaked before and have run since.
    pub errors: u64,
    /// The leaked ones.
    pub leaked: Vec<LeakRow>,
}

impl LeakReport {
    /// Reads the report. `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let report: Value = serde_json::from_str(text).ok()?;
        let mut rows: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        for task in report["leaked"].as_array()? {
            let text = |key: &str| task[key].as_str().unwrap_or_default().to_owned();
            *rows.entry((text("name"), text("wait_reason"), text("spawned_at"))).or_default() += 1;
        }
        let rows =
            rows.into_iter().map(|((name, reason, spawned_at), tasks)| LeakRow { tasks, name, reason, spawned_at });
        Some(Self {
            complete: report["complete"].as_bool()?,
            incomplete: report["incomplete"].as_str().map(str::to_owned),
            tasks: report["counts"]["tasks"].as_u64()?,
            blocked: report["counts"]["blocked"].as_u64()?,
            stopped_milliseconds: report["cost"]["stopped_nanoseconds"].as_u64()? as f64 / 1e6,
            errors: report["detector_errors"].as_u64()?,
            leaked: rows.collect(),
        })
    }

    /// The leaked tasks as a table, and what it cost to find them.
    pub fn render(&self) -> String {
        let mut table = Table::new([">tasks", "name", "waits for", "spawned at"]);
        for row in &self.leaked {
            table.row([row.tasks.to_string(), row.name.clone(), row.reason.clone(), row.spawned_at.clone()]);
        }
        let cost = format!(
            "  of {} tasks, {} of them blocked; the program stood still for {:.1} ms\n",
            self.tasks, self.blocked, self.stopped_milliseconds
        );
        table.render("  ") + &cost
    }

    /// The tasks of that name are leaked, and nobody else is.
    pub fn forgotten_are_found(&self, name: &str, count: u64) -> Check {
        const NAME: &str = "who is forgotten is leaked";
        if !self.complete {
            let reason = self.incomplete.as_deref().unwrap_or("it does not say why");
            return check(NAME, false, format!("the report is not certain: {reason}"));
        }
        let others: Vec<&str> =
            self.leaked.iter().map(|row| row.name.as_str()).filter(|other| *other != name).collect();
        let found: u64 = self.leaked.iter().filter(|row| row.name == name).map(|row| row.tasks).sum();
        let mut text = format!("{found} of {count} {name}; {} that were reported have run", self.errors);
        if !others.is_empty() {
            text.push_str(&format!("; nobody should have forgotten {}", others.join(", ")));
        }
        // A stale word may hide one; nothing may make up another.
        check(NAME, others.is_empty() && (1..=count).contains(&found) && self.errors == 0, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(names: &[&str]) -> LeakReport {
        let leaked: Vec<Value> = names
            .iter()
            .map(|name| serde_json::json!({ "name": name, "wait_reason": "chan send", "spawned_at": "a.rs:1:1" }))
            .collect();
        let report = serde_json::json!({
            "complete": true, "incomplete": null, "detector_errors": 0, "leaked": leaked,
            "counts": { "tasks": 9, "blocked": 7 }, "cost": { "stopped_nanoseconds": 1_500_000 },
        });
        LeakReport::read(&report.to_string()).expect("a report")
    }

    #[test]
    fn leaked_tasks_are_counted_by_name() {
        let report = report(&["late", "late", "other"]);
        assert_eq!(report.leaked.len(), 2);
        assert_eq!((report.leaked[0].tasks, report.leaked[0].name.as_str()), (2, "late"));
        let text = report.render();
        assert!(text.contains("chan send  a.rs:1:1") && text.contains("stood still for 1.5 ms"), "{text}");
        assert_eq!(LeakReport::read("{}"), None);
    }

    #[test]
    fn the_check_fails_on_too_few_too_many_others_and_doubt() {
        assert!(report(&["late", "late"]).forgotten_are_found("late", 3).passed);
        for names in [&[][..], &["late"; 4], &["late", "other"]] {
            assert!(!report(names).forgotten_are_found("late", 3).passed, "{names:?}");
        }
        let doubtful = LeakReport { complete: false, incomplete: Some("busy".into()), ..report(&["late"]) };
        let found = doubtful.forgotten_are_found("late", 3);
        assert!(!found.passed && found.found.contains("busy"), "{found:?}");
        assert!(!LeakReport { errors: 1, ..report(&["late"]) }.forgotten_are_found("late", 3).passed);
    }
}
