//! The `?debug=1` text of the contention profiles: `--- contention:` or `--- mutex:`, the clock's speed, and a record for
//! each stack and set of labels, largest delay first: cycles, count, addresses.
//!
//! The cycles are nanoseconds, as the speed says. Readers of a mutex text (pprof among them) multiply the figures by its
//! sampling period. Go writes figures that have been multiplied already; here they are such that readers are right.

use std::fmt::Write;

use super::{
    count::{write_frames, write_labels},
    tabs,
};
use crate::{
    contention::{self, Snapshot},
    symbolize::{Symbolizer, names::shown_contention},
};

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The block profile.
    Block,
    /// The mutex profile.
    Mutex,
}

/// Writes the whole text.
pub fn write_contention_profile(header: Header, snapshot: &Snapshot, symbolizer: &mut Symbolizer) -> String {
    symbolizer.refresh();
    let (mut text, period) = match header {
        Header::Block => ("--- contention:\ncycles/second=1000000000\n".to_owned(), 1),
        Header::Mutex => {
            let text = format!("--- mutex:\ncycles/second=1000000000\nsampling period={}\n", snapshot.rate);
            (text, snapshot.rate.max(1))
        }
    };
    for record in &snapshot.records {
        let figure = |value: f64| (value / period as f64).round() as u64;
        // As in Go, a record never has a count of 0. Writing to a String cannot fail, here and below.
        let _ = write!(text, "{} {} @", figure(record.delay.value), figure(record.contentions.value).max(1));
        for address in &record.stack {
            let _ = write!(text, " {address:#x}");
        }
        write_labels(&mut text, &contention::labels(record));
        text.push('\n');
        write_frames(&mut text, &record.stack, symbolizer, shown_contention);
        text.push('\n');
    }
    tabs::align(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_gos() {
        let text = |header, rate| {
            write_contention_profile(header, &Snapshot { rate, ..Snapshot::default() }, &mut Symbolizer::new())
        };
        assert_eq!(text(Header::Block, 1000), "--- contention:\ncycles/second=1000000000\n");
        assert_eq!(text(Header::Mutex, 5), "--- mutex:\ncycles/second=1000000000\nsampling period=5\n");
    }
}
