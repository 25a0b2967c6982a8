//! A result set in one table: what the README shows.

use std::fmt::Write as _;

use super::{Set, line::Verdict};
use crate::{
    columns,
    report::table::{OF_COSTS, of_cost},
};

/// The rows that stand for their sections, with their peers; of several numbers of workers the last.
const HEADLINES: [(&str, &str, &str); 16] = [
    ("scheduler", "yield_now", "may"),
    ("scheduler", "spawn + join, batches of 1000", "go"),
    ("scheduler", "rendezvous ping-pong, round trip", "go"),
    ("scheduler", "4 producers, 4 consumers, capacity 128", "go"),
    ("scheduler", "mutex, uncontended", "std"),
    ("scheduler", "select over two channels, capacity 128", "go"),
    ("scheduler", "100 000 sleepers, p99 lateness", "go"),
    ("heap", "malloc + free at once, 16 to 1024 B", "jemalloc-profiling"),
    ("heap", "sampling at 512 KiB, malloc + free", "off"),
    ("cpu", "CPU of a sample, signal included, 30 functions deep", "go"),
    ("contention", "block rate 1, added to a rendezvous round trip", "go"),
    ("tasks", "goroutine profile of 100 000 tasks", "go"),
    ("trace", "CPU of an event, stacks included", "go"),
    ("trace", "service, 10 us a request, traced", "go"),
    ("leak", "100 000 blocked tasks, 10 000 leaked, 109 MB of pointers", "go"),
    ("overhead", "orders: all that stays on", "off"),
];

impl Set {
    /// The rows that stand for the others, and how many targets were met, as Markdown. Links are from the project's top level.
    pub(super) fn summary(&self, folder: &str) -> String {
        let headline = |(section, name, peer): &(&str, &str, &str)| {
            let is_it = |line: &&&super::line::Line| line.name == *name && line.peer_name == *peer;
            self.of(section).collect::<Vec<_>>().iter().rev().find(is_it).map(|line| of_cost(line))
        };
        let rows: Vec<Vec<String>> = HEADLINES.iter().filter_map(headline).collect();
        let mut text = String::new();
        columns::markdown(&mut text, &OF_COSTS, &rows);
        let count =
            |section: &str, verdict: Verdict| self.of(section).filter(|line| line.verdict == Some(verdict)).count();
        let sections = self.known().map(|(name, _)| {
            let [met, missed, open] =
                [Verdict::Met, Verdict::Missed, Verdict::NotResolved].map(|verdict| count(name, verdict));
            let targets = match met + missed + open {
                0 => "no targets".to_owned(),
                all => format!("{met} of {all} targets met, {missed} missed, {open} not resolved"),
            };
            format!("[{name}]({folder}/{name}.md) ({targets})")
        });
        let sections: Vec<String> = sections.collect();
        let _ =
            write!(text, "\nEverything: {}. [How and when it was measured]({folder}/README.md).", sections.join("; "));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        report::document,
        results::{README, RESULTS, SUMMARY, tests::line},
    };

    #[test]
    fn a_headline_is_the_row_with_the_most_workers() {
        let mut set = Set::default();
        let rows = [1, 2].map(|workers| super::super::line::Line {
            workers,
            peer_name: "may".to_owned(),
            ..line("scheduler", "yield_now", [0.3, 0.4, 0.5])
        });
        set.lines.extend(rows);
        set.runs.insert("scheduler".to_owned(), super::super::machine::tests::run());
        let text = set.summary("results");
        assert!(text.contains("| yield_now | 2 |") && !text.contains("| yield_now | 1 |"), "{text}");
        assert!(
            text.contains("[scheduler](results/scheduler.md) (2 of 2 targets met, 0 missed, 0 not resolved)"),
            "{text}"
        );
    }

    #[test]
    fn the_readme_shows_what_is_committed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace");
        let set = Set::read(&root.join(RESULTS)).unwrap();
        let readme = fs::read_to_string(root.join(README)).unwrap();
        let renewed = document::replace(&readme, SUMMARY, &set.summary(RESULTS)).unwrap();
        assert!(readme == renewed, "README.md has another summary: `report --results` writes it");
        let missing: Vec<_> = HEADLINES
            .iter()
            .filter(|(section, name, peer)| {
                set.runs.contains_key(*section)
                    && !set.of(section).any(|line| line.name == *name && line.peer_name == *peer)
            })
            .collect();
        assert!(missing.is_empty(), "no such rows: {missing:?}");
    }
}
