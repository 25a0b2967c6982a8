//! What the kernel tells of a thread that has not answered: why it cannot, in /proc/self/task/*.

use std::ffi::CStr;

use super::mappings::hexadecimal;
use crate::sys::raw::File;

/// What a thread is doing, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The kernel's letter: R running, S sleeping, D sleeping uninterruptibly, T stopped, t traced, Z dead, X dying.
    pub(super) state: u8,
    pub(super) signal_blocked: bool,
    pub(super) signal_pending: bool,
    /// A thread that the kernel has made for itself in this process, as io_uring does: it runs no code of the process.
    pub(super) of_kernel: bool,
}

/// Looks at a thread; nothing if it has gone.
pub(super) fn facts(thread: i32, signal: i32, scratch: &mut [u8]) -> Option<Facts> {
    let text = read(thread, b"/status", scratch)?;
    let state = field(text, b"State:")?.first().copied()?;
    let mask = |name| field(text, name).and_then(hexadecimal).map(|mask| mask >> (signal - 1) & 1 == 1);
    let (signal_blocked, signal_pending) = (mask(b"SigBlk:")?, mask(b"SigPnd:")?);
    let of_kernel = is_of_kernel(read(thread, b"/stat", scratch)?);
    Some(Facts { state, signal_blocked, signal_pending, of_kernel })
}

/// The stack pointer of a thread that sleeps in the kernel; 0 if it runs, or the kernel does not tell.
pub(super) fn stack_pointer(thread: i32, scratch: &mut [u8]) -> usize {
    // The last but one field of `number arguments … stack-pointer program-counter`.
    let parse = |text: &[u8]| {
        let mut fields = text.trim_ascii_end().rsplit(|byte| *byte == b' ');
        fields.nth(1).and_then(|field| hexadecimal(field.strip_prefix(b"0x")?))
    };
    read(thread, b"/syscall", scratch).and_then(parse).unwrap_or(0)
}

fn read<'a>(thread: i32, file: &[u8], scratch: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut path = [0; 64];
    let file = File::open(path_of(thread, file, &mut path)?).ok()?;
    let length = usize::try_from(file.read(scratch)).ok()?;
    Some(&scratch[..length])
}

fn path_of<'a>(thread: i32, file: &[u8], path: &'a mut [u8; 64]) -> Option<&'a CStr> {
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut rest = thread.max(0);
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut length = 0;
    for byte in b"/proc/self/task/".iter().chain(&digits[first..]).chain(file) {
        path[length] = *byte;
        length += 1;
    }
    CStr::from_bytes_until_nul(&path[..=length]).ok()
}

/// The first word behind a name at the beginning of a line.
fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
    line.trim_ascii_start().split(u8::is_ascii_whitespace).next()
}

/// The ninth field of `stat`, counted behind the name, which stands in parentheses and may contain any.
fn is_of_kernel(stat: &[u8]) -> bool {
    const IO_WORKER: u64 = 0x10;
    const USER_WORKER: u64 = 0x4000;
    let Some(name) = stat.iter().rposition(|byte| *byte == b')') else { return false };
    let flags = stat[name + 1..].split(|byte| *byte == b' ').nth(7).and_then(|field| str::from_utf8(field).ok());
    flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & (IO_WORKER | USER_WORKER) != 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::raw;

    #[test]
    fn the_calling_thread_runs() {
        let mut scratch = vec![0; 8192];
        let before = raw::block_signals();
        let blocked = facts(raw::thread_id(), 40, &mut scratch);
        raw::set_signals(before);
        let expected = Facts { state: b'R', signal_blocked: true, signal_pending: false, of_kernel: false };
        assert_eq!(blocked, Some(expected));
        assert_eq!(facts(raw::thread_id(), 40, &mut scratch), Some(Facts { signal_blocked: false, ..expected }));
        assert_eq!(facts(i32::MAX - 1, 40, &mut scratch), None);
        // It is in a system call, the one that reads the file.
        let local = 0_u8;
        let distance = stack_pointer(raw::thread_id(), &mut scratch).abs_diff(std::ptr::from_ref(&local) as usize);
        assert!(distance < 1 << 20, "{distance:#x}");
    }

    #[test]
    fn fields_are_found_behind_hostile_names() {
        assert_eq!(field(b"Name:\tSigBlk: 7\nSigBlk:\t00ff\n", b"SigBlk:"), Some(&b"00ff"[..]));
        assert_eq!(field(b"Name:\tx\n", b"SigBlk:"), None);
        assert!(!is_of_kernel(b"5 (a) S) S 1 1 1 0 -1 4194304 0 0"));
        assert!(is_of_kernel(b"5 (iou-wrk 1) S 1 1 1 0 -1 4194320 0 0"));
        let mut path = [0; 64];
        assert_eq!(path_of(1230, b"/stat", &mut path), Some(c"/proc/self/task/1230/stat"));
    }
}
