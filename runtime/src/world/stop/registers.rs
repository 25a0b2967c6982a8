//! The registers of a stopped thread, as the kernel saved them in its signal frame, and those of the requester.

use std::{arch::asm, slice};

use libc::ucontext_t;

/// Bytes below the stack pointer that a function may use without moving it.
pub(super) const RED_ZONE: usize = if cfg!(target_arch = "x86_64") { 128 } else { 0 };

/// Registers that a called function has to preserve: all that a caller of `stop` can have something in. (Of the vector
/// registers, x86_64 preserves none, and aarch64 the lower halves of eight.)
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Preserved {
    /// The registers.
    pub words: [usize; if cfg!(target_arch = "x86_64") { 6 } else { 20 }],
    /// The stack pointer.
    pub sp: usize,
}

impl Preserved {
    /// The frame pointer of the function that they are of.
    pub(super) fn frame_pointer(&self) -> usize {
        self.words[if cfg!(target_arch = "x86_64") { 1 } else { 10 }]
    }
}

/// The registers at this point of the function that this is inlined into. What its callers had in them is here, or on the
/// stack above `sp`.
#[inline(always)]
pub fn preserved() -> Preserved {
    let mut here = Preserved { words: [0; _], sp: 0 };
    let at = std::ptr::from_mut(&mut here);
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
            "stp d8, d9, [{0}, 96]",
            "stp d10, d11, [{0}, 112]",
            "stp d12, d13, [{0}, 128]",
            "stp d14, d15, [{0}, 144]",
            "mov {1}, sp",
            "str {1}, [{0}, 160]",
            in(reg) at,
            out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    here
}

/// What the kernel saved of an interrupted thread.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a>(pub(super) &'a ucontext_t);

impl<'a> Saved<'a> {
    pub(super) fn pc(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        return self.0.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
        #[cfg(target_arch = "aarch64")]
        return self.0.uc_mcontext.pc as usize;
    }

    pub(super) fn sp(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        return self.0.uc_mcontext.gregs[libc::REG_RSP as usize] as usize;
        #[cfg(target_arch = "aarch64")]
        return self.0.uc_mcontext.sp as usize;
    }

    pub(super) fn frame_pointer(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        return self.0.uc_mcontext.gregs[libc::REG_RBP as usize] as usize;
        #[cfg(target_arch = "aarch64")]
        return self.0.uc_mcontext.regs[29] as usize;
    }

    /// All general registers, in the kernel's order, with a few words beside them that are none (flags, fault address).
    pub(super) fn general(self) -> &'a [usize] {
        #[cfg(target_arch = "x86_64")]
        let (first, count) = (self.0.uc_mcontext.gregs.as_ptr().cast(), self.0.uc_mcontext.gregs.len());
        #[cfg(target_arch = "aarch64")]
        let (first, count) = (self.0.uc_mcontext.regs.as_ptr().cast(), self.0.uc_mcontext.regs.len());
        // SAFETY: an array of words of the frame, which lives as long as the context.
        unsafe { slice::from_raw_parts(first, count) }
    }

    /// The area with the floating-point, vector and all further registers.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn extended(self) -> &'a [usize] {
        /// Of the area that every processor has, with sixteen vector registers of 128 bits.
        const LEGACY: usize = 512;
        /// Where the kernel describes in that area what follows it: a magic number, the size with the number that ends the
        /// area, which parts are there (two words), and the size without.
        const DESCRIPTION: usize = 464;
        const MAGIC: u32 = 0x4650_5853;
        let area: *const u8 = self.0.uc_mcontext.fpregs.cast();
        if area.is_null() {
            return &[];
        }
        // SAFETY: the kernel's frame has at least the legacy area, aligned to 64 bytes, with the description in it; it lives
        // as long as the context.
        let (magic, size) = unsafe {
            let description = area.add(DESCRIPTION).cast::<u32>();
            (description.read(), description.add(4).read() as usize)
        };
        let size = if magic == MAGIC { size.max(LEGACY) } else { LEGACY };
        // SAFETY: the size is the one that the kernel gave for the area.
        unsafe { slice::from_raw_parts(area.cast(), size / size_of::<usize>()) }
    }

    /// The records of the vector registers, as far as they lie in the context itself. Those of SVE do up to 896 bits; larger
    /// ones lie behind it and are not found, a limit.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn extended(self) -> &'a [usize] {
        const RESERVED: usize = 4096;
        let context = &self.0.uc_mcontext;
        // SAFETY: the context ends with the kernel's reserved area, aligned to 16 bytes.
        unsafe {
            let end = std::ptr::from_ref(context).add(1).cast::<u8>();
            slice::from_raw_parts(end.sub(RESERVED).cast(), RESERVED / size_of::<usize>())
        }
    }

    /// The thread's alternate signal stack.
    pub(super) fn signal_stack(self) -> std::ops::Range<usize> {
        let stack = &self.0.uc_stack;
        if stack.ss_flags & libc::SS_DISABLE != 0 {
            return 0..0;
        }
        stack.ss_sp as usize..stack.ss_sp as usize + stack.ss_size
    }
}
