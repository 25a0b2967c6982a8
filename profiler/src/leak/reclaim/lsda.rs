//! What a function does when an unwinder comes to one of its calls: the table that its personality reads.
//!
//! The format is that of the Itanium ABI for C++, which rustc uses: a header, then the function's calls in order, each with where
//! to land and what for. A call that is not listed cannot be unwound, and a *filter* is where a function that must not be
//! unwound (`extern "C"`) ends the process.

use std::ops::Range;

/// What an unwinder meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes on, perhaps after destructors.
    Passes,
    /// It is caught.
    Catches,
    /// The process is ended.
    Ends,
}

const OMITTED: u8 = 0xff;

/// A table's bytes, read one after another. `None` where they end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    }

    fn signed(&mut self) -> Option<i64> {
        let (mut value, mut shift) = (0_i64, 0);
        loop {
            let byte = self.byte()?;
            value |= i64::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                let negative = byte & 0x40 != 0 && shift < 64;
                return Some(if negative { value | (-1 << shift) } else { value });
            }
        }
    }

    /// An offset, in one of the encodings that are used for calls.
    fn offset(&mut self, encoding: u8) -> Option<u64> {
        match encoding {
            0x01 => self.unsigned(),
            0x02 => self.take().map(|bytes| u16::from_le_bytes(bytes).into()),
            0x03 => self.take().map(|bytes| u32::from_le_bytes(bytes).into()),
            0x00 | 0x04 => self.take().map(u64::from_le_bytes),
            _ => None,
        }
    }
}

/// What happens at an instruction `at` bytes behind the function's begin. `None` if the table cannot be read.
pub(super) fn action(table: &[u8], at: u64) -> Option<Action> {
    let mut reader = Reader(table);
    if reader.byte()? != OMITTED {
        return None; // where landing pads are counted from: never the case in Rust
    }
    if reader.byte()? != OMITTED {
        reader.unsigned()?;
    }
    let encoding = reader.byte()?;
    let length = usize::try_from(reader.unsigned()?).ok()?;
    let (calls, actions) = reader.0.split_at_checked(length)?;
    let mut calls = Reader(calls);
    while !calls.0.is_empty() {
        let start = calls.offset(encoding)?;
        let length = calls.offset(encoding)?;
        let lands = calls.offset(encoding)?;
        let action = calls.unsigned()?;
        let range: Range<u64> = start..start.checked_add(length)?;
        if at < range.start {
            break; // they are in order
        }
        if range.contains(&at) {
            return if lands == 0 { Some(Action::Passes) } else { first(actions, action) };
        }
    }
    Some(Action::Ends)
}

/// What a landing pad is for.
fn first(actions: &[u8], number: u64) -> Option<Action> {
    let Some(at) = number.checked_sub(1) else { return Some(Action::Passes) };
    let kind = Reader(actions.get(usize::try_from(at).ok()?..)?).signed()?;
    Some(match kind {
        0 => Action::Passes,
        1.. => Action::Catches,
        _ => Action::Ends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a compiler writes it: offsets of variable length, calls at 4..8, 10..14, 20..22, 30..34; actions cleanup, catch, filter.
    const TABLE: &[u8] = &[
        0xff, 0xff, 0x01, 16, // header
        4, 4, 40, 0, // destructors
        10, 4, 0, 0, // nothing
        20, 2, 50, 1, // caught
        30, 4, 60, 3, // must not be unwound
        1, 0, 0x7f, 0, // actions: a catch, and a filter
    ];

    #[test]
    fn each_call_has_its_action() {
        for (at, expected) in [
            (4, Action::Passes),
            (7, Action::Passes),
            (12, Action::Passes),
            (20, Action::Catches),
            (33, Action::Ends),
            (3, Action::Ends),
            (8, Action::Ends),
            (99, Action::Ends),
        ] {
            assert_eq!(action(TABLE, at), Some(expected), "{at}");
        }
    }

    #[test]
    fn broken_tables_are_noticed() {
        for length in 0..TABLE.len() - 4 {
            assert_eq!(action(&TABLE[..length], 33), None, "{length}");
        }
        assert_eq!(action(&[0x00, 0xff, 0x01, 0], 1), None, "an encoding that is not Rust's");
        assert_eq!(action(&[0xff, 0xff, 0x1b, 4, 1, 1, 1, 1], 1), None);
        assert_eq!(action(&[0xff, 0xff, 0x01, 0x80], 1), None, "a number without an end");
    }
}
