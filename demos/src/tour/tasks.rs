//! What the task profile says, in each of its three forms: who waits for what.

use std::collections::BTreeMap;

use serde::Serialize;

use super::profile::Profile;

/// What stands for tasks without a name.
pub const NO_NAME: &str = "(no name)";

/// Names that a row lists.
const NAMES: usize = 4;

/// Tasks by name and state.
pub type Census = BTreeMap<(String, String), u64>;

/// The tasks of one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonRow {
    /// A wait reason, or `running`, or `runnable`.
    pub reason: String,
    /// How many tasks.
    pub tasks: u64,
    /// The most frequent names among them, with their counts.
    pub names: Vec<(String, u64)>,
    /// How many have names that are not listed.
    pub others: u64,
}

/// Counts the tasks of a profile (`debug=0`) that `wanted` chooses by their labels.
pub fn census(profile: &Profile, label: Option<(&str, &str)>) -> Census {
    let mut census = Census::new();
    for sample in &profile.samples {
        if label.is_some_and(|(key, value)| sample.label(key) != Some(value)) {
            continue;
        }
        let name = sample.label("task_name").unwrap_or(NO_NAME).to_owned();
        let state = sample.label("wait_reason").unwrap_or_default().to_owned();
        *census.entry((name, state)).or_default() += sample.values.first().map_or(0, |&n| n.max(0) as u64);
    }
    census
}

/// Sums a census up by state, the most frequent first.
pub fn by_reason(census: &Census) -> Vec<ReasonRow> {
    let mut reasons: BTreeMap<&str, Vec<(String, u64)>> = BTreeMap::new();
    for ((name, state), &tasks) in census {
        reasons.entry(state).or_default().push((name.clone(), tasks));
    }
    let rows = reasons.into_iter().map(|(reason, mut names)| {
        names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let tasks = names.iter().map(|(_, tasks)| tasks).sum();
        let others = names.drain(names.len().min(NAMES)..).map(|(_, tasks)| tasks).sum();
        ReasonRow { reason: reason.to_owned(), tasks, names, others }
    });
    let mut rows: Vec<ReasonRow> = rows.collect();
    rows.sort_by(|a, b| b.tasks.cmp(&a.tasks).then_with(|| a.reason.cmp(&b.reason)));
    rows
}

/// A task of the `debug=2` text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Its number.
    pub id: u64,
    /// What it was doing.
    pub status: String,
    /// Its labels; its name is the first, as `name`.
    pub labels: Vec<(String, String)>,
    /// Whether its stack is there.
    pub has_stack: bool,
}

impl Dumped {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

/// Reads the `debug=2` text: one task a paragraph.
pub fn read_dump(text: &str) -> Vec<Dumped> {
    text.split("\n\n").filter_map(read_paragraph).collect()
}

fn read_paragraph(paragraph: &str) -> Option<Dumped> {
    let mut lines = paragraph.trim_start_matches('\n').lines();
    let header = lines.next()?.strip_prefix("goroutine ")?.strip_suffix(':')?;
    let (id, rest) = header.split_once(" [")?;
    let (status, labels) = rest.split_once(']')?;
    let status = status.split(", ").next().unwrap_or_default().to_owned();
    let labels = labels.trim().strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
    let has_stack = lines.any(|line| line.ends_with("(...)"));
    Some(Dumped { id: id.parse().ok()?, status, labels: labels.map(read_labels).unwrap_or_default(), has_stack })
}

/// Counts the tasks of a dump with a label, by name and state.
pub fn dump_census(tasks: &[Dumped], (key, value): (&str, &str)) -> Census {
    let mut census = Census::new();
    for task in tasks.iter().filter(|task| task.label(key) == Some(value)) {
        let name = task.label("name").unwrap_or(NO_NAME).to_owned();
        *census.entry((name, task.status.clone())).or_default() += 1;
    }
    census
}

/// Reads `key: value, key: value`, where either may be quoted.
fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = read_word(rest, ':') {
        let Some((value, after)) = read_word(after, ',') else { break };
        labels.push((key, value));
        rest = after;
    }
    labels
}

/// A word up to `end` or the end of the text, quoted or not, and what follows.
fn read_word(text: &str, end: char) -> Option<(String, &str)> {
    let text = text.trim_start();
    if text.is_empty() {
        return None;
    }
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = text.split_once(end).unwrap_or((text, ""));
        return Some((word.to_owned(), rest));
    };
    let mut word = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = quoted[at + 1..].trim_start();
                return Some((word, rest.strip_prefix(end).unwrap_or(rest)));
            }
            '\\' => word.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => word.push(character),
        }
    }
    None
}

/// The `debug=1` text, as far as it can be summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The total of its first line.
    pub total: u64,
    /// The sum over its records.
    pub sum: u64,
    /// The sum over the records with the label.
    pub labelled: u64,
}

/// Reads the `debug=1` text; nothing if it does not start as one.
pub fn read_counts(text: &str, (key, value): (&str, &str)) -> Option<Counted> {
    let (first, records) = text.split_once('\n')?;
    let total = first.strip_prefix("goroutine profile: total ")?.parse().ok()?;
    let mut counted = Counted { total, ..Counted::default() };
    let label = format!("\"{key}\":\"{value}\"");
    for record in records.split("\n\n") {
        let Some(count) = record.trim_start().split_once(" @").and_then(|(count, _)| count.parse::<u64>().ok()) else {
            continue;
        };
        counted.sum += count;
        if record.lines().any(|line| line.starts_with("# labels:") && line.contains(&label)) {
            counted.labelled += count;
        }
    }
    Some(counted)
}

#[cfg(test)]
mod tests {
    use super::{super::profile::Sample, *};

    fn task(labels: &[(&str, &str)], count: i64) -> Sample {
        let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Sample { values: vec![count], labels, ..Sample::default() }
    }

    #[test]
    fn tasks_are_counted_by_name_and_state() {
        let profile = Profile {
            samples: vec![
                task(&[("role", "parked"), ("task_name", "feed"), ("wait_reason", "chan receive")], 3),
                task(&[("wait_reason", "chan receive")], 9),
                task(&[("task_name", "main"), ("wait_reason", "task join")], 1),
                task(&[("role", "parked"), ("task_name", "feed"), ("wait_reason", "chan receive")], 1),
            ],
            ..Profile::default()
        };
        let parked = census(&profile, Some(("role", "parked")));
        assert_eq!(parked, [(("feed".to_owned(), "chan receive".to_owned()), 4)].into());
        let rows = by_reason(&census(&profile, None));
        let shown: Vec<_> = rows.iter().map(|row| (row.reason.as_str(), row.tasks, row.names.len())).collect();
        assert_eq!(shown, [("chan receive", 13, 2), ("task join", 1, 1)]);
        assert_eq!(rows[0].names[0], (NO_NAME.to_owned(), 9));
    }

    #[test]
    fn rare_names_are_counted_together() {
        let census = (0..7).map(|n| ((format!("n{n}"), "sleep".to_owned()), 1)).collect();
        let rows = by_reason(&census);
        assert_eq!((rows[0].names.len(), rows[0].others, rows[0].tasks), (4, 3, 7));
    }

    const DUMP: &str = "goroutine 7 [chan receive, 3 minutes] {name: \"price-feed\", role: parked, a: \"b: \\\"c\\\", d\"}:\n\
        app::next(...)\n\t/src/app.rs:41 +0x52\ncreated by app::main in goroutine 1\n\t/src/main.rs:9\n\n\
        goroutine 8 [running]:\n\tgoroutine running on other thread; stack unavailable\n";

    #[test]
    fn dumps_are_read_with_quoted_labels() {
        let tasks = read_dump(DUMP);
        assert_eq!(tasks.len(), 2);
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = vec![label("name", "price-feed"), label("role", "parked"), label("a", "b: \"c\", d")];
        assert_eq!(tasks[0], Dumped { id: 7, status: "chan receive".to_owned(), labels, has_stack: true });
        assert_eq!(tasks[1], Dumped { id: 8, status: "running".to_owned(), labels: vec![], has_stack: false });
        let census = dump_census(&tasks, ("role", "parked"));
        assert_eq!(census, [(("price-feed".to_owned(), "chan receive".to_owned()), 1)].into());
    }

    #[test]
    fn counts_are_read_with_their_labels() {
        let text = "goroutine profile: total 6\n\
            4 @ 0x1 0x2\n# labels: {\"role\":\"parked\", \"tenant\":\"x\"}\n# state: sleep\n#\t0x1\tapp::f+0x1\tapp.rs:3\n\n\
            2 @ 0x3\n# labels: {\"tenant\":\"parked\"}\n#\t0x3\n\n";
        let counted = read_counts(text, ("role", "parked"));
        assert_eq!(counted, Some(Counted { total: 6, sum: 6, labelled: 4 }));
        assert_eq!(read_counts("heap profile: 1\n", ("role", "parked")), None);
    }
}
