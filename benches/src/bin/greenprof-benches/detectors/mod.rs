//! Leak detectors beside each other, on the corpus of programs of which it is known what leaks.
//!
//! A [`Detector`] runs a program and says what it found. Those on greenprof's tasks are the entries of
//! `greenprof_demos::leaks::detector::DETECTORS`, to which one is added by implementing the trait there: it looks at the tasks of a
//! running program. Others, that bring programs of their own, implement the trait here: [`go`] is one.
//!
//! Each run is a process of its own, one at a time, so that the time of a look is the detector's.

mod go;
mod table;

use std::collections::BTreeMap;

use greenprof_benches::progress;
use greenprof_demos::leaks::{self, detector::DETECTORS, program::Kind, scene::Frame};
use indicatif::ProgressBar;

use crate::{
    go::Program,
    results::line::{Basis, Bound, Line},
};

pub(crate) use table::{explanation, text};

/// The section's name.
pub(crate) const NAME: &str = "detectors";

/// What a detector said of a program, summed over runs and forms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Judged {
    /// Tasks that were leaked.
    pub(crate) expected: f64,
    /// Those of them that were reported.
    pub(crate) found: f64,
    /// The same two of runs at the end of which no frame of the program was left.
    pub(crate) returned: (f64, f64),
    /// Tasks that were reported and can be woken.
    pub(crate) wrong: f64,
    /// Microseconds of a look, the median of the runs.
    pub(crate) micros: f64,
}

/// Something that finds leaked tasks or goroutines.
pub(crate) trait Detector {
    /// As rows have it.
    fn name(&self) -> &str;

    /// What it does, in a line.
    fn what(&self) -> String;

    /// Runs programs of the corpus so many times, and gives what it said, by their ids. It leaves out those that it does not have, and
    /// adds a sentence for each that was not what it should be.
    ///
    /// # Errors
    /// If nothing can be run at all.
    fn judge(&self, runs: usize, complaints: &mut Vec<String>) -> anyhow::Result<BTreeMap<String, Judged>>;
}

/// One of the demos' detectors. Its programs run in processes that are this program again: see `main`.
struct OnTasks(&'static leaks::detector::Entry);

/// The names under which they are in the report. The first is what the others are compared with.
const ON_TASKS: [(&str, &str); 4] =
    [("leak", "greenprof"), ("plain", "plain scan"), ("longer", "blocked longer"), ("unfinished", "unfinished at end")];

impl Detector for OnTasks {
    fn name(&self) -> &str {
        ON_TASKS.iter().find(|(id, _)| *id == self.0.name).map_or(self.0.name, |(_, name)| name)
    }

    fn what(&self) -> String {
        self.0.what.to_owned()
    }

    fn judge(&self, runs: usize, complaints: &mut Vec<String>) -> anyhow::Result<BTreeMap<String, Judged>> {
        let outcomes = leaks::judge(&leaks::Settings {
            programs: Vec::new(),
            runs: u32::try_from(runs)?,
            workers: Some(2),
            kinds: vec![Kind::Forced],
            frames: vec![Frame::Alive, Frame::Returned],
            detector: self.0.name,
            jobs: 1,
            floor: 0.0,
            why: false,
            sort: leaks::Sort::Json,
        })?;
        let mut all: BTreeMap<String, Judged> = BTreeMap::new();
        for outcome in outcomes {
            if let Some(defect) = &outcome.defect {
                complaints.push(format!("{}: {} was not what it should be: {defect}", self.name(), outcome.program));
            }
            let judged = all.entry(outcome.program.to_owned()).or_default();
            judged.expected += f64::from(outcome.expected);
            judged.found += f64::from(outcome.found);
            if outcome.frame == Frame::Returned {
                judged.returned.0 += f64::from(outcome.expected);
                judged.returned.1 += f64::from(outcome.found);
            }
            judged.wrong += f64::from(outcome.false_positives);
            judged.micros = judged.micros.max(outcome.micros as f64);
        }
        Ok(all)
    }
}

/// All detectors that can be run here.
fn detectors(go: Option<&Program>) -> Vec<Box<dyn Detector>> {
    let entries = ON_TASKS.iter().filter_map(|(id, _)| DETECTORS.iter().find(|entry| entry.name == *id));
    let mut all: Vec<Box<dyn Detector>> =
        entries.map(|entry| -> Box<dyn Detector> { Box::new(OnTasks(entry)) }).collect();
    all.extend(go.map(|program| -> Box<dyn Detector> { Box::new(go::Go::new(program)) }));
    all
}

/// Runs all programs with all detectors, and gives the rows of the report.
pub(crate) fn measure(
    go: Option<&Program>,
    runs: usize,
    quick: bool,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Line>> {
    let detectors = detectors(go);
    let progress: ProgressBar = progress::bar(detectors.len());
    let mut judged = Vec::new();
    for detector in &detectors {
        progress.set_message(format!("the corpus of leaks: {}", detector.name()));
        let mut complaints = Vec::new();
        judged.push((detector.name().to_owned(), detector.judge(runs, &mut complaints)?));
        notes.push(format!("{}: {}.", detector.name(), detector.what()));
        notes.extend(complaints.into_iter().map(|complaint| format!("{complaint}.")));
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(lines(&judged, runs, quick))
}

/// Which figure of a detector a row has.
const FOUND: &str = "leaks found";
const WRONG: &str = "false reports";
const COST: &str = "time of a look";
const RECALL: &str = "recall";
const RETURNED: &str = "recall, frame returned";
const PRECISION: &str = "precision";

/// Rows: for each program and detector what was found and what was reported wrongly; and for each detector precision and
/// recall of all its programs, and the time of a look. The first detector's figures stand beside each one's.
fn lines(judged: &[(String, BTreeMap<String, Judged>)], runs: usize, quick: bool) -> Vec<Line> {
    let Some((_, ours)) = judged.first() else { return Vec::new() };
    let mut lines = Vec::new();
    let mut add = |name: String, unit: &str, detector: &str, ours: Option<f64>, theirs: Option<f64>| {
        lines.push(Line {
            section: NAME.to_owned(),
            name,
            workers: 2,
            ours,
            peer: theirs,
            peer_name: detector.to_owned(),
            ratio: None,
            ratio_low: None,
            ratio_high: None,
            target: None,
            unit: unit.to_owned(),
            samples: runs,
            quick,
            verdict: None,
            ours_low: None,
            ours_high: None,
            bound: Bound::AtMost,
            basis: Basis::Nothing,
            error: None,
        });
    };
    for (detector, theirs) in judged {
        // Of the programs that it has.
        let common: Vec<(Judged, Judged)> =
            theirs.iter().filter_map(|(program, theirs)| Some((*ours.get(program)?, *theirs))).collect();
        let pick = |of: fn(&[Judged]) -> Option<f64>| {
            let (ours, theirs): (Vec<Judged>, Vec<Judged>) = common.iter().copied().unzip();
            (of(&ours), of(&theirs))
        };
        for (name, unit, of) in [
            (RECALL, "", recall as fn(&[Judged]) -> Option<f64>),
            (RETURNED, "", recall_returned),
            (PRECISION, "", precision),
            (COST, "us", cost),
        ] {
            let (ours, theirs) = pick(of);
            add(format!("{name}, {} programs", common.len()), unit, detector, ours, theirs);
        }
    }
    for program in ours.keys() {
        for (detector, theirs) in judged {
            let (Some(our), Some(their)) = (ours.get(program), theirs.get(program)) else { continue };
            let share = |judged: &Judged| recall(std::slice::from_ref(judged));
            add(format!("{program}: {FOUND}"), "", detector, share(our), share(their));
            let each = |judged: &Judged| Some(judged.wrong / runs as f64);
            add(format!("{program}: {WRONG}"), "", detector, each(our), each(their));
        }
    }
    lines
}

/// Of a set's rows, precision and recall of each detector as ratios, to be drawn.
pub(crate) fn shares(lines: &[Line]) -> Vec<Line> {
    let is_share =
        |line: &&Line| line.section == NAME && (line.name.starts_with(RECALL) || line.name.starts_with(PRECISION));
    let drawn = |line: &Line| Line { ratio: line.peer, ratio_low: line.peer, ratio_high: line.peer, ..line.clone() };
    lines.iter().filter(is_share).map(drawn).collect()
}

/// The mean of what there is.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Of the tasks that leak in a program, the share that was found, on average over those in which some do: a program of a thousand tasks
/// says no more than one of two.
fn recall(judged: &[Judged]) -> Option<f64> {
    mean(judged.iter().filter(|judged| judged.expected > 0.0).map(|judged| judged.found / judged.expected))
}

fn recall_returned(judged: &[Judged]) -> Option<f64> {
    let of_leaky = judged.iter().map(|judged| judged.returned).filter(|(expected, _)| *expected > 0.0);
    mean(of_leaky.map(|(expected, found)| found / expected))
}

/// Of the tasks that were reported in a program, the share that was leaked, on average over those in which some were.
fn precision(judged: &[Judged]) -> Option<f64> {
    let reported = judged.iter().filter(|judged| judged.found + judged.wrong > 0.0);
    mean(reported.map(|judged| judged.found / (judged.found + judged.wrong)))
}

/// The time of a look in the median program.
fn cost(judged: &[Judged]) -> Option<f64> {
    let times: Vec<f64> = judged.iter().map(|judged| judged.micros).collect();
    (!times.is_empty()).then(|| greenprof_benches::statistics::Summary::of(&times).median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(expected: f64, found: f64, wrong: f64) -> Judged {
        Judged { expected, found, returned: (0.0, 0.0), wrong, micros: 10.0 }
    }

    #[test]
    fn precision_and_recall() {
        let all = [judged(4.0, 3.0, 0.0), judged(0.0, 0.0, 1.0)];
        assert_eq!((recall(&all), precision(&all)), (Some(0.75), Some(0.5)));
        assert_eq!((recall(&all[1..]), precision(&all[1..])), (None, Some(0.0)));
        assert_eq!(recall_returned(&all), None);
        assert_eq!(recall_returned(&[Judged { returned: (2.0, 1.0), ..all[0] }]), Some(0.5));
        assert_eq!((recall(&[]), precision(&[judged(1.0, 0.0, 0.0)]), cost(&[])), (None, None, None));
    }

    #[test]
    fn a_detector_is_compared_on_the_programs_that_it_has() {
        let ours = BTreeMap::from([("a".to_owned(), judged(2.0, 2.0, 0.0)), ("b".to_owned(), judged(2.0, 0.0, 0.0))]);
        let theirs = BTreeMap::from([("a".to_owned(), judged(1.0, 0.0, 0.0))]);
        let lines = lines(&[("greenprof".to_owned(), ours), ("go".to_owned(), theirs)], 2, false);
        let find = |name: &str, peer: &str| lines.iter().find(|line| line.name == name && line.peer_name == peer);
        let recall = find("recall, 1 programs", "go").expect("a row");
        assert_eq!((recall.ours, recall.peer), (Some(1.0), Some(0.0)));
        let own = find("recall, 2 programs", "greenprof").expect("a row");
        assert_eq!((own.ours, own.peer), (Some(0.5), Some(0.5)));
        assert!(find("b: leaks found", "go").is_none() && find("b: leaks found", "greenprof").is_some());
    }

    #[test]
    fn every_detector_that_is_named_is_there() {
        assert_eq!(detectors(None).len(), ON_TASKS.len());
        assert_eq!(detectors(None)[0].name(), "greenprof");
    }
}
