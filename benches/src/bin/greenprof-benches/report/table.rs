//! The report for people.

use std::fmt::Write as _;

use super::line::{Line, MARGIN, Verdict};
use crate::sections;

const HEAD: [&str; 8] = ["workload", "W", "ours", "peer", "ratio", "interval", "target", "verdict"];

/// Columns whose text begins at the left; the others end at the right.
const LEFT: [bool; 8] = [true, false, false, false, false, true, false, true];

pub(super) fn render(lines: &[Line], notes: &[String], rounds: usize, quick: bool) -> String {
    let mut text = String::new();
    for section in sections::ALL {
        let rows: Vec<[String; 8]> = lines.iter().filter(|line| line.section == section.name).map(cells).collect();
        if rows.is_empty() {
            continue;
        }
        writeln!(text, "{}", section.title).expect("a string takes everything");
        table(&mut text, &rows);
        text.push('\n');
    }
    text.push_str(&explanation(rounds, quick));
    for note in notes {
        write!(text, "\n{note}").expect("a string takes everything");
    }
    text
}

/// The table of one section as Markdown.
pub(super) fn markdown(section: &str, lines: &[Line], notes: &[String], rounds: usize) -> String {
    let mut text = String::new();
    let mut row = |cells: [&str; 8]| {
        text.push_str("| ");
        text.push_str(&cells.join(" | "));
        text.push_str(" |\n");
    };
    row(HEAD);
    row(LEFT.map(|left| if left { "---" } else { "---:" }));
    for line in lines.iter().filter(|line| line.section == section) {
        row(cells(line).each_ref().map(String::as_str));
    }
    text.push('\n');
    text.push_str(&explanation(rounds, false));
    for note in notes {
        text.push('\n');
        text.push_str(note);
    }
    text
}

/// What the columns mean.
fn explanation(rounds: usize, quick: bool) -> String {
    let samples = if quick {
        format!("A quick run of {rounds} short samples: to look at, not to judge by.")
    } else {
        format!("Medians of {rounds} samples, each a process of its own.")
    };
    format!(
        "{samples} W: workers; ratio: of the medians; interval: of the ratios of one round.\n\
         met: ratio <= target, and the interval ends at most {0:.0} % above it. missed: ratio > target, and the interval \
         begins at most {0:.0} % below it. Otherwise not resolved.",
        MARGIN * 100.0
    )
}

fn cells(line: &Line) -> [String; 8] {
    let with_unit =
        |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{} {}", figure(value), line.unit));
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    [
        line.name.to_owned(),
        line.workers.to_string(),
        with_unit(line.ours),
        match line.peer {
            Some(peer) => format!("{} ({})", figure(peer), line.peer_name),
            None => format!("- ({})", line.peer_name),
        },
        ratio(line.ratio),
        match (line.ratio_low, line.ratio_high) {
            (Some(low), Some(high)) => format!("{low:.2}..{high:.2}"),
            _ => String::new(),
        },
        line.target.map_or(String::new(), |target| format!("{target:?}")),
        match line.verdict {
            Some(Verdict::Met) => "met",
            Some(Verdict::Missed) => "missed",
            Some(Verdict::NotResolved) => "not resolved",
            None => "",
        }
        .to_owned(),
    ]
}

/// Three digits, or all before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn table(text: &mut String, rows: &[[String; 8]]) {
    let widths: [usize; 8] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).chain([HEAD[column].len()]).max().unwrap_or(0)
    });
    let mut line = |cells: [&str; 8]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = widths[column];
            match LEFT[column] {
                true => write!(line, "{cell:<width$}  "),
                false => write!(line, "{cell:>width$}  "),
            }
            .expect("a string takes everything");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(HEAD);
    rows.iter().for_each(|row| line(std::array::from_fn(|column| row[column].as_str())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(peer: Option<f64>, verdict: Option<Verdict>) -> Line {
        Line {
            section: "scheduler",
            name: "yield_now",
            workers: 2,
            ours: Some(18.25),
            peer,
            peer_name: "go",
            ratio: peer.map(|peer| 18.25 / peer),
            ratio_low: peer.map(|_| 0.1),
            ratio_high: peer.map(|_| 0.25),
            target: Some(0.6),
            unit: "ns",
            samples: 5,
            quick: false,
            verdict,
        }
    }

    #[test]
    fn columns_are_aligned() {
        let text =
            render(&[line(Some(104.0), Some(Verdict::Met)), line(None, None)], &["A note.".to_owned()], 5, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "workload   W     ours      peer  ratio  interval    target  verdict");
        assert_eq!(lines[2], "yield_now  2  18.2 ns  104 (go)   0.18  0.10..0.25     0.6  met");
        assert_eq!(lines[3], "yield_now  2  18.2 ns    - (go)      -                 0.6");
        assert!(text.contains("Medians of 5 samples") && text.ends_with("\nA note."), "{text}");
    }

    #[test]
    fn markdown_has_the_rows_of_one_section() {
        let text = markdown("scheduler", &[line(Some(104.0), Some(Verdict::Met))], &["A note.".to_owned()], 5);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "| --- | ---: | ---: | ---: | ---: | --- | ---: | --- |");
        assert_eq!(lines[2], "| yield_now | 2 | 18.2 ns | 104 (go) | 0.18 | 0.10..0.25 | 0.6 | met |");
        assert!(text.ends_with("\nA note."));
        assert_eq!(markdown("heap", &[line(None, None)], &[], 5).lines().filter(|l| l.starts_with('|')).count(), 2);
    }

    #[test]
    fn a_quick_run_says_so() {
        assert!(render(&[line(None, None)], &[], 3, true).contains("A quick run of 3 short samples"));
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([4812.8, 643.2, 36.44, 4.125, 0.61].map(figure), ["4813", "643", "36.4", "4.12", "0.61"]);
    }
}
