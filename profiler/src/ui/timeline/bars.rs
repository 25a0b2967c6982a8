//! A row of bars. What is narrower than a column of the picture is put together with its neighbours, so that a row has no more
//! bars than there are columns, twice.

use std::sync::Arc;

use super::scan::Window;

/// A stretch of time in one state, or several short ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    /// From the beginning of the trace.
    pub(super) start: u64,
    pub(super) length: u64,
    /// The task that ran, or the state of the task; of several different ones 0.
    pub(super) what: u64,
    /// How many stretches these are.
    pub(super) count: u64,
    /// Why, for a task that waits.
    pub(super) reason: Arc<str>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) bars: Vec<Bar>,
}

impl Row {
    /// Adds a stretch that begins not before the last one has ended; what of it lies in the window.
    pub(super) fn push(&mut self, window: Window, start: u64, end: u64, what: u64, reason: &Arc<str>) {
        let (start, end) = (start.max(window.from), end.min(window.to));
        if start >= end {
            return;
        }
        if let Some(last) = self.bars.last_mut() {
            let is_near = start < last.start + window.bar;
            if is_near && (last.length < window.bar && end - start < window.bar) {
                last.length = end - last.start;
                last.count += 1;
                if last.what != what {
                    last.what = 0;
                }
                return;
            }
        }
        self.bars.push(Bar { start, length: end - start, what, count: 1, reason: reason.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_bars_are_put_together_and_wide_ones_are_not() {
        let window = Window { from: 100, to: 1100, bar: 10 };
        let mut row = Row::default();
        let mut push = |start, end, what| row.push(window, start, end, what, &"".into());
        push(0, 90, 7); // before the window
        push(90, 300, 7); // cut
        push(300, 303, 8);
        push(304, 306, 8);
        push(307, 309, 9); // another, so the bar is of several
        push(320, 322, 9); // too far away
        push(1000, 2000, 7); // cut
        push(3000, 3001, 7);
        let bars: Vec<_> = row.bars.iter().map(|bar| (bar.start, bar.length, bar.what, bar.count)).collect();
        assert_eq!(bars, [(100, 200, 7, 1), (300, 9, 0, 3), (320, 2, 9, 1), (1000, 100, 7, 1)]);
    }

    #[test]
    fn a_row_has_at_most_two_bars_a_column() {
        let window = Window { from: 0, to: 1_000_000, bar: 1000 };
        let mut row = Row::default();
        (0..500_000).for_each(|at| row.push(window, 2 * at, 2 * at + 1, at % 3, &"".into()));
        assert!(row.bars.len() <= 2000, "{}", row.bars.len());
        assert_eq!(row.bars.iter().map(|bar| bar.count).sum::<u64>(), 500_000);
    }
}
