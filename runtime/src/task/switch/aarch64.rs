//! The switch for aarch64, AAPCS64. The twin of `x86_64.rs`, which is the one that is tested.

use std::arch::{asm, naked_asm};

use super::SavedFrame;

/// Words of a saved context: x29 (frame pointer), x19, address to continue at, padding to 16 bytes.
const SAVED_WORDS: usize = 4;
/// See the x86_64 twin.
pub(crate) const SAVED_BYTES: usize = SAVED_WORDS * size_of::<usize>();

/// See the x86_64 twin.
///
/// # Safety
/// See the x86_64 twin.
#[inline(always)]
pub(crate) unsafe fn switch(save: *mut *mut u8, to: *mut u8, message: usize) -> usize {
    let answer;
    // SAFETY: as in the x86_64 twin. x19 and x29 cannot be declared clobbered, so the switch saves them itself.
    unsafe {
        asm!(
            "adr x9, 2f",
            "sub sp, sp, #32",
            "stp x29, x19, [sp]",
            "str x9, [sp, #16]",
            "mov x9, sp",
            "str x9, [x0]",
            "mov sp, x1",
            "ldp x29, x19, [sp]",
            "ldr x9, [sp, #16]",
            "add sp, sp, #32",
            "mov x20, xzr",
            "mov x21, xzr",
            "mov x22, xzr",
            "mov x23, xzr",
            "mov x24, xzr",
            "mov x25, xzr",
            "mov x26, xzr",
            "mov x27, xzr",
            "mov x28, xzr",
            "br x9",
            "2:",
            inout("x0") save => _,
            inout("x1") to => _,
            inout("x2") message => answer,
            out("x20") _,
            out("x21") _,
            out("x22") _,
            out("x23") _,
            out("x24") _,
            out("x25") _,
            out("x26") _,
            out("x27") _,
            out("x28") _,
            out("x30") _,
            out("v8") _,
            out("v9") _,
            out("v10") _,
            out("v11") _,
            out("v12") _,
            out("v13") _,
            out("v14") _,
            out("v15") _,
            clobber_abi("C"),
        );
    }
    answer
}

/// See the x86_64 twin.
///
/// # Safety
/// See the x86_64 twin.
pub(crate) unsafe fn prepare(top: *mut u8, entry: extern "C" fn(usize) -> !) -> *mut u8 {
    let top = top.wrapping_sub(top as usize % 16);
    let entry_slot = top.wrapping_sub(16).cast::<usize>();
    let sp = entry_slot.wrapping_sub(SAVED_WORDS);
    // SAFETY: the caller gives us the words below `top`.
    unsafe {
        entry_slot.write(entry as usize);
        sp.write(0);
        sp.add(1).write(0);
        // Behind the trampoline's first instruction: one less, as for any return address, is still the trampoline.
        sp.add(2).write(trampoline as *const () as usize + 4);
    }
    sp.cast()
}

/// See the x86_64 twin.
///
/// # Safety
/// See the x86_64 twin.
pub(crate) unsafe fn saved_frame(sp: *const u8) -> SavedFrame {
    let words = sp.cast::<usize>();
    // SAFETY: as in the x86_64 twin.
    unsafe { SavedFrame { pc: words.add(2).read_volatile(), frame_pointer: words.read_volatile() } }
}

/// The first code of every task. See the x86_64 twin.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        "nop",
        "mov x0, x2",
        "ldr x9, [sp]",
        "mov x29, xzr",
        "mov x30, xzr",
        "blr x9",
        "brk #1",
        ".cfi_endproc",
    );
}
