//! A chain of inlined calls that is known by construction, for the tests of everything that shows frames.
//!
//! It is a file of its own because the names of inlined functions come from files where debug information has line tables
//! only, so that the same names are expected in every build profile.

use std::hint::black_box;

/// Readable names of the frames at the address before [`outer`]'s result, innermost first.
pub(crate) const NAMES: [&str; 3] = [
    "greenprof_profiler::symbolize::chain::inner",
    "greenprof_profiler::symbolize::chain::middle",
    "greenprof_profiler::symbolize::chain::outer",
];

#[inline(always)]
fn inner() -> usize {
    return_address()
}

#[inline(always)]
fn middle() -> usize {
    black_box(inner()) + black_box(0)
}

/// Line on which [`outer`] begins.
pub(crate) const OUTER_LINE: u32 = line!() + 5;

/// A return address inside this function, into which `middle` is inlined, and into that `inner`. The next line calls
/// them.
#[inline(never)]
pub(crate) fn outer() -> usize {
    black_box(middle()) + black_box(0)
}

/// Where [`outer`] begins.
pub(crate) fn outer_start() -> usize {
    outer as fn() -> usize as usize
}

/// The address its caller continues at, which lies in the code of that caller.
#[inline(never)]
fn return_address() -> usize {
    let frame: *const usize;
    // SAFETY: only copies the frame pointer.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the workspace is built with frame pointers, so the word above the saved one is the return address.
    unsafe { *frame.add(1) }
}
