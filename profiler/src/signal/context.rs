//! What the kernel saved of an interrupted thread, as far as a stack walk needs it.

use libc::{c_void, ucontext_t};

/// The registers of an interrupted thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    pub(crate) pc: usize,
    pub(crate) sp: usize,
    pub(crate) frame_pointer: usize,
    /// Where the thread's own memory starts: of a thread made by pthread_create, just above its stack.
    pub(crate) thread_pointer: usize,
}

impl Registers {
    /// # Safety
    /// `context` must be what a signal handler was given.
    pub(crate) unsafe fn of(context: *const c_void) -> Self {
        // SAFETY: the caller's promise.
        let machine = unsafe { &(*context.cast::<ucontext_t>()).uc_mcontext };
        #[cfg(target_arch = "x86_64")]
        return Self {
            pc: machine.gregs[libc::REG_RIP as usize] as usize,
            sp: machine.gregs[libc::REG_RSP as usize] as usize,
            frame_pointer: machine.gregs[libc::REG_RBP as usize] as usize,
            thread_pointer: thread_pointer(),
        };
        #[cfg(target_arch = "aarch64")]
        return Self {
            pc: machine.pc as usize,
            sp: machine.sp as usize,
            frame_pointer: machine.regs[29] as usize,
            thread_pointer: thread_pointer(),
        };
    }
}

fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: on x86_64 the first word of the thread's control block points to itself; on aarch64 a register is read.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem));
    }
    pointer
}

/// Looks at the interrupted instruction of a function that keeps a frame pointer. While it sets up or takes down its
/// frame, that is still or already its caller's, and a plain walk would miss the caller. Then: how many words above the
/// stack pointer the return address ends.
pub(crate) fn frameless(registers: &Registers) -> Option<u16> {
    // The upper half of the address space is the kernel's; the vsyscall page there can be executed, but not read.
    if !cfg!(target_arch = "x86_64") || (registers.pc as isize) < 4096 {
        return None;
    }
    // SAFETY: the thread was about to execute these bytes, so the first one is mapped; the others are read only as the
    // continuation of an instruction that starts with it.
    let code = |offset: usize| unsafe { ((registers.pc + offset) as *const u8).read_volatile() };
    match code(0) {
        0x55 | 0xc3 => Some(1),                                                   // push rbp; ret
        0x48 if code(1) == 0x89 && code(2) == 0xe5 => Some(2),                    // mov rbp, rsp
        0xf3 if code(1) == 0x0f && code(2) == 0x1e && code(3) == 0xfa => Some(1), // endbr64
        _ => None,
    }
}
