//! The report for people.

use std::fmt::Write as _;

use crate::{
    columns::{self, Column},
    detectors,
    results::line::{Basis, Bound, Line, MARGIN, Verdict},
    sections::{self, Layout},
};

pub(crate) const OF_COSTS: [Column; 8] = [
    ("workload", true),
    ("W", false),
    ("ours", false),
    ("peer", false),
    ("ratio", false),
    ("interval", true),
    ("target", false),
    ("verdict", true),
];

const OF_ESTIMATES: [Column; 9] = [
    ("what", true),
    ("W", false),
    ("estimate", false),
    ("truth", false),
    ("bias", false),
    ("interval", true),
    ("error of one", false),
    ("target", false),
    ("verdict", true),
];

/// How many samples there were, and how good they are.
#[derive(Clone, Copy)]
pub(crate) struct Length {
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
}

pub(super) fn render(lines: &[Line], notes: &[String], length: Length) -> String {
    let mut text = String::new();
    let mut layouts = Vec::new();
    for section in sections::ALL {
        let lines: Vec<&Line> = lines.iter().filter(|line| line.section == section.name).collect();
        if lines.is_empty() {
            continue;
        }
        writeln!(text, "{}", section.title).expect("a string takes everything");
        match cells(section.layout, &lines) {
            Some((columns, rows)) => columns::aligned(&mut text, columns, &rows),
            None => text.push_str(&detectors::text(&lines, false)),
        }
        text.push('\n');
        if !layouts.contains(&section.layout) {
            layouts.push(section.layout);
        }
    }
    let runs = lines.iter().find(|line| line.section == detectors::NAME).map_or(0, |line| line.samples);
    let explanations: Vec<String> = layouts
        .iter()
        .map(|layout| match layout {
            Layout::Detectors => explanation(*layout, Length { rounds: runs, ..length }),
            _ => explanation(*layout, length),
        })
        .collect();
    text.push_str(&explanations.join("\n\n"));
    for note in notes {
        write!(text, "\n{note}").expect("a string takes everything");
    }
    text
}

/// The table of one section as Markdown.
pub(crate) fn markdown(section: &str, lines: &[Line], notes: &[String], length: Length) -> String {
    let layout = sections::ALL.iter().find(|known| known.name == section).map_or(Layout::Costs, |known| known.layout);
    let lines: Vec<&Line> = lines.iter().filter(|line| line.section == section).collect();
    let mut text = String::new();
    match cells(layout, &lines) {
        Some((columns, rows)) => columns::markdown(&mut text, columns, &rows),
        None => text.push_str(&detectors::text(&lines, true)),
    }
    text.push('\n');
    let length = match layout {
        // Theirs is another number of runs than that of the report's samples.
        Layout::Detectors => Length { rounds: lines.first().map_or(0, |line| line.samples), ..length },
        _ => length,
    };
    text.push_str(&explanation(layout, length));
    for note in notes {
        text.push('\n');
        text.push_str(note);
    }
    text
}

/// What the columns mean.
fn explanation(layout: Layout, Length { rounds, quick }: Length) -> String {
    let samples = if quick {
        format!("A quick run of {rounds} short samples: to look at, not to judge by.")
    } else {
        format!("Medians of {rounds} samples, each a process of its own.")
    };
    let margin = MARGIN * 100.0;
    match layout {
        Layout::Costs => format!(
            "{samples} Instructions are counted once. W: workers; ratio: of the medians; interval: of the ratios of one round.\n\
             met: ratio <= target, and the interval ends at most {margin:.0} % above it. missed: ratio > target, and the interval \
             begins at most {margin:.0} % below it. Otherwise not resolved. A target that begins with >= is met from the other side."
        ),
        Layout::Estimates => format!(
            "{samples} W: workers; bias: by how much the estimates of a sample are above the truth, on average; interval: of that \
             mean, by Student's distribution; error of one: how far a single measurement is from the truth (root of the mean square).\n\
             met: the bias is within the target, and so is its interval up to {margin:.0} % of the target. missed: neither is. \
             Otherwise not resolved."
        ),
        Layout::Detectors => detectors::explanation(rounds),
    }
}

/// Nothing for what is no table with a row for each line.
fn cells(layout: Layout, lines: &[&Line]) -> Option<(&'static [Column], Vec<Vec<String>>)> {
    match layout {
        Layout::Costs => Some((&OF_COSTS, lines.iter().map(|line| of_cost(line)).collect())),
        Layout::Estimates => Some((&OF_ESTIMATES, lines.iter().map(|line| of_estimate(line)).collect())),
        Layout::Detectors => None,
    }
}

/// A row of costs.
pub(crate) fn of_cost(line: &Line) -> Vec<String> {
    vec![
        line.name.clone(),
        line.workers.to_string(),
        with_unit(line.ours, &line.unit),
        match line.peer {
            Some(peer) => format!("{} ({})", figure(peer), line.peer_name),
            None => format!("- ({})", line.peer_name),
        },
        line.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        match (line.ratio_low, line.ratio_high) {
            (Some(low), Some(high)) => format!("{low:.2}..{high:.2}"),
            _ => String::new(),
        },
        line.target.map_or(String::new(), |target| match line.bound {
            Bound::AtMost => format!("{target:?}"),
            Bound::AtLeast => format!(">= {target:?}"),
            Bound::Within => format!("1 +- {target:?}"),
        }),
        verdict(line),
    ]
}

fn of_estimate(line: &Line) -> Vec<String> {
    let is_bias = line.basis == Basis::Truth;
    let off = |ratio: f64| format!("{:+.2} %", 100.0 * (ratio - 1.0));
    let relative = |ratio: f64| if is_bias { off(ratio) } else { format!("x {ratio:.2}") };
    vec![
        line.name.clone(),
        line.workers.to_string(),
        with_unit(line.ours, &line.unit),
        match line.peer {
            Some(peer) if is_bias => figure(peer),
            Some(peer) => format!("{} ({})", figure(peer), line.peer_name),
            None => "-".to_owned(),
        },
        line.ratio.map_or("-".to_owned(), relative),
        match (line.ratio_low, line.ratio_high) {
            (Some(low), Some(high)) => format!("{}..{}", relative(low), relative(high)),
            _ => String::new(),
        },
        line.error.map_or(String::new(), |error| format!("{:.2} %", 100.0 * error)),
        line.target.map_or(String::new(), |target| match line.bound {
            Bound::AtMost => format!("<= x {target:?}"),
            Bound::AtLeast => format!(">= x {target:?}"),
            Bound::Within => format!("+- {} %", figure(100.0 * target)),
        }),
        verdict(line),
    ]
}

fn with_unit(value: Option<f64>, unit: &str) -> String {
    value.map_or("-".to_owned(), |value| format!("{} {unit}", figure(value)).trim_end().to_owned())
}

fn verdict(line: &Line) -> String {
    match line.verdict {
        Some(Verdict::Met) => "met",
        Some(Verdict::Missed) => "missed",
        Some(Verdict::NotResolved) => "not resolved",
        None => "",
    }
    .to_owned()
}

/// Three digits, or all before the point.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        // Down to a millionth.
        size => format!("{value:.*}", ((2.0 - size.log10().floor()) as usize).min(8)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Length = Length { rounds: 5, quick: false };

    fn line(peer: Option<f64>, verdict: Option<Verdict>) -> Line {
        Line {
            section: "scheduler".to_owned(),
            name: "yield_now".to_owned(),
            workers: 2,
            ours: Some(18.25),
            peer,
            peer_name: "go".to_owned(),
            ratio: peer.map(|peer| 18.25 / peer),
            ratio_low: peer.map(|_| 0.1),
            ratio_high: peer.map(|_| 0.25),
            target: Some(0.6),
            unit: "ns".to_owned(),
            samples: 5,
            quick: false,
            verdict,
            ours_low: Some(18.0),
            ours_high: Some(19.0),
            bound: Bound::AtMost,
            basis: Basis::Measured,
            error: None,
        }
    }

    #[test]
    fn columns_are_aligned() {
        let text = render(&[line(Some(104.0), Some(Verdict::Met)), line(None, None)], &["A note.".to_owned()], LENGTH);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "workload   W     ours      peer  ratio  interval    target  verdict");
        assert_eq!(lines[2], "yield_now  2  18.2 ns  104 (go)   0.18  0.10..0.25     0.6  met");
        assert_eq!(lines[3], "yield_now  2  18.2 ns    - (go)      -                 0.6");
        assert!(text.contains("Medians of 5 samples") && text.ends_with("\nA note."), "{text}");
    }

    #[test]
    fn markdown_has_the_rows_of_one_section() {
        let text = markdown("scheduler", &[line(Some(104.0), Some(Verdict::Met))], &["A note.".to_owned()], LENGTH);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "| --- | ---: | ---: | ---: | ---: | --- | ---: | --- |");
        assert_eq!(lines[2], "| yield_now | 2 | 18.2 ns | 104 (go) | 0.18 | 0.10..0.25 | 0.6 | met |");
        assert!(text.ends_with("\nA note."));
        let other = markdown("heap", &[line(None, None)], &[], LENGTH);
        assert_eq!(other.lines().filter(|line| line.starts_with('|')).count(), 2);
    }

    #[test]
    fn estimates_are_shown_with_their_bias() {
        let estimate = Line {
            ours: Some(102.0),
            peer: Some(100.0),
            ratio: Some(1.02),
            ratio_low: Some(0.995),
            ratio_high: Some(1.031),
            target: Some(0.05),
            bound: Bound::Within,
            basis: Basis::Truth,
            error: Some(0.017),
            ..line(None, Some(Verdict::Met))
        };
        let shown = "yield_now|2|102 ns|100|+2.00 %|-0.50 %..+3.10 %|1.70 %|+- 5.00 %|met";
        assert_eq!(of_estimate(&estimate).join("|"), shown);
    }

    #[test]
    fn a_quick_run_says_so() {
        let length = Length { rounds: 3, quick: true };
        assert!(render(&[line(None, None)], &[], length).contains("A quick run of 3 short samples"));
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([4812.8, 643.2, 36.44, 4.125, 0.61].map(figure), ["4813", "643", "36.4", "4.12", "0.61"]);
        assert_eq!([0.0123, 0.00456, -0.05, 0.0].map(figure), ["0.0123", "0.00456", "-0.0500", "0.00"]);
    }
}
