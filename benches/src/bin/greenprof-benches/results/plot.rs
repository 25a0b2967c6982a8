//! A section as a picture: each row's ratio as a dot, its interval as a line, and the target as a bar or a band.

use std::{ops::RangeInclusive, path::Path};

use anyhow::Context;
use plotters::{
    coord::Shift,
    prelude::{
        Circle, DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend,
        Text, TextStyle, WHITE,
    },
    style::{
        Color as _,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::line::{Basis, Bound, Line, Verdict};

const WIDTH: i32 = 1000;
/// Where the names end and the scale begins.
const LEFT: i32 = 480;
const RIGHT: i32 = WIDTH - 30;
const TOP: i32 = 56;
const ROW: i32 = 18;
const BOTTOM: i32 = 40;

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(221, 221, 221);
const TARGET: RGBColor = RGBColor(120, 120, 120);
// Told apart by who does not see red and green, too.
const MET: RGBColor = RGBColor(0, 114, 178);
const MISSED: RGBColor = RGBColor(213, 94, 0);
const OPEN: RGBColor = RGBColor(150, 150, 150);

/// Draws the rows that have a ratio above nothing; says whether there are any. Where there are estimates, only those are drawn that stand
/// beside the truth: chi-squares, which can be a thousandth of their limit, would press all others into one line.
pub(super) fn draw(path: &Path, title: &str, lines: &[&Line]) -> anyhow::Result<bool> {
    let has_truth = lines.iter().any(|line| line.basis == Basis::Truth);
    let rows: Vec<(&Line, [f64; 3])> = lines
        .iter()
        .filter_map(|line| Some((*line, [line.ratio_low?, line.ratio?, line.ratio_high?])))
        .filter(|(_, ratio)| ratio.iter().all(|ratio| *ratio > 0.0))
        .filter(|(line, _)| line.basis == Basis::Truth || !has_truth)
        .collect();
    if rows.is_empty() {
        return Ok(false);
    }
    let height = TOP + ROW * rows.len() as i32 + BOTTOM;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    let drawn = picture(&area, title, &rows, height).and_then(|()| Ok(area.present()?));
    // Its errors have lifetimes of their own.
    drawn
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("{} could not be drawn", path.display()))?;
    Ok(true)
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn picture<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    rows: &[(&Line, [f64; 3])],
    height: i32,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let scale = Scale::of(rows);
    let text = |size: i32, horizontal, vertical| -> TextStyle<'static> {
        ("sans-serif", size).into_font().color(&INK).pos(Pos::new(horizontal, vertical))
    };
    area.draw(&Text::new(title.to_owned(), (LEFT, 8), text(18, HPos::Center, VPos::Top)))?;
    let bottom = height - BOTTOM;
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let color = if tick == 1.0 { TARGET } else { GRID };
        area.draw(&PathElement::new([(x, TOP - 6), (x, bottom)], color))?;
        area.draw(&Text::new(format!("{tick}"), (x, bottom + 6), text(12, HPos::Center, VPos::Top)))?;
    }
    for (at, (line, [low, ratio, high])) in rows.iter().enumerate() {
        let y = TOP + ROW * at as i32 + ROW / 2;
        let name = match line.basis {
            Basis::Nothing => format!("{}: {}", line.peer_name, line.name),
            _ => format!("{}, W {}, to {}", line.name, line.workers, line.peer_name),
        };
        area.draw(&Text::new(name, (LEFT - 10, y), text(12, HPos::Right, VPos::Center)))?;
        if let Some(range) = target(line) {
            let (from, to) = (scale.x(*range.start()), scale.x(*range.end()));
            let style = TARGET.mix(if from == to { 1.0 } else { 0.2 }).filled();
            area.draw(&Rectangle::new([(from - 1, y - 7), (to + 1, y + 7)], style))?;
        }
        let color = match line.verdict {
            Some(Verdict::Met) => MET,
            Some(Verdict::Missed) => MISSED,
            Some(Verdict::NotResolved) | None => OPEN,
        };
        area.draw(&PathElement::new([(scale.x(*low), y), (scale.x(*high), y)], color.stroke_width(2)))?;
        area.draw(&Circle::new((scale.x(*ratio), y), 4, color.filled()))?;
    }
    let legend = "dot: ratio; line: 95 % interval; grey: target; blue: met, orange: missed, grey: not resolved or without a target";
    area.draw(&Text::new(legend, (RIGHT, height - 6), text(11, HPos::Right, VPos::Bottom)))?;
    Ok(())
}

/// Where the target is shown: the bar that must not be crossed, or the band that must not be left.
fn target(line: &Line) -> Option<RangeInclusive<f64>> {
    let target = line.target?;
    Some(match line.bound {
        Bound::AtMost | Bound::AtLeast => target..=target,
        Bound::Within => 1.0 - target..=1.0 + target,
    })
}

/// Ratios from left to right, in equal steps where they are close to each other, and otherwise by their logarithms.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(rows: &[(&Line, [f64; 3])]) -> Self {
        let targets = rows.iter().filter_map(|(line, _)| target(line)).flat_map(|range| [*range.start(), *range.end()]);
        let all = rows.iter().flat_map(|(_, ratio)| *ratio).chain(targets).chain([1.0]).filter(|value| *value > 0.0);
        let (low, high) = all.fold((1.0_f64, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if high / low > 3.0 {
            return Self { low: low / 1.2, high: high * 1.2, logarithmic: true };
        }
        let room = 0.05 * (high - low).max(0.02);
        Self { low: low - room, high: high + room, logarithmic: false }
    }

    fn x(self, value: f64) -> i32 {
        let value = value.clamp(self.low, self.high);
        let share = match self.logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        LEFT + (share * f64::from(RIGHT - LEFT)).round() as i32
    }

    /// Round numbers, some five to ten of them. 1 is one.
    fn ticks(self) -> Vec<f64> {
        let round = |value: f64| (value * 1e9).round() / 1e9;
        let inside = |tick: &f64| (self.low..=self.high).contains(tick);
        if self.logarithmic {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let wide = self.high / self.low > 3e3;
            let steps: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
            return ticks.map(round).filter(inside).collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(power);
        let first = ((self.low - 1.0) / step).ceil() as i32;
        let last = ((self.high - 1.0) / step).floor() as i32;
        (first..=last).map(|count| round(1.0 + f64::from(count) * step)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::line, *};

    #[test]
    fn scales_hold_all_and_have_round_ticks() {
        let (near, far) = (line("heap", "a", [0.97, 1.01, 1.04]), line("heap", "a", [0.01, 0.02, 8.0]));
        let scale = Scale::of(&[(&near, [0.97, 1.01, 1.04])]);
        assert!(!scale.logarithmic);
        assert!(scale.ticks().contains(&1.0) && (4..=10).contains(&scale.ticks().len()), "{:?}", scale.ticks());
        let scale = Scale::of(&[(&far, [0.01, 0.02, 8.0])]);
        assert_eq!(scale.ticks(), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]);
        assert!(scale.x(0.01) > LEFT && scale.x(8.0) < RIGHT && scale.x(1.0) < scale.x(2.0));
        assert_eq!((scale.x(0.0), scale.x(f64::INFINITY)), (LEFT, RIGHT), "what lies outside is at the edge");
    }

    #[test]
    fn without_a_ratio_there_is_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.svg");
        let none = Line { ratio: None, ..line("heap", "a", [1.0, 1.0, 1.0]) };
        assert!(!draw(&path, "Heap", &[&none]).unwrap() && !path.exists());
    }
}
