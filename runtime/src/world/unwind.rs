//! Walking a chain of frame pointers inside known bounds.
//!
//! Each frame holds the caller's frame pointer and, above it, the return address. The walk reads only inside the bounds
//! of one stack, upwards, so it terminates and cannot fault whatever the words are: a function that was built without
//! frame pointers, or a task that runs on while it is being looked at, gives a wrong or a short stack, not a crash.
//!
//! The functions here neither lock nor allocate, and may be called in a signal handler.

use std::{
    ops::{ControlFlow, Range},
    sync::atomic::{AtomicUsize, Ordering},
};

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// At the frame that has no caller.
    Root,
    /// At a frame pointer that is not one. The stack is truncated.
    Broken,
    /// When the caller had enough.
    Stopped,
}

/// Follows the chain from `frame_pointer`, giving each return address to `emit`, innermost first.
///
/// # Safety
/// All of `bounds` must be readable for the whole call. It may be written to meanwhile.
#[inline]
pub unsafe fn walk(
    mut frame_pointer: usize,
    bounds: &Range<usize>,
    mut emit: impl FnMut(usize) -> ControlFlow<()>,
) -> WalkEnd {
    const WORD: usize = size_of::<usize>();
    // Not 0, so that a frame pointer of 0 is outside and needs no look of its own.
    let mut lowest = bounds.start.max(1);
    let highest = bounds.end.saturating_sub(2 * WORD);
    loop {
        if frame_pointer < lowest || frame_pointer > highest || !frame_pointer.is_multiple_of(WORD) {
            return if frame_pointer == 0 { WalkEnd::Root } else { WalkEnd::Broken };
        }
        let frame = frame_pointer as *const usize;
        // SAFETY: two aligned words inside the bounds. Volatile, because their owner may be writing them.
        let (caller, return_address) = unsafe { (frame.read_volatile(), frame.add(1).read_volatile()) };
        // In the first page no code lies; a number there is data.
        if return_address < 4096 {
            return if return_address == 0 { WalkEnd::Root } else { WalkEnd::Broken };
        }
        if emit(return_address).is_break() {
            return WalkEnd::Stopped;
        }
        lowest = frame_pointer + 2 * WORD;
        frame_pointer = caller;
    }
}

/// Stores the return addresses of the function that this is inlined into, and of its callers, as many as there is room
/// for; a 0 follows the last one if there is room left. For code on a stack with known bounds.
#[inline(always)]
pub(crate) fn store_callers(bounds: &Range<usize>, into: &[AtomicUsize]) {
    let mut slots = into.iter();
    let Some(mut slot) = slots.next() else { return };
    // SAFETY: the bounds are those of the stack that this runs on.
    let end = unsafe {
        walk(frame_pointer(), bounds, |address| {
            // Relaxed: the caller publishes them.
            slot.store(address, Ordering::Relaxed);
            match slots.next() {
                Some(next) => {
                    slot = next;
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(()),
            }
        })
    };
    if end != WalkEnd::Stopped {
        slot.store(0, Ordering::Relaxed);
    }
}

/// The frame pointer of the function that this is inlined into.
#[inline(always)]
pub(super) fn frame_pointer() -> usize {
    let frame_pointer;
    // SAFETY: reads a register.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, rbp", out(reg) frame_pointer, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov {}, x29", out(reg) frame_pointer, options(nomem, nostack, preserves_flags));
    }
    frame_pointer
}

/// The stack pointer of the function that this is inlined into.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let stack_pointer;
    // SAFETY: reads a register.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, rsp", out(reg) stack_pointer, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov {}, sp", out(reg) stack_pointer, options(nomem, nostack, preserves_flags));
    }
    stack_pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk_words(words: &[usize], start: usize) -> (Vec<usize>, WalkEnd) {
        let range = words.as_ptr_range();
        let bounds = range.start as usize..range.end as usize;
        let mut found = Vec::new();
        // SAFETY: the bounds are those of a live slice.
        let end = unsafe {
            walk(start, &bounds, |address| {
                found.push(address);
                if found.len() < 8 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        };
        (found, end)
    }

    #[test]
    fn a_chain_is_followed_to_its_root() {
        let mut words = [0_usize; 8];
        let base = words.as_ptr() as usize;
        words[1] = base + 4 * 8;
        words[2] = 0x5000;
        words[4] = 0;
        words[5] = 0x6000;
        assert_eq!(walk_words(&words, base + 8), (vec![0x5000, 0x6000], WalkEnd::Root));
    }

    #[test]
    fn hostile_chains_end() {
        let mut words = [0x7777_usize; 8];
        let base = words.as_ptr() as usize;
        for start in [base - 8, base + 7 * 8, base + 3, usize::MAX - 7, 8] {
            assert_eq!(walk_words(&words, start), (vec![], WalkEnd::Broken), "{start:#x}");
        }
        words[0] = base; // points to itself
        assert_eq!(walk_words(&words, base), (vec![0x7777], WalkEnd::Broken));
        words[2] = base; // points back
        words[0] = base + 16;
        assert_eq!(walk_words(&words, base), (vec![0x7777, 0x7777], WalkEnd::Broken));
        words[1] = 12; // no address
        assert_eq!(walk_words(&words, base), (vec![], WalkEnd::Broken));
    }
}
