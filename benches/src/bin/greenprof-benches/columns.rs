//! Tables of text: aligned for people, and as Markdown.

use std::fmt::Write as _;

/// A column's head, and whether its text begins at the left; other columns end at the right.
pub(crate) type Column = (&'static str, bool);

/// Adds a table with aligned columns.
pub(crate) fn aligned(text: &mut String, columns: &[(&str, bool)], rows: &[Vec<String>]) {
    let heads: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let all = || std::iter::once(&heads).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for row in all() {
        let mut line = String::new();
        for ((cell, (_, is_left)), width) in row.iter().zip(columns).zip(&widths) {
            match is_left {
                true => write!(line, "{cell:<width$}  "),
                false => write!(line, "{cell:>width$}  "),
            }
            .expect("a string takes everything");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Adds the same as Markdown.
pub(crate) fn markdown<'r>(
    text: &mut String,
    columns: &[(&str, bool)],
    rows: impl IntoIterator<Item = &'r Vec<String>>,
) {
    let mut line = |cells: &[&str]| {
        text.push_str("| ");
        text.push_str(&cells.join(" | "));
        text.push_str(" |\n");
    };
    line(&columns.iter().map(|(head, _)| *head).collect::<Vec<_>>());
    line(&columns.iter().map(|(_, is_left)| if *is_left { "---" } else { "---:" }).collect::<Vec<_>>());
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [("name", true), ("W", false)];

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["b — longer".to_owned(), "2".to_owned()]];
        let mut text = String::new();
        aligned(&mut text, &COLUMNS, &rows);
        assert_eq!(text, "name         W\na           10\nb — longer   2\n");
        let mut text = String::new();
        markdown(&mut text, &COLUMNS, &rows);
        assert_eq!(text, "| name | W |\n| --- | ---: |\n| a | 10 |\n| b — longer | 2 |\n");
    }
}
