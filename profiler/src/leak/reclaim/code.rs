//! Which functions the instructions of another one call.
//!
//! Instructions are not decoded: at each byte it is asked what would be called if one began there. So calls are found that are none,
//! but whoever looks for a certain function finds it by chance only if four bytes in a row happen to be its distance.

use std::ops::Range;

/// More than the largest function has.
const MOST_BYTES: usize = 16 << 20;

/// A copy of a function's instructions; `None` if they cannot be read, as when their module is gone.
pub(super) fn read(range: Range<usize>) -> Option<Vec<u8>> {
    (range.len() <= MOST_BYTES).then_some(())?;
    let mut bytes = vec![0_u8; range.len()];
    copy(range.start, &mut bytes).then_some(bytes)
}

/// Copies memory of this process that may not be there.
fn copy(from: usize, to: &mut [u8]) -> bool {
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let remote = libc::iovec { iov_base: from as *mut libc::c_void, iov_len: to.len() };
    // SAFETY: the kernel writes to `to` only, and says what it could not read.
    let copied = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(copied) == Ok(to.len())
}

/// What a function's instructions may call or jump to, by a distance or through a word at a distance.
pub(super) fn calls(start: usize, code: &[u8]) -> impl Iterator<Item = usize> {
    let at = move |offset: usize, distance: &[u8]| -> Option<usize> {
        let distance = i32::from_le_bytes(distance.try_into().ok()?);
        Some((start + offset).wrapping_add_signed(distance as isize))
    };
    (0..code.len()).filter_map(move |i| match *code.get(i..i + 6)? {
        // call and jmp, relative to the next instruction
        [0xe8 | 0xe9, ref rest @ ..] => at(i + 5, &rest[..4]),
        // the same, of the address in a word: of another module's function, or of one that the linker has not shortened
        [0xff, 0x15 | 0x25, ref rest @ ..] => {
            let word = at(i + 6, rest)?;
            let mut bytes = [0; size_of::<usize>()];
            copy(word, &mut bytes).then(|| usize::from_le_bytes(bytes))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_by_distance_and_through_a_word_are_found() {
        let word: Box<usize> = Box::new(0x1234_5678);
        // A place near the word, so that a distance reaches it.
        let start = std::ptr::from_ref(&*word) as usize - 64;
        let code = [
            &[0x55_u8, 0xe8, 0x10, 0, 0, 0][..],   // call to 6 + 16
            &[0x67, 0xe9, 0xf0, 0xff, 0xff, 0xff], // jmp to 12 - 16
            &[0xff, 0x15, 46, 0, 0, 0],            // call through the word at 18 + 46
            &[0xc3],
        ]
        .concat();
        let found: Vec<usize> = calls(start, &code).collect();
        for expected in [start + 22, start - 4, 0x1234_5678] {
            assert!(found.contains(&expected), "{expected:x} in {found:x?}");
        }
        assert_eq!(read(8..16), None);
    }
}
