//! Columns that line up, by tabs only: the layout that Go's profile texts have.
//!
//! A cell is text that ends in a tab; what follows the last tab of a line is in no column. A column is a run of adjacent
//! lines that have such a cell at the same place, and is as wide as its widest cell plus one, rounded up to a
//! multiple of [`TAB`]. Every cell is filled up with tabs to that width, so the text lines up where tabs are eight wide
//! and can still be split at runs of tabs everywhere.

/// How wide a tab is.
const TAB: usize = 8;

/// Lays out `text`, whose lines end in a line feed.
pub(super) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut out = String::with_capacity(text.len() * 5 / 4);
    let mut widths = Vec::new();
    format(&lines, &mut widths, &mut out);
    out
}

/// Writes `lines`, all of which have the columns whose widths are known, and finds the widths of further columns.
fn format(lines: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let has_column = |line: &Vec<&str>| line.len() > column + 1;
    let mut index = 0;
    while index < lines.len() {
        if !has_column(&lines[index]) {
            write_line(&lines[index], widths, out);
            index += 1;
            continue;
        }
        let length = lines[index..].iter().take_while(|line| has_column(line)).count();
        let block = &lines[index..index + length];
        let widest = block.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        widths.push((widest + 1).next_multiple_of(TAB));
        format(block, widths, out);
        widths.pop();
        index += length;
    }
}

fn write_line(cells: &[&str], widths: &[usize], out: &mut String) {
    for (index, cell) in cells.iter().enumerate() {
        out.push_str(cell);
        if index + 1 < cells.len() {
            let missing = widths[index] - cell.chars().count();
            out.extend(std::iter::repeat_n('\t', missing.div_ceil(TAB)));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_neighbours_get_one_width() {
        let text = "#\t0x1\tshort+0x1\ta.rs:1\n#\t0x1234567\tmuch.longer.name+0x1\tb.rs:2\n";
        assert_eq!(align(text), "#\t0x1\t\tshort+0x1\t\ta.rs:1\n#\t0x1234567\tmuch.longer.name+0x1\tb.rs:2\n");
    }

    #[test]
    fn a_cell_as_wide_as_the_tab_gets_one_more() {
        assert_eq!(align("12345678\tx\n1\ty\n"), "12345678\tx\n1\t\ty\n");
        assert_eq!(align("1234567\tx\n1\ty\n"), "1234567\tx\n1\ty\n");
    }

    #[test]
    fn a_line_without_the_cell_ends_the_column() {
        let text = "#\ta\tx\n#\tb\n#\tlonger than eight\ty\n\n1\t2\n";
        assert_eq!(align(text), "#\ta\tx\n#\tb\n#\tlonger than eight\ty\n\n1\t2\n");
    }

    #[test]
    fn lines_without_tabs_stay() {
        assert_eq!(align("one\n\ntwo\n"), "one\n\ntwo\n");
        assert_eq!(align(""), "");
    }
}
