//! Two result sets against each other: which differences are real, which are not resolved, and what only one of them has.
//!
//! A difference is real if the two intervals do not overlap. Each covers its median with 95 %, so that both miss such that it
//! looks real by chance is rarer than one in 20, but in some hundred rows it happens: a single difference that nothing
//! explains is to be measured again. Quick rows, and those of few samples, are never called different.
//!
//! Compared are the ratios to what was measured beside ours, or to the truth. On one machine ours are compared by
//! themselves, too.

use std::{collections::HashSet, fmt::Write as _, path::PathBuf};

use serde::Serialize;

use crate::{
    columns::{self, Column},
    detectors,
    report::{FEWEST, table::figure},
    results::{
        Set,
        line::{Basis, Line},
    },
    sections,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The older set: a folder that `report --results` has written, its rows.csv, or what `report --json` has printed
    old: PathBuf,
    /// The newer one
    new: PathBuf,
    /// Print a line of JSON for each comparison instead of a table
    #[arg(long)]
    json: bool,
}

/// What of a row is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Figure {
    Ratio,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Finding {
    #[serde(rename = "higher")]
    Higher,
    #[serde(rename = "lower")]
    Lower,
    #[serde(rename = "not resolved")]
    NotResolved,
    #[serde(rename = "only old")]
    OnlyOld,
    #[serde(rename = "only new")]
    OnlyNew,
    /// The peer is missing on one side, or the machines differ and the row has no ratio.
    #[serde(rename = "not comparable")]
    NotComparable,
}

impl Finding {
    const ALL: [Self; 6] =
        [Self::Higher, Self::Lower, Self::NotResolved, Self::OnlyOld, Self::OnlyNew, Self::NotComparable];

    fn words(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::NotResolved => "not resolved",
            Self::OnlyOld => "only old",
            Self::OnlyNew => "only new",
            Self::NotComparable => "not comparable",
        }
    }
}

/// A figure and its interval, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Measured {
    figure: f64,
    low: Option<f64>,
    high: Option<f64>,
}

/// A row of both sets, or of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Comparison {
    section: String,
    name: String,
    workers: usize,
    peer_name: String,
    unit: String,
    figure: Figure,
    old: Option<Measured>,
    new: Option<Measured>,
    /// The new figure divided by the old one.
    change: Option<f64>,
    finding: Finding,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<String> {
    let (old, new) = (Set::read(&options.old)?, Set::read(&options.new)?);
    let comparisons = compare(&old, &new);
    let notes = notes(&old, &new);
    if options.json {
        notes.iter().for_each(|note| eprintln!("{note}"));
        let lines: Result<Vec<String>, _> = comparisons.iter().map(serde_json::to_string).collect();
        return Ok(lines?.join("\n"));
    }
    Ok(render(&comparisons, &notes))
}

/// Whether a section was measured on one machine both times, as far as is known.
fn same_machine(old: &Set, new: &Set, section: &str) -> bool {
    let both = old.runs.get(section).zip(new.runs.get(section));
    both.is_some_and(|(old, new)| old.machine.is_like(&new.machine))
}

fn is_of_detector(line: &Line) -> bool {
    line.section == detectors::NAME
}

/// All rows of both, in the order of the old one; what only the new one has comes last.
fn compare(old: &Set, new: &Set) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    // Rows that differ in their peer only have the same value of ours.
    let mut values = HashSet::new();
    for line in &old.lines {
        let Some(other) = new.lines.iter().find(|other| other.key() == line.key()) else {
            comparisons.push(of_one(line, Finding::OnlyOld));
            continue;
        };
        // What a detector finds does not depend on it.
        let is_same = is_of_detector(line) || same_machine(old, new, &line.section);
        let is_relative = matches!(line.basis, Basis::Measured | Basis::Truth);
        if is_relative {
            comparisons.push(of_both(line, other, Figure::Ratio));
        }
        // Without a ratio the value is all that there is; an estimate says nothing without its truth.
        if line.basis != Basis::Truth
            && is_same
            && (is_of_detector(line) || values.insert((&line.section, &line.name, line.workers, &line.unit)))
        {
            comparisons.push(of_both(line, other, Figure::Value));
        } else if !is_relative && !is_same {
            comparisons.push(Comparison {
                finding: Finding::NotComparable,
                change: None,
                ..of_both(line, other, Figure::Value)
            });
        }
    }
    let only_new = new.lines.iter().filter(|line| old.lines.iter().all(|other| other.key() != line.key()));
    comparisons.extend(only_new.map(|line| of_one(line, Finding::OnlyNew)));
    comparisons
}

impl Measured {
    fn of(line: &Line, figure: Figure) -> Option<Self> {
        Some(match figure {
            Figure::Ratio => Self { figure: line.ratio?, low: line.ratio_low, high: line.ratio_high },
            // A detector's figure stands for itself. Chance has other ways with it than an interval of medians says.
            Figure::Value if is_of_detector(line) => Self { figure: line.peer?, low: None, high: None },
            Figure::Value => Self { figure: line.ours?, low: line.ours_low, high: line.ours_high },
        })
    }

    /// Whether the whole interval is above that of the other.
    fn is_above(self, other: Self) -> bool {
        self.low.zip(other.high).is_some_and(|(low, high)| low > high)
    }
}

fn of_both(old: &Line, new: &Line, figure: Figure) -> Comparison {
    let (before, after) = (Measured::of(old, figure), Measured::of(new, figure));
    let is_enough = [old, new].iter().all(|line| line.samples >= FEWEST && !line.quick);
    let finding = match before.zip(after) {
        None => Finding::NotComparable,
        Some((before, after)) if is_enough && after.is_above(before) => Finding::Higher,
        Some((before, after)) if is_enough && before.is_above(after) => Finding::Lower,
        Some(_) => Finding::NotResolved,
    };
    let change = before.zip(after).map(|(before, after)| after.figure / before.figure);
    Comparison {
        old: before,
        new: after,
        change: change.filter(|change| change.is_finite()),
        finding,
        figure,
        ..of_one(old, finding)
    }
}

/// A row that has no counterpart.
fn of_one(line: &Line, finding: Finding) -> Comparison {
    let figure =
        if line.basis == Basis::Measured || line.basis == Basis::Truth { Figure::Ratio } else { Figure::Value };
    let measured = Measured::of(line, figure);
    let (old, new) = if finding == Finding::OnlyNew { (None, measured) } else { (measured, None) };
    Comparison {
        section: line.section.clone(),
        name: line.name.clone(),
        workers: line.workers,
        peer_name: line.peer_name.clone(),
        unit: line.unit.clone(),
        figure,
        old,
        new,
        change: None,
        finding,
    }
}

/// What differs between how the two were measured. What holds for several sections is said once.
fn notes(old: &Set, new: &Set) -> Vec<String> {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    let mut say = |note: String, section| match notes.iter_mut().find(|(known, _)| *known == note) {
        Some((_, sections)) => sections.push(section),
        None => notes.push((note, vec![section])),
    };
    let has = |set: &Set, name: &str| set.lines.iter().any(|line| line.section == name);
    for name in sections::ALL.map(|section| section.name).into_iter().filter(|name| has(old, name) && has(new, name)) {
        let Some((before, after)) = old.runs.get(name).zip(new.runs.get(name)) else {
            say("It is not known on which machines both were measured: only ratios are compared".to_owned(), name);
            continue;
        };
        if !before.machine.is_like(&after.machine) {
            say(
                format!("Different machines, so only ratios are compared: {}; and {}", before.machine, after.machine),
                name,
            );
        } else if before.machine.kernel != after.machine.kernel {
            say(format!("Different kernels: {} and {}", before.machine.kernel, after.machine.kernel), name);
        }
        if before.build != after.build {
            say(format!("A {} build and a {} build", before.build, after.build), name);
        }
        if before.rustc != after.rustc {
            say(format!("Different compilers: {} and {}", before.rustc, after.rustc), name);
        }
        if let Some((before, after)) =
            before.go.as_ref().zip(after.go.as_ref()).filter(|(before, after)| before != after)
        {
            say(format!("Different Go: {before} and {after}"), name);
        }
        say(
            format!("Old: {}, commit {}; new: {}, commit {}", before.date, before.commit, after.date, after.commit),
            name,
        );
        if before.quick || after.quick {
            say("A quick run is not judged by: nothing is called different".to_owned(), name);
        }
    }
    notes.into_iter().map(|(note, sections)| format!("{note} ({}).", sections.join(", "))).collect()
}

const COLUMNS: [Column; 10] = [
    ("row", true),
    ("W", false),
    ("against", true),
    ("of", true),
    ("old", false),
    ("interval", true),
    ("new", false),
    ("interval", true),
    ("new / old", false),
    ("difference", true),
];

fn render(comparisons: &[Comparison], notes: &[String]) -> String {
    let mut text = String::new();
    let mut names: Vec<&str> = Vec::new();
    for comparison in comparisons {
        if !names.contains(&comparison.section.as_str()) {
            names.push(&comparison.section);
        }
    }
    for name in names {
        let rows: Vec<Vec<String>> =
            comparisons.iter().filter(|comparison| comparison.section == name).map(Comparison::cells).collect();
        let title = sections::ALL.iter().find(|section| section.name == name).map_or(name, |section| section.title);
        let _ = writeln!(text, "{title}");
        columns::aligned(&mut text, &COLUMNS, &rows);
        text.push('\n');
    }
    let counts: Vec<String> = Finding::ALL
        .into_iter()
        .map(|finding| (finding, comparisons.iter().filter(|comparison| comparison.finding == finding).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(finding, count)| format!("{count} {}", finding.words()))
        .collect();
    let _ = write!(
        text,
        "{}. higher, lower: the two 95 % intervals do not overlap. Otherwise not resolved, as is what \
         is quick, has no interval, or has fewer than {FEWEST} samples.",
        counts.join(", ")
    );
    for note in notes {
        let _ = write!(text, "\n{note}");
    }
    text
}

impl Comparison {
    fn cells(&self) -> Vec<String> {
        let shown = |value: f64| match self.figure {
            Figure::Ratio => format!("{value:.2}"),
            Figure::Value => figure(value),
        };
        let unit = if self.figure == Figure::Value { self.unit.as_str() } else { "" };
        let of = |measured: Option<Measured>| {
            measured.map_or_else(|| "-".to_owned(), |it| format!("{} {unit}", shown(it.figure)).trim_end().to_owned())
        };
        let interval = |measured: Option<Measured>| {
            let ends = measured.and_then(|it| it.low.zip(it.high));
            ends.map_or_else(String::new, |(low, high)| format!("{}..{}", shown(low), shown(high)))
        };
        vec![
            self.name.clone(),
            self.workers.to_string(),
            if self.figure == Figure::Ratio || self.section == detectors::NAME {
                self.peer_name.clone()
            } else {
                String::new()
            },
            match self.figure {
                Figure::Ratio => "ratio",
                Figure::Value if self.section == detectors::NAME => "its own",
                Figure::Value => "ours",
            }
            .to_owned(),
            of(self.old),
            interval(self.old),
            of(self.new),
            interval(self.new),
            self.change.map_or_else(String::new, |change| format!("{change:.3}")),
            self.finding.words().to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use proptest::prelude::*;

    use super::*;
    use crate::results::{
        machine::{Machine, Run, tests::run},
        tests::line,
    };

    fn set(lines: &[Line], cpu: &str) -> Set {
        let machine = Machine { cpu: cpu.to_owned(), ..run().machine };
        let runs = lines.iter().map(|line| (line.section.clone(), Run { machine: machine.clone(), ..run() })).collect();
        Set { runs, lines: lines.to_vec() }
    }

    fn findings(old: &Set, new: &Set) -> Vec<(Figure, Finding)> {
        compare(old, new).iter().map(|comparison| (comparison.figure, comparison.finding)).collect()
    }

    #[test]
    fn intervals_that_do_not_overlap_are_a_difference() {
        let old = set(&[line("heap", "a", [0.9, 1.0, 1.1])], "x");
        for (ratio, finding) in [
            ([1.11, 1.2, 1.3], Finding::Higher),
            ([0.5, 0.6, 0.89], Finding::Lower),
            ([1.1, 1.2, 1.3], Finding::NotResolved),
            ([0.1, 1.0, 9.0], Finding::NotResolved),
        ] {
            let new = set(&[line("heap", "a", ratio)], "x");
            assert_eq!(findings(&old, &new), [(Figure::Ratio, finding), (Figure::Value, finding)]);
        }
    }

    #[test]
    fn on_other_machines_only_ratios_count() {
        let (low, high) = ([0.9, 1.0, 1.1], [1.9, 2.0, 2.1]);
        let alone = |ratio| Line { basis: Basis::Nothing, ratio: None, ..line("heap", "alone", ratio) };
        let old = set(&[line("heap", "a", low), alone(low)], "x");
        let new = set(&[line("heap", "a", high), alone(high)], "y");
        assert_eq!(findings(&old, &new), [(Figure::Ratio, Finding::Higher), (Figure::Value, Finding::NotComparable)]);
        let text = render(&compare(&old, &new), &notes(&old, &new));
        assert!(text.contains("Different machines, so only ratios are compared: x, 2 cores"), "{text}");
        let unknown = Set { runs: Default::default(), ..new };
        assert!(notes(&old, &unknown)[0].contains("not known"), "{:?}", notes(&old, &unknown));
        assert_eq!(findings(&old, &unknown)[0], (Figure::Ratio, Finding::Higher));
    }

    #[test]
    fn what_is_quick_or_has_few_samples_is_not_judged() {
        let (old, new) = (line("heap", "a", [0.9, 1.0, 1.1]), line("heap", "a", [1.9, 2.0, 2.1]));
        let quick = set(&[Line { quick: true, ..new.clone() }], "x");
        let few = set(&[Line { samples: 4, ..new }], "x");
        for new in [quick, few] {
            assert!(
                findings(&set(slice::from_ref(&old), "x"), &new).iter().all(|found| found.1 == Finding::NotResolved)
            );
        }
    }

    #[test]
    fn a_value_is_compared_once_whoever_stands_beside_it() {
        let go = line("heap", "a", [0.9, 1.0, 1.1]);
        let tokio = Line { peer_name: "tokio".to_owned(), ..go.clone() };
        let both = set(&[go, tokio], "x");
        let figures: Vec<Figure> = findings(&both, &both).iter().map(|found| found.0).collect();
        assert_eq!(figures, [Figure::Ratio, Figure::Value, Figure::Ratio]);
    }

    #[test]
    fn detectors_are_shown_beside_themselves_and_not_judged() {
        let row = |found, detector: &str| Line {
            peer: Some(found),
            peer_name: detector.to_owned(),
            basis: Basis::Nothing,
            ratio: None,
            ..line(detectors::NAME, "recall", [1.0, 1.0, 1.0])
        };
        let old = set(&[row(0.9, "greenprof"), row(0.8, "go")], "x");
        let new = set(&[row(0.9, "greenprof"), row(0.4, "go")], "x");
        let compared = compare(&old, &new);
        assert_eq!(compared.iter().map(|it| it.change).collect::<Vec<_>>(), [Some(1.0), Some(0.5)]);
        assert!(compared.iter().all(|it| it.finding == Finding::NotResolved));
        assert!(render(&compared, &[]).contains("go         its own"), "{}", render(&compared, &[]));
    }

    #[test]
    fn the_table_is_aligned_and_sums_up() {
        let old = set(&[line("heap", "a row", [0.9, 1.0, 1.1]), line("heap", "gone", [1.0, 1.0, 1.0])], "x");
        let new = set(&[line("heap", "a row", [1.9, 2.0, 2.1]), line("heap", "new", [1.0, 1.0, 1.0])], "x");
        let text = render(&compare(&old, &new), &notes(&old, &new));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "row    W  against  of         old  interval        new  interval    new / old  difference"
        );
        assert_eq!(lines[2], "a row  2  go       ratio     1.00  0.90..1.10     2.00  1.90..2.10      2.000  higher");
        assert_eq!(lines[3], "a row  2           ours   10.0 ns  9.00..11.0  20.0 ns  19.0..21.0      2.000  higher");
        assert!(text.contains("2 higher, 1 only old, 1 only new."), "{text}");
    }

    prop_compose! {
        fn some_line()(
            name in 0..6_u8,
            ends in [0.01..10.0_f64, 0.01..10.0, 0.01..10.0],
            samples in 3..12_usize,
            basis in 0..3_u8,
        ) -> Line {
            let mut ends = ends;
            ends.sort_by(f64::total_cmp);
            let basis = [Basis::Measured, Basis::Truth, Basis::Nothing][usize::from(basis)];
            Line { samples, basis, ..line("heap", &name.to_string(), ends) }
        }
    }

    /// Rows of different names.
    fn some_set() -> impl Strategy<Value = Set> {
        prop::collection::vec(some_line(), 0..6).prop_map(|mut lines| {
            let mut seen = HashSet::new();
            lines.retain(|line| seen.insert(line.name.clone()));
            set(&lines, "x")
        })
    }

    proptest! {
        #[test]
        fn nothing_differs_from_itself(set in some_set()) {
            prop_assert!(findings(&set, &set).iter().all(|found| found.1 == Finding::NotResolved || found.1 == Finding::NotComparable));
        }

        #[test]
        fn seen_from_the_other_side_it_is_the_opposite(old in some_set(), mut new in some_set()) {
            for line in &mut new.lines {
                if let Some(other) = old.lines.iter().find(|other| other.name == line.name) {
                    line.basis = other.basis;
                }
            }
            let opposite = |finding| match finding {
                Finding::Higher => Finding::Lower,
                Finding::Lower => Finding::Higher,
                Finding::OnlyOld => Finding::OnlyNew,
                Finding::OnlyNew => Finding::OnlyOld,
                other => other,
            };
            let there = compare(&old, &new);
            let back = compare(&new, &old);
            prop_assert_eq!(there.len(), back.len());
            for comparison in there {
                let same = |other: &&Comparison| other.name == comparison.name && other.figure == comparison.figure;
                let mirrored = back.iter().find(same).expect("every row is in both");
                prop_assert_eq!(mirrored.finding, opposite(comparison.finding));
                prop_assert_eq!((mirrored.old, mirrored.new), (comparison.new, comparison.old));
            }
        }

        #[test]
        fn no_row_is_left_out(old in some_set(), new in some_set()) {
            let names = |set: &Set| set.lines.iter().map(|line| line.name.clone()).collect::<HashSet<_>>();
            let all: HashSet<String> = names(&old).union(&names(&new)).cloned().collect();
            let compared: HashSet<String> = compare(&old, &new).into_iter().map(|comparison| comparison.name).collect();
            prop_assert_eq!(all, compared);
        }

        #[test]
        fn a_difference_has_intervals_apart_on_enough_samples(old in some_line(), new in some_line()) {
            let new = Line { name: old.name.clone(), basis: old.basis, ..new };
            for comparison in compare(&set(slice::from_ref(&old), "x"), &set(slice::from_ref(&new), "x")) {
                if matches!(comparison.finding, Finding::Higher | Finding::Lower) {
                    let (before, after) = (comparison.old.unwrap(), comparison.new.unwrap());
                    prop_assert!(before.high.unwrap() < after.low.unwrap() || after.high.unwrap() < before.low.unwrap());
                    prop_assert!(old.samples >= FEWEST && new.samples >= FEWEST);
                }
            }
        }
    }
}
