//! The picture, by inferno.
//!
//! Inferno reads stacks as lines: functions joined by `;`, a blank, numbers. Names of Rust functions have both characters
//! (`<[u8; 4] as From<_>>::from`), so they stand for themselves only after the picture is drawn: until then they are
//! characters of Unicode's private use area, as wide as any other.

use inferno::{
    differential,
    flamegraph::{self, Direction, Options, Palette, color::BackgroundColor, color::MultiPalette},
};

use super::stacks::{Column, Stacks};

/// What stands for what while inferno draws.
const PLACES: [(char, char); 2] = [(';', '\u{e000}'), (' ', '\u{e001}')];

/// What a profile is compared with.
pub(super) struct Compared<'a> {
    pub other: &'a Stacks,
    /// Whether its numbers are scaled to the same total.
    pub scaled: bool,
    /// Whether its numbers are the widths.
    pub widths_of_other: bool,
}

/// The picture as a document that works by itself; nothing if there is nothing to draw.
pub(super) fn svg(stacks: &Stacks, compared: Option<Compared<'_>>, column: &Column) -> Result<Option<String>, String> {
    let mut options = Options::default();
    options.direction = Direction::Inverted;
    options.colors = Palette::Multi(MultiPalette::Rust);
    options.bgcolors = Some(BackgroundColor::Grey);
    options.hash = true;
    options.count_name = column.unit.clone();
    options.title = format!("{} ({})", column.kind, column.unit);
    let lines = match compared {
        None => folded(stacks),
        Some(Compared { other, scaled, widths_of_other }) => {
            // Inferno gives the second profile the widths.
            let (first, second) = if widths_of_other { (stacks, other) } else { (other, stacks) };
            options.negate_differentials = widths_of_other;
            let how = differential::Options { normalize: scaled && first.total > 0, strip_hex: false };
            let mut lines = Vec::new();
            differential::from_readers(how, folded(first).as_bytes(), folded(second).as_bytes(), &mut lines)
                .map_err(|error| error.to_string())?;
            if second.total == 0 {
                return Ok(None);
            }
            String::from_utf8(lines).map_err(|error| error.to_string())?
        }
    };
    if lines.is_empty() {
        return Ok(None);
    }
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.lines(), &mut svg).map_err(|error| error.to_string())?;
    let mut svg = String::from_utf8(svg).map_err(|error| error.to_string())?;
    for (real, stand_in) in PLACES {
        svg = svg.replace(stand_in, real.encode_utf8(&mut [0; 4]));
    }
    Ok(Some(svg))
}

/// The lines that inferno reads.
fn folded(stacks: &Stacks) -> String {
    let mut lines = String::new();
    for (stack, value) in &stacks.sums {
        for (depth, name) in stack.iter().enumerate() {
            if depth > 0 {
                lines.push(';');
            }
            lines.extend(name.chars().map(safe));
        }
        lines.push_str(&format!(" {value}\n"));
    }
    lines
}

/// The character that stands for one of a name.
fn safe(real: char) -> char {
    match PLACES.iter().find(|place| place.0 == real) {
        Some(place) => place.1,
        // Not allowed in XML, or the end of a line.
        None if real.is_control() => '\u{fffd}',
        None => real,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::proto;

    fn stacks(of: &[(&[&str], u64)]) -> Stacks {
        let sums = of.iter().map(|(stack, value)| (stack.iter().map(|name| (*name).to_owned()).collect(), *value));
        let total = of.iter().map(|(_, value)| value).sum();
        Stacks { sums: sums.collect(), total, samples: of.len(), negative: 0 }
    }

    fn column() -> Column {
        let string_table = ["", "cpu", "nanoseconds"].map(str::to_owned).to_vec();
        let sample_type = vec![proto::ValueType { r#type: 1, unit: 2 }];
        Column::choose(&proto::Profile { string_table, sample_type, ..Default::default() }, None).expect("the only one")
    }

    #[test]
    fn names_keep_their_characters() {
        let hostile = "<script>alert(1)</script>";
        let drawn = svg(&stacks(&[(&["main", "<[u8; 4] as X>::f 12", hostile, "a\u{0}\nb"], 7)]), None, &column());
        let drawn = drawn.expect("drawn").expect("not empty");
        assert!(drawn.contains("<title>&lt;[u8; 4] as X&gt;::f 12 (7 nanoseconds, 100.00%)"), "{drawn}");
        assert!(drawn.contains("&lt;script&gt;alert") && !drawn.contains(hostile), "{drawn}");
        assert!(drawn.contains("a\u{fffd}\u{fffd}b"), "{drawn}");
    }

    #[test]
    fn differences_tell_what_grew() {
        let (before, after) = (stacks(&[(&["a"], 60), (&["b"], 40)]), stacks(&[(&["a"], 90), (&["c"], 10)]));
        let compare = |scaled, widths_of_other| {
            let compared = Compared { other: &before, scaled, widths_of_other };
            svg(&after, Some(compared), &column()).expect("drawn").expect("not empty")
        };
        let drawn = compare(false, false);
        assert!(drawn.contains("<title>a (90 nanoseconds, 90.00%; +30.00%)"), "{drawn}");
        assert!(drawn.contains("<title>c (10 nanoseconds, 10.00%; +10.00%)") && !drawn.contains("<title>b"), "{drawn}");
        let drawn = compare(false, true);
        assert!(drawn.contains("<title>b (40 nanoseconds, 40.00%") && !drawn.contains("<title>c"), "{drawn}");
    }

    #[test]
    fn nothing_is_no_picture() {
        let nothing = Stacks::default();
        assert_eq!(svg(&nothing, None, &column()).expect("drawn"), None);
        let compared = Compared { other: &stacks(&[(&["a"], 1)]), scaled: true, widths_of_other: false };
        assert_eq!(svg(&nothing, Some(compared), &column()).expect("drawn"), None);
    }
}
