//! Result sets: folders of what one or several reports have measured, to be committed, shown, and compared.
//!
//! | file | what |
//! |---|---|
//! | `rows.csv` | every row of every section, a [`Line`] each |
//! | `runs.json` | for each section, when, where and of what it was measured: a [`Run`] each |
//! | `<section>.md`, `<section>.svg` | the section's table and plot |
//! | `README.md` | what there is |
//!
//! The project's own set is also summed up in its README. A report replaces the sections that it has measured, and leaves the others as they are.

pub(crate) mod line;
pub(crate) mod machine;
mod plot;
mod summary;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{
    columns::{self, Column},
    detectors,
    report::{
        document,
        table::{self, Length},
    },
    sections,
};
use line::Line;
use machine::Run;

/// Where the project's own results are, from its top level.
pub(crate) const RESULTS: &str = "docs/results";

/// What shows them, and the mark of their place there.
const README: &str = "README.md";
const SUMMARY: &str = "summary";

const ROWS: &str = "rows.csv";
const RUNS: &str = "runs.json";
const INDEX: &str = "README.md";

/// Rows, and how each section of them was measured, if that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    pub(crate) runs: BTreeMap<String, Run>,
    pub(crate) lines: Vec<Line>,
}

impl Set {
    /// What a folder has, and that something can be put there; for a run of minutes should not fail at its end.
    pub(crate) fn prepare(folder: &Path) -> anyhow::Result<Self> {
        let what = || format!("{} cannot take results", folder.display());
        fs::create_dir_all(folder).with_context(what)?;
        let probe = folder.join(".greenprof-benches");
        fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).with_context(what)?;
        let there = [ROWS, RUNS].map(|name| folder.join(name).exists());
        if there == [false, false] { Ok(Self::default()) } else { Self::read(folder) }
    }

    /// Reads a folder, its `rows.csv`, or the lines that `report --json` has printed.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let rows = if path.is_dir() { path.join(ROWS) } else { path.to_owned() };
        let what = || format!("{} is no result set", path.display());
        let text = fs::read_to_string(&rows).with_context(|| format!("{} could not be read", rows.display()))?;
        let lines = if text.trim_start().starts_with('{') { from_json(&text) } else { from_csv(&text) };
        let lines = lines.with_context(what)?;
        ensure!(!lines.is_empty(), "{} has no rows", rows.display());
        let runs = rows.with_file_name(RUNS);
        let runs = match fs::read_to_string(&runs) {
            // Beside lines of JSON there may lie anything.
            Ok(text) if rows.ends_with(ROWS) => serde_json::from_str(&text)
                .with_context(|| format!("{} is not understood", runs.display()))
                .with_context(what)?,
            Ok(_) => BTreeMap::new(),
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("{} could not be read", runs.display())),
        };
        Ok(Self { runs, lines })
    }

    /// Puts rows into the place of those that a section had.
    pub(crate) fn replace(&mut self, section: &str, run: Run, lines: &[Line]) {
        self.lines.retain(|line| line.section != section);
        self.lines.extend(lines.iter().filter(|line| line.section == section).cloned());
        let place = |line: &Line| sections::ALL.iter().position(|section| section.name == line.section);
        // Stable: rows of a section stay in their order.
        self.lines.sort_by_key(|line| place(line).unwrap_or(usize::MAX));
        self.runs.insert(section.to_owned(), run);
    }

    /// Writes the set, and the pages of some of its sections.
    pub(crate) fn write(&self, folder: &Path, changed: &[&str]) -> anyhow::Result<()> {
        for name in changed {
            let Some(run) = self.runs.get(*name) else { continue };
            let shares = detectors::shares(&self.lines);
            let lines: Vec<&Line> =
                if *name == detectors::NAME { shares.iter().collect() } else { self.of(name).collect() };
            let plot = folder.join(format!("{name}.svg"));
            let drawn = plot::draw(&plot, title(name), &lines)?;
            put(folder, &format!("{name}.md"), &self.page(name, run, drawn))?;
        }
        put(folder, ROWS, &to_csv(&self.lines)?)?;
        put(folder, RUNS, &format!("{}\n", serde_json::to_string_pretty(&self.runs)?))?;
        put(folder, INDEX, &self.index())?;
        if folder == Path::new(RESULTS) && Path::new(README).exists() {
            document::update(Path::new(README), SUMMARY, &self.summary(RESULTS))?;
        }
        Ok(())
    }

    fn of(&self, section: &str) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.section == section)
    }

    fn page(&self, name: &str, run: &Run, drawn: bool) -> String {
        let title = title(name);
        let plot = if drawn {
            format!("![Each row's ratio, its interval, and the target]({name}.svg)\n\n")
        } else {
            String::new()
        };
        let length = Length { rounds: run.samples, quick: run.quick };
        let table = table::markdown(name, &self.lines, &run.notes, length);
        format!("# {title}\n\n{run}\n\n{plot}{}\n", table.trim_end())
    }

    fn index(&self) -> String {
        const COLUMNS: [Column; 6] = [
            ("section", true),
            ("rows", false),
            ("date", true),
            ("machine", true),
            ("commit", true),
            ("samples", true),
        ];
        let row = |(name, run): (&str, &Run)| {
            let rows = self.lines.iter().filter(|line| line.section == name).count();
            vec![
                format!("[{}]({name}.md)", title(name)),
                rows.to_string(),
                run.date.clone(),
                run.machine.to_string(),
                run.commit.clone(),
                if run.quick { format!("{}, quick", run.samples) } else { run.samples.to_string() },
            ]
        };
        let rows: Vec<Vec<String>> = self.known().map(row).collect();
        let mut text = "# Results\n\nWritten by `greenprof-benches report --results`; `greenprof-benches compare` holds two such \
                        folders against each other. All rows are in `rows.csv`, and how they were measured in `runs.json`.\n\n"
            .to_owned();
        columns::markdown(&mut text, &COLUMNS, &rows);
        let languages: Vec<String> = self.known().map(|(name, run)| format!("{name}: {}", run.languages())).collect();
        let _ = writeln!(text, "\nCompilers: {}.", languages.join("; "));
        text
    }

    /// The sections that were measured, in the order of the report.
    fn known(&self) -> impl Iterator<Item = (&'static str, &Run)> {
        sections::ALL.iter().filter_map(|section| Some((section.name, self.runs.get(section.name)?)))
    }
}

fn title(name: &str) -> &str {
    sections::ALL.iter().find(|section| section.name == name).map_or(name, |section| section.title)
}

fn put(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path: PathBuf = folder.join(name);
    fs::write(&path, text).with_context(|| format!("{} could not be written", path.display()))
}

fn from_json(text: &str) -> anyhow::Result<Vec<Line>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("its line {} is no row", at + 1)))
        .collect()
}

fn from_csv(text: &str) -> anyhow::Result<Vec<Line>> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(|row| row.context("a row is not understood")).collect()
}

fn to_csv(lines: &[Line]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    lines.iter().try_for_each(|line| writer.serialize(line))?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{
        line::{Basis, Bound, Verdict},
        *,
    };

    pub(crate) fn line(section: &str, name: &str, ratio: [f64; 3]) -> Line {
        let [low, ratio, high] = ratio;
        Line {
            section: section.to_owned(),
            name: name.to_owned(),
            workers: 2,
            ours: Some(10.0 * ratio),
            peer: Some(10.0),
            peer_name: "go".to_owned(),
            ratio: Some(ratio),
            ratio_low: Some(low),
            ratio_high: Some(high),
            target: Some(1.0),
            unit: "ns".to_owned(),
            samples: 9,
            quick: false,
            verdict: Some(Verdict::Met),
            ours_low: Some(10.0 * low),
            ours_high: Some(10.0 * high),
            bound: Bound::AtMost,
            basis: Basis::Measured,
            error: None,
        }
    }

    fn run(date: &str) -> Run {
        Run { date: date.to_owned(), ..machine::tests::run() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let odd = Line { peer: None, ratio: None, verdict: None, ..line("heap", "a, \"b\"\nc", [0.1, 1.0 / 3.0, 7.0]) };
        let mut set = Set::prepare(folder.path()).unwrap();
        set.replace("heap", run("one"), &[odd.clone(), line("heap", "d", [1.0, 1.0, 1.0])]);
        set.write(folder.path(), &["heap"]).unwrap();
        let read = Set::read(folder.path()).unwrap();
        assert_eq!((&read.lines, &read.runs), (&set.lines, &set.runs));
        assert_eq!(read.lines[0], odd);
        let svg = fs::read_to_string(folder.path().join("heap.svg")).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("</svg>"), "{svg}");
        let page = fs::read_to_string(folder.path().join("heap.md")).unwrap();
        assert!(page.contains("one") && page.contains("(heap.svg)") && page.contains("| d | 2 |"), "{page}");
    }

    #[test]
    fn a_part_that_is_measured_again_leaves_the_rest_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut set = Set::prepare(folder.path()).unwrap();
        set.replace("heap", run("one"), &[line("heap", "a", [1.0, 1.0, 1.0])]);
        set.replace("scheduler", run("one"), &[line("scheduler", "b", [1.0, 1.0, 1.0])]);
        set.write(folder.path(), &["heap", "scheduler"]).unwrap();
        let before = fs::read_to_string(folder.path().join("scheduler.md")).unwrap();
        let mut set = Set::prepare(folder.path()).unwrap();
        set.replace("heap", run("two"), &[line("heap", "a", [2.0, 2.0, 2.0])]);
        set.write(folder.path(), &["heap"]).unwrap();
        let read = Set::read(folder.path()).unwrap();
        let names: Vec<&str> = read.lines.iter().map(|line| line.section.as_str()).collect();
        assert_eq!(names, ["scheduler", "heap"], "in the order of the report");
        assert_eq!((read.lines[1].ratio, read.runs["heap"].date.as_str()), (Some(2.0), "two"));
        assert_eq!(read.runs["scheduler"].date, "one");
        assert_eq!(fs::read_to_string(folder.path().join("scheduler.md")).unwrap(), before);
        let index = fs::read_to_string(folder.path().join("README.md")).unwrap();
        assert!(index.contains("(heap.md) | 1 | two") && index.contains("(scheduler.md) | 1 | one"), "{index}");
    }

    #[test]
    fn lines_of_json_are_a_set_too_also_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.jsonl");
        let old = r#"{"section":"scheduler","name":"a row","workers":2,"ours":10.0,"peer":null,"peer_name":"go","ratio":null,"ratio_low":null,"ratio_high":null,"target":0.6,"unit":"ns","samples":1,"quick":true,"verdict":null}"#;
        fs::write(&path, format!("{old}\n\n{old}\n")).unwrap();
        let set = Set::read(&path).unwrap();
        assert_eq!((set.lines.len(), set.runs.len(), set.lines[0].ours), (2, 0, Some(10.0)));
    }

    #[test]
    fn what_is_none_is_an_error_of_one_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("none");
        let error = format!("{:#}", Set::read(&none).unwrap_err());
        assert!(error.starts_with(&format!("{} could not be read: ", none.display())), "{error}");
        fs::write(&none, "section,name\nheap\n").unwrap();
        let error = format!("{:#}", Set::read(&none).unwrap_err());
        assert!(error.contains("is no result set") && !error.contains('\n'), "{error}");
        let error = format!("{:#}", Set::prepare(&none).unwrap_err());
        assert!(error.contains("cannot take results"), "{error}");
    }
}
