//! Which files are mapped executable into this process, from `/proc/self/maps`.
//!
//! A line reads `START-END PERMS OFFSET MAJOR:MINOR INODE   PATH`, and the path may contain blanks, may be missing, may
//! be a name in brackets, or may end in ` (deleted)` when the file was unlinked after it was mapped. Only what can hold
//! code with a name is kept: executable mappings of files, `[vdso]` and `[vsyscall]`. Anonymous executable memory is
//! left out, because nothing says what is in it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The suffix with which the kernel marks a file that no longer has this name.
const DELETED: &[u8] = b" (deleted)";

/// One executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: usize,
    /// First address after the mapping.
    pub end: usize,
    /// Offset in the file of the byte at `start`.
    pub file_offset: u64,
    /// Device and inode of the file; inode 0 for what is no file.
    pub file: FileId,
    /// Path of the file without any ` (deleted)`, or a name in brackets.
    pub path: PathBuf,
    /// Whether the file was unlinked (or replaced, as a rebuild does) since it was mapped.
    pub deleted: bool,
}

/// Identity of a mapped file, as the kernel prints it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device, `MAJOR:MINOR` in hex.
    pub device: String,
    /// Inode.
    pub inode: u64,
}

impl Mapping {
    /// Whether `address` lies in this mapping.
    pub fn contains(&self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// Whether this is the kernel's virtual library, whose ELF image exists only in memory.
    pub fn is_vdso(&self) -> bool {
        self.path == Path::new("[vdso]")
    }
}

/// The executable mappings of this process, in address order.
pub fn read() -> io::Result<Vec<Mapping>> {
    Ok(parse(&std::fs::read("/proc/self/maps")?))
}

/// Parses the text of a `maps` file. Lines that do not look like a mapping are skipped: a profile with one file missing
/// is better than none.
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let range = field(&mut rest)?;
    let permissions = field(&mut rest)?;
    let offset = field(&mut rest)?;
    let device = field(&mut rest)?;
    let inode: u64 = field(&mut rest)?.parse().ok()?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    // Only leading blanks are padding: a file name may end in one.
    let name = rest.trim_ascii_start();
    let is_file = inode != 0 && name.first() == Some(&b'/');
    let is_kernel_code = name == b"[vdso]" || name == b"[vsyscall]";
    if !(is_file || is_kernel_code) || start >= end {
        return None;
    }
    let (name, deleted) = match name.strip_suffix(DELETED) {
        Some(short) if is_file => (short, true),
        _ => (name, false),
    };
    Some(Mapping {
        start,
        end,
        file_offset: u64::from_str_radix(offset, 16).ok()?,
        file: FileId { device: device.to_owned(), inode },
        path: PathBuf::from(OsString::from_vec(unescape(name))),
        deleted,
    })
}

/// Takes the next blank-separated field off `rest`.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let trimmed = rest.trim_ascii_start();
    let end = trimmed.iter().position(|&byte| byte == b' ').unwrap_or(trimmed.len());
    let (field, remainder) = trimmed.split_at(end);
    *rest = remainder;
    if field.is_empty() { None } else { std::str::from_utf8(field).ok() }
}

/// Undoes the kernel's escape of a line feed in a file name (`\012`), the only one it makes in this file.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = tail;
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Option<Mapping> {
        let mut parsed = parse(line.as_bytes());
        assert!(parsed.len() <= 1, "{line}");
        parsed.pop()
    }

    #[test]
    fn an_ordinary_line_gives_all_fields() {
        let mapping = one("55d0c0a3c000-55d0c0b10000 r-xp 0001b000 fd:01 1577 /opt/app/bin/demo").expect("a mapping");
        assert_eq!((mapping.start, mapping.end), (0x55d0_c0a3_c000, 0x55d0_c0b1_0000));
        assert_eq!(mapping.file_offset, 0x1b000);
        assert_eq!(mapping.file, FileId { device: "fd:01".into(), inode: 1577 });
        assert_eq!(mapping.path, Path::new("/opt/app/bin/demo"));
        assert!(!mapping.deleted && !mapping.is_vdso());
        assert!(mapping.contains(0x55d0_c0a3_c000) && !mapping.contains(0x55d0_c0b1_0000));
    }

    #[test]
    fn tricky_names_keep_their_exact_bytes() {
        let cases: &[(&str, &str, bool)] = &[
            ("/tmp/with a blank", "/tmp/with a blank", false),
            ("/tmp/x (deleted)", "/tmp/x", true),
            ("/tmp/x (deleted) (deleted)", "/tmp/x (deleted)", true),
            ("/tmp/x (deleted).so", "/tmp/x (deleted).so", false),
            ("/tmp/trailing ", "/tmp/trailing ", false),
            ("/tmp/two\\012lines", "/tmp/two\nlines", false),
            ("/tmp/back\\slash", "/tmp/back\\slash", false),
            ("/memfd:jit (deleted)", "/memfd:jit", true),
        ];
        for &(printed, path, deleted) in cases {
            let mapping = one(&format!("1000-2000 r-xp 00000000 08:02 17                         {printed}"))
                .unwrap_or_else(|| panic!("{printed:?} was dropped"));
            assert_eq!((mapping.path.as_path(), mapping.deleted), (Path::new(path), deleted), "{printed:?}");
        }
    }

    #[test]
    fn what_cannot_be_symbolized_is_left_out() {
        for line in [
            "",
            "garbage",
            "1000-2000 r--p 00000000 08:02 17 /lib/libc.so.6",
            "1000-2000 rw-p 00000000 00:00 0 [heap]",
            "1000-2000 r-xp 00000000 00:00 0 ",
            "1000-2000 r-xp 00000000 00:00 0",
            "1000-2000 r-xp 00000000 00:00 0 [anon: jit]",
            "1000-2000 r-xp 00000000 00:00 0 //anon",
            "2000-1000 r-xp 00000000 08:02 17 /lib/libc.so.6",
            "xyz-2000 r-xp 00000000 08:02 17 /lib/libc.so.6",
            "1000 r-xp 00000000 08:02 17 /lib/libc.so.6",
            "1000-2000 r-xp 00000000 08:02 notanumber /lib/libc.so.6",
        ] {
            assert_eq!(one(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_kernels_own_code_is_kept() {
        let vdso =
            one("7ffd5a5f2000-7ffd5a5f4000 r-xp 00000000 00:00 0                          [vdso]").expect("vdso");
        assert!(vdso.is_vdso());
        let last = one("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]");
        assert_eq!(last.expect("vsyscall").path, Path::new("[vsyscall]"));
    }

    #[test]
    fn any_cut_of_a_valid_file_parses_without_panic() {
        let text =
            b"1000-2000 r-xp 00000000 08:02 17 /tmp/a\\012b (deleted)\n3000-4000 --xp 00000000 00:00 0 [vsyscall]\n";
        for start in 0..text.len() {
            for end in start..=text.len() {
                let _ = parse(&text[start..end]);
            }
        }
    }

    #[test]
    fn this_test_finds_its_own_code() {
        let here = this_test_finds_its_own_code as fn() as usize;
        let maps = read().expect("/proc/self/maps is readable");
        let mapping = maps.iter().find(|mapping| mapping.contains(here)).expect("own code is mapped");
        assert_eq!(mapping.path, std::env::current_exe().expect("own path"));
    }
}
