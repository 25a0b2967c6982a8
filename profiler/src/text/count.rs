//! The `?debug=1` text of a profile that counts: `NAME profile: total N`, then one record per distinct stack.
//!
//! A record is `COUNT @ 0xPC 0xPC ...` with the raw return addresses, an optional `# labels: {..}` line, further comment
//! lines if the profile has any, one line per frame, and a blank line. Records come largest first. Frame lines give the
//! looked-up address (return address minus one), since that is what the function and line belong to.
//!
//! The runtime's own frames are left out at both ends, as Go leaves out its own; see
//! [`shown_frames`]. The hex list always has all of them.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

use super::quote::quote;
use super::tabs;
use crate::profile::lookup_address;
use crate::symbolize::names::shown_frames;
use crate::symbolize::{Frame, Symbolizer};

/// Things that share a stack: tasks that wait at the same place, threads created by the same call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountRecord {
    /// How many.
    pub count: i64,
    /// Return addresses, leaf first.
    pub stack: Vec<usize>,
    /// Labels they share, sorted by key.
    pub labels: Vec<(String, String)>,
    /// Further facts, each printed as a line `# TEXT`.
    pub notes: Vec<String>,
}

/// Writes the whole profile. Records with equal stacks, labels and notes are summed.
pub fn write_count_profile(
    name: &str,
    records: impl IntoIterator<Item = CountRecord>,
    symbolizer: &mut Symbolizer,
) -> String {
    symbolizer.refresh();
    // Equal keys print equal text, so the key both merges records and breaks ties between equal counts.
    let mut groups: HashMap<String, CountRecord> = HashMap::new();
    let mut total = 0;
    for record in records {
        total += record.count;
        groups.entry(key(&record)).and_modify(|group| group.count += record.count).or_insert(record);
    }
    let mut groups: Vec<(String, CountRecord)> = groups.into_iter().collect();
    groups.sort_by(|(a_key, a), (b_key, b)| b.count.cmp(&a.count).then_with(|| a_key.cmp(b_key)));

    let mut text = format!("{name} profile: total {total}\n");
    for (key, record) in &groups {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{} {key}", record.count);
        write_frames(&mut text, &record.stack, symbolizer, shown_frames);
        text.push('\n');
    }
    tabs::align(&text)
}

/// Everything of a record that stands before its frames, without the count.
fn key(record: &CountRecord) -> String {
    let mut key = "@".to_owned();
    for address in &record.stack {
        let _ = write!(key, " {address:#x}");
    }
    write_labels(&mut key, &record.labels);
    for note in &record.notes {
        // A note is one line, and its tabs would start columns.
        let _ = write!(key, "\n# {}", note.replace(['\n', '\r', '\t'], " "));
    }
    key
}

/// Starts a new line with labels, if there are any.
pub(super) fn write_labels(text: &mut String, labels: &[(String, String)]) {
    if !labels.is_empty() {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{}:{}", quote(name), quote(value))).collect();
        let _ = write!(text, "\n# labels: {{{}}}", labels.join(", "));
    }
}

/// Writes a line for each function of a stack that `shown` leaves.
pub(super) fn write_frames(
    text: &mut String,
    stack: &[usize],
    symbolizer: &mut Symbolizer,
    shown: fn(&[&str]) -> Range<usize>,
) {
    let mut frames: Vec<(usize, Option<Frame>)> = Vec::new();
    for &return_address in stack {
        let address = lookup_address(return_address, false);
        let found = symbolizer.resolve(address);
        if found.is_empty() {
            frames.push((address, None));
        }
        frames.extend(found.iter().map(|frame| (address, Some(frame.clone()))));
    }
    let functions: Vec<&str> = frames.iter().map(|(_, frame)| frame.as_ref().map_or("", |f| &*f.function)).collect();
    let shown = shown(&functions);
    for (address, frame) in &frames[shown] {
        let _ = match frame {
            Some(frame) => {
                let offset = if frame.function_address == 0 { 0 } else { address - frame.function_address };
                let file = frame.file.as_deref().unwrap_or("?");
                writeln!(text, "#\t{address:#x}\t{}+{offset:#x}\t{file}:{}", frame.function, frame.line)
            }
            None => writeln!(text, "#\t{address:#x}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::chain::{NAMES, OUTER_LINE, outer, outer_start};

    fn record(count: i64, stack: &[usize]) -> CountRecord {
        CountRecord { count, stack: stack.to_vec(), ..CountRecord::default() }
    }

    #[test]
    fn records_come_largest_first_then_by_their_text() {
        let records = [record(1, &[0x30]), record(2, &[0x20]), record(1, &[0x10]), record(3, &[0x20, 0x10])];
        let text = write_count_profile("goroutine", records, &mut Symbolizer::new());
        assert_eq!(
            text,
            "goroutine profile: total 7\n\
             3 @ 0x20 0x10\n#\t0x1f\n#\t0xf\n\n\
             2 @ 0x20\n#\t0x1f\n\n\
             1 @ 0x10\n#\t0xf\n\n\
             1 @ 0x30\n#\t0x2f\n\n"
        );
    }

    #[test]
    fn equal_records_are_summed_and_labels_keep_them_apart() {
        let labelled = CountRecord {
            labels: vec![("k1".into(), "v\"1".into()), ("k2".into(), "v2".into())],
            notes: vec!["wait: chan receive".into(), "two\nlines\there".into()],
            ..record(1, &[0x10])
        };
        let records = [record(1, &[0x10]), labelled.clone(), record(1, &[0x10]), record(1, &[0x10]), labelled];
        let text = write_count_profile("x", records, &mut Symbolizer::new());
        assert_eq!(
            text,
            "x profile: total 5\n\
             3 @ 0x10\n#\t0xf\n\n\
             2 @ 0x10\n# labels: {\"k1\":\"v\\\"1\", \"k2\":\"v2\"}\n# wait: chan receive\n# two lines here\n#\t0xf\n\n"
        );
    }

    #[test]
    fn frames_have_address_function_offset_and_line() {
        let return_address = outer();
        let text = write_count_profile("x", [record(1, &[return_address])], &mut Symbolizer::new());
        let frames: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| line.starts_with("#\t"))
            .map(|line| line.split('\t').filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(frames.len(), 3, "{text}");
        for (frame, name) in frames.iter().zip(NAMES) {
            assert_eq!(frame[1], format!("{:#x}", return_address - 1));
            let offset = return_address - 1 - outer_start();
            assert_eq!(frame[2], format!("{name}+{offset:#x}"));
        }
        assert!(frames[2][3].ends_with(&format!("symbolize/chain.rs:{}", OUTER_LINE + 1)), "{text}");
    }

    #[test]
    fn nothing_is_still_a_profile() {
        assert_eq!(write_count_profile("x", [], &mut Symbolizer::new()), "x profile: total 0\n");
        assert_eq!(write_count_profile("x", [record(1, &[])], &mut Symbolizer::new()), "x profile: total 1\n1 @\n\n");
    }
}
