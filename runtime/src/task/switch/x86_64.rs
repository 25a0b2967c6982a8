//! The switch for x86_64, System V calling convention.

use std::arch::{asm, naked_asm};

use super::SavedFrame;

/// Words of a saved context: rbp, rbx, address to continue at. The compiler cannot be told that rbp and rbx are
/// clobbered, so they are the two that the switch saves itself.
const SAVED_WORDS: usize = 3;
/// The same in bytes: how far above the saved stack pointer the context continues.
pub(crate) const SAVED_BYTES: usize = SAVED_WORDS * size_of::<usize>();

/// Leaves the running context, storing its stack pointer at `save`, and continues the one saved at `to`, which
/// receives `message`. Returns the message of whoever switches back.
///
/// # Safety
/// `to` must be a context saved by `switch` or made by [`prepare`], not continued since, and its stack must be live.
/// `save` must be writable, and what it points to must stay valid until somebody has switched back.
#[inline(always)]
pub(crate) unsafe fn switch(save: *mut *mut u8, to: *mut u8, message: usize) -> usize {
    let answer;
    // SAFETY: the record pushed here is the one popped by the switch that comes back; all other registers are outputs,
    // and the memory clobber (no `nomem`) keeps values from being cached across.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]",
            "push rax",
            "push rbx",
            "push rbp",
            "mov [rdi], rsp",
            "mov rsp, rsi",
            "pop rbp",
            "pop rbx",
            "pop rax",
            "xor r12d, r12d",
            "xor r13d, r13d",
            "xor r14d, r14d",
            "xor r15d, r15d",
            "jmp rax",
            "2:",
            inout("rdi") save => _,
            inout("rsi") to => _,
            inout("rdx") message => answer,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
    answer
}

/// Writes a context below `top` that will call `entry` with the first message, and returns its stack pointer.
///
/// # Safety
/// The words below `top` must be writable and unused; `entry` must never return.
pub(crate) unsafe fn prepare(top: *mut u8, entry: extern "C" fn(usize) -> !) -> *mut u8 {
    let top = top.wrapping_sub(top as usize % 16);
    // `trampoline` starts with rsp = `entry_slot`, a multiple of 16, as its call requires.
    let entry_slot = top.wrapping_sub(16).cast::<usize>();
    let sp = entry_slot.wrapping_sub(SAVED_WORDS);
    // SAFETY: the caller gives us the words below `top`.
    unsafe {
        entry_slot.write(entry as usize);
        sp.write(0);
        sp.add(1).write(0);
        // Behind the trampoline's first instruction: one less, as for any return address, is still the trampoline.
        sp.add(2).write(trampoline as *const () as usize + 1);
    }
    sp.cast()
}

/// The frame of a context saved at `sp`.
///
/// # Safety
/// `sp` must have been saved by [`switch`] or made by [`prepare`], and its stack must be mapped. The context may be
/// running again: then the answer means nothing, and the caller finds out by the task's epoch.
pub(crate) unsafe fn saved_frame(sp: *const u8) -> SavedFrame {
    let words = sp.cast::<usize>();
    // SAFETY: the three words are inside the task's stack. Volatile, because the task may write them at the same time.
    unsafe { SavedFrame { pc: words.add(2).read_volatile(), frame_pointer: words.read_volatile() } }
}

/// The first code of every task: calls the entry with the message, on a chain of frame pointers that ends here.
///
/// The undefined return address ends every unwinder's walk, so a backtrace in a task stops at the task's own frames.
#[unsafe(naked)]
unsafe extern "C" fn trampoline() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "nop",
        "mov rdi, rdx",
        "mov rax, [rsp]",
        "xor ebp, ebp",
        "call rax",
        "ud2",
        ".cfi_endproc",
    );
}
