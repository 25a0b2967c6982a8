//! The memory map of the process, read while the world is stopped, without allocating.
//!
//! The kernel gives /proc/self/maps some forty lines at a time. The map cannot change in between while every thread is
//! stopped; in an incomplete stop it is a moment's answer.

use super::table::{Desk, MAX_MAPPINGS};
use crate::sys::raw::File;

/// One range of memory with the same access and the same origin. The kernel joins neighbours that are alike, so several
/// stacks may be one mapping; and since Linux 6.13 a mapping may contain guard pages that cannot be read
/// ([`Stopped::words`](super::Stopped::words) passes over them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The lowest address.
    pub start: usize,
    /// One past the highest address.
    pub end: usize,
    flags: u8,
}

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const EXECUTABLE: u8 = 4;
const SHARED: u8 = 8;
const FILE: u8 = 16;
const MAIN_STACK: u8 = 32;

impl Mapping {
    /// Whether it can be read, but for guard pages.
    pub fn is_readable(&self) -> bool {
        self.flags & READABLE != 0
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        self.flags & WRITABLE != 0
    }

    /// Whether it holds code.
    pub fn is_executable(&self) -> bool {
        self.flags & EXECUTABLE != 0
    }

    /// Whether other processes may see it.
    pub fn is_shared(&self) -> bool {
        self.flags & SHARED != 0
    }

    /// Whether it shows a file.
    pub fn is_file(&self) -> bool {
        self.flags & FILE != 0
    }

    /// Whether it is the stack on which the process started.
    pub fn is_main_stack(&self) -> bool {
        self.flags & MAIN_STACK != 0
    }

    pub(super) fn contains(&self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// Fills the desk's table, in the order of addresses. The number of mappings; nothing if the file cannot be read or has
/// more.
pub(super) fn read(desk: &mut Desk) -> Option<usize> {
    let file = File::open(c"/proc/self/maps").ok()?;
    let Desk { scratch, mappings, .. } = desk;
    let buffer = bytes_of(scratch);
    let (mut filled, mut count) = (0, 0);
    loop {
        let length = usize::try_from(file.read(&mut buffer[filled..])).ok()?;
        if length == 0 {
            return (filled == 0).then_some(count);
        }
        filled += length;
        let mut line = 0;
        while let Some(end) = buffer[line..filled].iter().position(|byte| *byte == b'\n') {
            *mappings.get_mut(count)? = parse(&buffer[line..line + end])?;
            count += 1;
            line += end + 1;
        }
        buffer.copy_within(line..filled, 0);
        filled -= line;
        if filled == buffer.len() {
            return None; // a line longer than any path
        }
    }
}

/// Of the mappings, sorted by address, the one that `address` lies in.
pub(super) fn find(mappings: &[Mapping], address: usize) -> Option<&Mapping> {
    let next = mappings.partition_point(|mapping| mapping.start <= address);
    mappings[..next].last().filter(|mapping| mapping.contains(address))
}

/// Scratch words as bytes.
pub(super) fn bytes_of(words: &mut [usize]) -> &mut [u8] {
    // SAFETY: the same memory, of a larger alignment, and any bytes are words and the reverse.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

/// `start-end rwxp offset device inode path`.
pub(super) fn parse(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let mut range = fields.next()?.split(|byte| *byte == b'-');
    let (start, end) = (hexadecimal(range.next()?)?, hexadecimal(range.next()?)?);
    let access = fields.next()?;
    let is = |at: usize, letter: u8, flag: u8| if access.get(at) == Some(&letter) { flag } else { 0 };
    let inode = fields.nth(2)?;
    let path = fields.next().unwrap_or_default();
    let flags = is(0, b'r', READABLE)
        | is(1, b'w', WRITABLE)
        | is(2, b'x', EXECUTABLE)
        | is(3, b's', SHARED)
        | if inode == b"0" { 0 } else { FILE }
        | if path == b"[stack]" { MAIN_STACK } else { 0 };
    Some(Mapping { start, end, flags })
}

/// A number of hexadecimal digits.
pub(super) fn hexadecimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | (*digit as char).to_digit(16)? as usize))
}

const _: () = assert!(MAX_MAPPINGS >= 65_530, "as many as the kernel allows by default");

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let stack = parse(b"7ffd1000-7ffd3000 rw-p 00000000 00:00 0                          [stack]").unwrap();
        assert_eq!((stack.start, stack.end), (0x7ffd_1000, 0x7ffd_3000));
        assert!(stack.is_readable() && stack.is_writable() && stack.is_main_stack());
        assert!(!stack.is_executable() && !stack.is_shared() && !stack.is_file());
        let code = parse(b"5000-6000 r-xs 00001000 08:01 1234 /a path/with spaces").unwrap();
        assert!(code.is_executable() && code.is_file() && code.is_shared() && !code.is_writable());
        for bad in [&b""[..], b"5000", b"5000-x rw-p", b"5000-6000 rw-p 0 0"] {
            assert_eq!(parse(bad), None);
        }
        assert_eq!(hexadecimal(b"ffffffffffffffff"), Some(usize::MAX));
        assert_eq!(hexadecimal(b"10000000000000000"), None);
    }

    #[test]
    fn addresses_are_found() {
        let mappings = [(10, 20), (20, 30), (40, 50)].map(|(start, end)| Mapping { start, end, flags: 0 });
        let start = |address| find(&mappings, address).map(|mapping| mapping.start);
        assert_eq!([9, 10, 19, 20, 30, 40, 50].map(start), [None, Some(10), Some(10), Some(20), None, Some(40), None]);
    }
}
