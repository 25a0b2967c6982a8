//! The rows of the detectors as tables: one of sums, and one with a row for each program and a column for each detector.

use std::fmt::Write as _;

use super::{FOUND, WRONG};
use crate::{columns, report::table::figure, results::line::Line};

/// Writes a table: columns with their alignment, and rows.
type Writer = fn(&mut String, &[(&str, bool)], &[Vec<String>]);

/// Both tables, aligned or as Markdown.
pub(crate) fn text(lines: &[&Line], is_markdown: bool) -> String {
    let write: Writer = if is_markdown {
        |text, columns, rows| columns::markdown(text, columns, rows)
    } else {
        |text, columns, rows| columns::aligned(text, columns, rows)
    };
    let mut text = String::new();
    let (programs, sums): (Vec<&Line>, Vec<&Line>) = lines.iter().copied().partition(|line| line.name.contains(": "));
    let rows: Vec<Vec<String>> = sums
        .iter()
        .map(|line| {
            let shown = |value: Option<f64>| {
                value.map_or_else(
                    || "-".to_owned(),
                    |value| format!("{} {}", figure(value), line.unit).trim_end().to_owned(),
                )
            };
            vec![line.peer_name.clone(), line.name.clone(), shown(line.peer), shown(line.ours)]
        })
        .collect();
    write(&mut text, &[("detector", true), ("of", true), ("it", false), ("greenprof, on the same", false)], &rows);
    text.push('\n');

    let mut detectors: Vec<&str> = Vec::new();
    for line in &programs {
        if !detectors.contains(&line.peer_name.as_str()) {
            detectors.push(&line.peer_name);
        }
    }
    let columns: Vec<(&str, bool)> =
        [("program", true)].into_iter().chain(detectors.iter().map(|name| (*name, false))).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for line in &programs {
        let Some((id, FOUND)) = line.name.split_once(": ") else { continue };
        if rows.last().is_some_and(|row| row[0] == id) {
            continue;
        }
        let get = |detector: &str, what: &str| {
            let name = format!("{id}: {what}");
            programs.iter().find(|line| line.name == name && line.peer_name == detector)
        };
        let cell = |detector: &&str| {
            let (Some(found), wrong) = (get(detector, FOUND), get(detector, WRONG)) else { return "".to_owned() };
            let found = found.peer.map(|share| format!("{:.0} %", 100.0 * share));
            let wrong = wrong.and_then(|line| line.peer).filter(|wrong| *wrong > 0.0);
            match (found, wrong) {
                (None, None) => "ok".to_owned(),
                (Some(found), None) => found,
                (found, Some(wrong)) => {
                    let found = found.map_or_else(String::new, |found| format!("{found}, "));
                    format!("{found}{} wrong", figure(wrong))
                }
            }
        };
        rows.push([id.to_owned()].into_iter().chain(detectors.iter().map(cell)).collect());
    }
    write(&mut text, &columns, &rows);
    text
}

/// What they mean.
pub(crate) fn explanation(runs: usize) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "{runs} runs of each program's forced forms, with the frame that made everything alive and returned. Of each program: the \
         share of the leaked tasks that were reported, and how many others were reported in a run; ok: nothing leaks, and nothing was \
         reported; empty: the detector does not have it. recall: the mean share of the leaked tasks of a program that was reported; precision: the mean share of those \
         reported that was leaked; time of a look: of the median program, and in greenprof's of the slower of its forms."
    );
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{Judged, lines},
        *,
    };

    #[test]
    fn every_program_has_a_row_and_every_detector_a_column() {
        let judged = |expected, found, wrong| Judged { expected, found, returned: (0.0, 0.0), wrong, micros: 5.0 };
        let ours = BTreeMap::from([
            ("a/leaky".to_owned(), judged(2.0, 2.0, 0.0)),
            ("b/sound".to_owned(), judged(0.0, 0.0, 0.0)),
        ]);
        let theirs = BTreeMap::from([("b/sound".to_owned(), judged(0.0, 0.0, 2.0))]);
        let lines = lines(&[("greenprof".to_owned(), ours), ("other".to_owned(), theirs)], 2, false);
        let text = text(&lines.iter().collect::<Vec<_>>(), true);
        assert!(text.contains("| program | greenprof | other |"), "{text}");
        assert!(text.contains("| a/leaky | 100 % |  |") && text.contains("| b/sound | ok | 1.00 wrong |"), "{text}");
        assert!(text.contains("| other | precision, 1 programs | 0.00 | - |"), "{text}");
    }
}
