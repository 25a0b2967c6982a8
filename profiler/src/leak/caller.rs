//! Where the program called the detector. What lies below is the detector's, and no root.

use std::arch::asm;

/// The registers that a function preserves, and the stack pointer, in the function that this was made in.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Caller {
    pub(super) registers: [usize; if cfg!(target_arch = "x86_64") { 6 } else { 12 }],
    pub(super) sp: usize,
    /// The thread that the caller's stack is on, when the world is stopped.
    pub(super) thread: i32,
}

impl Caller {
    /// What the callers of the function that this is inlined into have in registers is here, or on the stack above `sp`.
    #[inline(always)]
    pub(super) fn here() -> Self {
        let mut caller = Self::default();
        let at = &raw mut caller;
        // SAFETY: stores registers to the fields of a local.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov [{0}], rbx",
                "mov [{0} + 8], rbp",
                "mov [{0} + 16], r12",
                "mov [{0} + 24], r13",
                "mov [{0} + 32], r14",
                "mov [{0} + 40], r15",
                "mov [{0} + 48], rsp",
                in(reg) at,
                options(nostack, preserves_flags),
            );
        }
        // The lower halves of eight vector registers are preserved, too: handles are not kept there across calls, and if one
        // were, it would be on the stack of a function below that uses the register.
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "stp x19, x20, [{0}]",
                "stp x21, x22, [{0}, 16]",
                "stp x23, x24, [{0}, 32]",
                "stp x25, x26, [{0}, 48]",
                "stp x27, x28, [{0}, 64]",
                "stp x29, x30, [{0}, 80]",
                "mov {1}, sp",
                "str {1}, [{0}, 96]",
                in(reg) at,
                out(reg) _,
                options(nostack, preserves_flags),
            );
        }
        caller
    }
}
