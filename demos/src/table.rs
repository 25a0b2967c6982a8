//! Tables for people: columns that align, numbers to the right, units in the cells.

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header. Column widths follow from what is in them.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

/// Blanks between two columns.
const GAP: &str = "  ";

impl Table {
    /// An empty table. A heading that starts with `>` makes a column of numbers; the `>` is not shown.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let column = |heading: &str| match heading.strip_prefix('>') {
            Some(heading) => (heading.to_owned(), Align::Right),
            None => (heading.to_owned(), Align::Left),
        };
        Self { columns: headings.into_iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row, which has a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    /// The table as lines that start with `indent` and end without blanks.
    pub fn render(&self, indent: &str) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| heading.clone()).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for cells in lines {
            let cells = cells.iter().zip(&self.columns).zip(&widths).map(|((cell, (_, align)), &width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            let line = cells.collect::<Vec<_>>().join(GAP);
            text.push_str(format!("{indent}{line}").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A share as a percentage with one digit after the point; of nothing there is none.
pub fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1}%", 100.0 * part / whole) } else { "-".to_owned() }
}

/// A time in the unit in which it has few digits.
pub fn seconds(seconds: f64) -> String {
    match seconds.abs() {
        s if s >= 1.0 || s == 0.0 => format!("{seconds:.2} s"),
        s if s >= 1e-3 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

/// A size in bytes, KiB or MiB.
pub fn bytes(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A count with its thousands apart.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A text of at most `width` characters, shortened in its middle.
pub fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    // The end says more: it is the function's own name.
    let head = width / 3;
    let tail = width - head - 1;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        let mut table = Table::new([">count", "name", "why"]);
        table.row(["7".into(), "sieve".into(), String::new()]);
        table.row(["1234567".into(), "Zürich".into(), "so".into()]);
        assert_eq!(table.render("  "), "    count  name    why\n        7  sieve\n  1234567  Zürich  so\n");
    }

    #[test]
    fn numbers_have_units_and_few_digits() {
        assert_eq!([0.0, 12.345, 0.98, 0.0123, 45e-6].map(seconds), ["0.00 s", "12.35 s", "980 ms", "12 ms", "45 µs"]);
        assert_eq!([0, 1023, 1536, 3 << 20].map(bytes), ["0 B", "1023 B", "1.5 KiB", "3.0 MiB"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!((percent(1.0, 3.0).as_str(), percent(1.0, 0.0).as_str()), ("33.3%", "-"));
    }

    #[test]
    fn long_texts_keep_their_ends() {
        assert_eq!(shortened("abcdefghij", 10), "abcdefghij");
        assert_eq!(shortened("abcdefghijk", 7), "ab…hijk");
    }
}
