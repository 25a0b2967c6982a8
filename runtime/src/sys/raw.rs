//! System calls without libc, for code that may run where libc may not be used: in a signal handler that may have hit a
//! thread before its thread-local storage exists, and while all other threads are stopped. Nothing here touches errno,
//! locks or allocates. Errors are what the kernel gives: negative numbers.

use std::{
    arch::asm,
    ffi::CStr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// # Safety
/// That of the system call.
unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the caller's promise; the clobbers are those of the kernel's calling convention.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// The kernel's id of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: no preconditions.
    unsafe { call(libc::SYS_gettid, [0; 6]) as i32 }
}

/// The process of the calling thread.
pub(crate) fn process_id() -> i32 {
    // SAFETY: no preconditions.
    unsafe { call(libc::SYS_getpid, [0; 6]) as i32 }
}

/// Sends a signal to one thread. 0, or the negative error number.
pub(crate) fn send(process: i32, thread: i32, signal: i32) -> isize {
    // SAFETY: the kernel checks the numbers; what the signal does is up to its handler.
    unsafe { call(libc::SYS_tgkill, [process as usize, thread as usize, signal as usize, 0, 0, 0]) }
}

/// Sleeps while the word behind the pointer, which must be private to the process, holds `expected`; see
/// [`super::futex::wait`].
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    const OPERATION: usize = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    let relative = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(i64::MAX as u64) as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    });
    let relative = relative.as_ref().map_or(0, |time| std::ptr::from_ref(time) as usize);
    // SAFETY: the word and the time outlive the call.
    unsafe { call(libc::SYS_futex, [word.as_ptr() as usize, OPERATION, expected as usize, relative, 0, 0]) };
}

/// Wakes at most `count` of those who sleep on the word.
pub(crate) fn wake(word: &AtomicU32, count: i32) {
    const OPERATION: usize = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: waking does not touch the memory.
    unsafe { call(libc::SYS_futex, [word.as_ptr() as usize, OPERATION, count as usize, 0, 0, 0]) };
}

/// Sleeps, or less if a signal comes.
pub(crate) fn sleep(time: Duration) {
    wait(&AtomicU32::new(0), 0, Some(time));
}

/// Signals that the thread's own doing raises.
const FAULTS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGABRT];

/// All signals but those of faults, one bit each as the kernel has it: also the two that glibc keeps for itself, one of which
/// can end a thread.
pub(crate) const ALL_BUT_FAULTS: u64 = {
    let (mut mask, mut i) = (u64::MAX, 0);
    while i < FAULTS.len() {
        mask &= !(1 << (FAULTS[i] - 1));
        i += 1;
    }
    mask
};

/// Blocks all signals of the calling thread but those of faults. Gives the mask that was in force.
pub(crate) fn block_signals() -> u64 {
    set_signals(ALL_BUT_FAULTS)
}

/// Sets which signals the calling thread blocks, one bit each. Gives those it blocked before.
pub(crate) fn set_signals(mask: u64) -> u64 {
    let mut before = 0_u64;
    let (new, old) = (std::ptr::from_ref(&mask) as usize, std::ptr::from_mut(&mut before) as usize);
    // SAFETY: both masks are of the size given, and outlive the call.
    unsafe { call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, new, old, size_of::<u64>(), 0, 0]) };
    before
}

/// The base of the calling thread's thread-local storage; 0 if it has none.
pub(crate) fn thread_pointer() -> usize {
    let mut pointer = 0_usize;
    #[cfg(target_arch = "x86_64")]
    {
        const ARCH_GET_FS: usize = 0x1003;
        // Not through fs:0, which faults in a thread that has none.
        // SAFETY: the kernel writes one word to the place given.
        unsafe { call(libc::SYS_arch_prctl, [ARCH_GET_FS, std::ptr::from_mut(&mut pointer) as usize, 0, 0, 0, 0]) };
    }
    // SAFETY: reads a register.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, preserves_flags, nomem));
    }
    pointer
}

/// Gives the kernel advice on a range of whole pages. 0, or the negative error number.
pub(crate) fn advise(start: usize, bytes: usize, advice: libc::c_int) -> isize {
    // SAFETY: which advice may be given is up to the caller; those in use here change nothing in this process.
    unsafe { call(libc::SYS_madvise, [start, bytes, advice as usize, 0, 0, 0]) }
}

/// Makes a process that is a copy of this one, with the calling thread only, on a copy of its stack. 0 in the copy; here its
/// number, or the negative error number, and a descriptor for it. Its end sends no signal, and it is waited for with `__WCLONE`
/// only.
#[inline(never)]
pub(crate) fn clone_process(handle: &mut i32) -> isize {
    // SAFETY: memory is not shared, so both can go on from here with the same stack. The descriptor is written here only.
    unsafe { call(libc::SYS_clone, [libc::CLONE_PIDFD as usize, 0, std::ptr::from_mut(handle) as usize, 0, 0, 0]) }
}

/// In a copy of the process: ends with the thread that has made it, dumps no core, runs no signal handler of the program's
/// for its own faults, and keeps no file of the program's open.
pub(crate) fn become_private() {
    /// A limit of 1 keeps programs from being started that take core dumps, too.
    const CORE: libc::rlimit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    /// As the kernel has it: handler, flags, restorer, mask.
    const DEFAULT: [usize; 4] = [libc::SIG_DFL, 0, 0, 0];
    let limit = std::ptr::from_ref(&CORE) as usize;
    let default = std::ptr::from_ref(&DEFAULT) as usize;
    // SAFETY: the memory that is given is constant. What is closed and changed is the copy's own.
    unsafe {
        call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0, 0, 0]);
        call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, limit, 0, 0, 0]);
        for signal in FAULTS {
            call(libc::SYS_rt_sigaction, [signal as usize, default, 0, size_of::<u64>(), 0, 0]);
        }
        call(libc::SYS_close_range, [0, u32::MAX as usize, 0, 0, 0, 0]);
    }
}

/// Makes a thread of this process that calls `entry` on a stack of its own, and ends. It has the caller's signal mask and, because
/// nothing else is made for it, the caller's thread-local variables. Its number, or the negative error number; `alive` is not 0
/// from now on until it has left its stack: see [`wait_for_end`].
///
/// # Safety
/// Below `stack_end`, which is a multiple of 16, is memory enough, and nobody else's while `alive` is not 0. `entry` must not unwind, nor
/// use thread-local variables, and so hardly any of libc.
#[inline(never)]
pub(crate) unsafe fn clone_thread(
    entry: extern "C" fn(usize),
    argument: usize,
    stack_end: usize,
    alive: &AtomicU32,
) -> isize {
    const FLAGS: libc::c_int = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    let result: isize;
    // SAFETY: the caller's promise about the stack; the new thread does not come out of the block.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            // The new thread, with all registers but three as they were. No frame lies below its first.
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov eax, {exit}",
            "xor edi, edi",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") FLAGS as usize, in("rsi") stack_end,
            in("rdx") alive.as_ptr(), in("r10") alive.as_ptr(), in("r8") 0_usize,
            in("r12") entry, in("r13") argument,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x8, {exit}",
            "mov x0, xzr",
            "svc 0",
            "brk 1",
            "2:",
            exit = const libc::SYS_exit,
            in("x8") libc::SYS_clone,
            inlateout("x0") FLAGS as usize => result,
            in("x1") stack_end, in("x2") alive.as_ptr(), in("x3") 0_usize, in("x4") alive.as_ptr(),
            in("x20") entry, in("x21") argument,
            options(nostack),
        );
    }
    result
}

/// Waits until a thread of [`clone_thread`] has left its stack.
pub(crate) fn wait_for_end(alive: &AtomicU32) {
    loop {
        // Acquire: pairs with the kernel's store, which comes after all that the thread has done.
        let thread = alive.load(Ordering::Acquire);
        if thread == 0 {
            return;
        }
        // Not a private one, for the kernel does not wake those.
        // SAFETY: the word outlives the call.
        unsafe {
            call(libc::SYS_futex, [alive.as_ptr() as usize, libc::FUTEX_WAIT as usize, thread as usize, 0, 0, 0])
        };
    }
}

/// Gives the rest of the thread's time to others.
pub(crate) fn let_others_run() {
    // SAFETY: no preconditions.
    unsafe { call(libc::SYS_sched_yield, [0; 6]) };
}

/// The process that has made this one.
pub(crate) fn parent_process_id() -> i32 {
    // SAFETY: no preconditions.
    unsafe { call(libc::SYS_getppid, [0; 6]) as i32 }
}

/// Ends the process at once.
pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: the caller wants nothing of the process any more.
        unsafe { call(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// A file of the kernel's, open for reading; closed when dropped.
pub(crate) struct File(usize);

impl File {
    /// Opens a file or a directory; otherwise the negative error number.
    pub(crate) fn open(path: &CStr) -> Result<Self, isize> {
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
        // SAFETY: the path ends with a zero byte.
        let file = unsafe { call(libc::SYS_openat, [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags, 0, 0, 0]) };
        usize::try_from(file).map(Self).map_err(|_| file)
    }

    /// Reads on from where the last call ended. The number of bytes, 0 at the end, or the negative error number.
    pub(crate) fn read(&self, into: &mut [u8]) -> isize {
        // SAFETY: the buffer is as large as said.
        unsafe { call(libc::SYS_read, [self.0, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) }
    }

    /// The entries of a directory from its start, as many as fit, in one call.
    pub(crate) fn entries(&self, into: &mut [u8]) -> isize {
        // SAFETY: no memory is touched by the first, and the buffer of the second is as large as said.
        unsafe {
            call(libc::SYS_lseek, [self.0, 0, libc::SEEK_SET as usize, 0, 0, 0]);
            call(libc::SYS_getdents64, [self.0, into.as_mut_ptr() as usize, into.len(), 0, 0, 0])
        }
    }

    /// The number of links, as stat gives it; 0 on an error.
    pub(crate) fn links(&self) -> u64 {
        // SAFETY: all-zero is a valid `stat`, which is laid out as the kernel's on 64-bit machines.
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes a `stat` to the place given.
        unsafe { call(libc::SYS_fstat, [self.0, std::ptr::from_mut(&mut status) as usize, 0, 0, 0, 0]) };
        #[allow(clippy::useless_conversion, reason = "32 bits on aarch64")]
        u64::from(status.st_nlink)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own.
        unsafe { call(libc::SYS_close, [self.0, 0, 0, 0, 0, 0]) };
    }
}

/// Copies memory of this process that need not be readable. The number of bytes up to the first page that is not, or the
/// negative error number.
pub(crate) fn copy(process: i32, from: usize, into: &mut [usize]) -> isize {
    let bytes = size_of_val(into);
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: bytes };
    let remote = libc::iovec { iov_base: from as *mut libc::c_void, iov_len: bytes };
    let (local, remote) = (std::ptr::from_ref(&local) as usize, std::ptr::from_ref(&remote) as usize);
    // SAFETY: the kernel checks the source, and the destination is as large as said.
    unsafe { call(libc::SYS_process_vm_readv, [process as usize, local, 1, remote, 1, 0]) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn they_do_what_libc_does() {
        // SAFETY: neither has preconditions.
        let expected = unsafe { (libc::getpid(), libc::gettid()) };
        assert_eq!((process_id(), thread_id()), expected);
        assert_ne!(thread_pointer(), 0);
        let before = block_signals();
        assert_eq!(set_signals(before) & 1, 1, "SIGHUP was blocked");
        assert_eq!(set_signals(before), before);
        let directory = File::open(c"/proc/self/task").unwrap();
        let mut buffer = [0; 4096];
        assert!(directory.entries(&mut buffer) > 0);
        assert!(directory.links() >= 3);
        assert_eq!(File::open(c"/no/such/file").err(), Some(-(libc::ENOENT as isize)));
    }

    #[test]
    fn unreadable_memory_is_no_fault() {
        let words = [1_usize, 2, 3];
        let mut copied = [0; 3];
        assert_eq!(copy(process_id(), words.as_ptr() as usize, &mut copied), 24);
        assert_eq!(copied, words);
        assert!(copy(process_id(), 64, &mut copied) < 0);
    }
}
