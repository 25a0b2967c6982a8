//! What a thread knows of itself: its id, the bounds of its stack, and the stack its signal handlers run on.

use std::{
    io,
    mem::{self, MaybeUninit},
    ops::Range,
    ptr,
    sync::Once,
};

use super::memory::{self, PAGE};

/// The kernel's id of the calling thread.
pub(crate) fn id() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// The processor that the caller runs on at this moment, for choosing among copies of something; 0 if the system does not
/// tell.
pub(crate) fn processor() -> usize {
    // SAFETY: sched_getcpu has no preconditions.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Whether a thread of this process waits in the kernel, rather than running or wanting to.
pub(crate) fn sleeps(thread: i32) -> bool {
    // The state is the field behind the name, which stands in parentheses and may contain any.
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'D']))
}

/// The address range of the calling thread's stack, lowest address first; empty if the system does not tell.
pub(crate) fn stack_bounds() -> Range<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut start = ptr::null_mut();
    let mut size = 0;
    // SAFETY: pthread_getattr_np initialises `attributes` when it returns 0, and only then is it read and destroyed.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return 0..0;
        }
        libc::pthread_attr_getstack(attributes.as_ptr(), &mut start, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    start as usize..start as usize + size
}

/// An alternate signal stack for the calling thread, in place until it is dropped on the same thread.
///
/// std's own is only as large as the kernel demands (8 KiB, or AT_MINSIGSTKSZ), which a signal frame with AVX-512 or
/// AMX state can nearly fill. Task stacks never carry signal frames, whatever their size.
pub(crate) struct SignalStack {
    base: *mut u8,
    bytes: usize,
    previous: libc::stack_t,
}

impl SignalStack {
    /// Room for handlers beyond the frame that the kernel writes.
    const HANDLER_ROOM: usize = 64 << 10;

    pub(crate) fn install() -> io::Result<Self> {
        // SAFETY: getauxval has no preconditions; it gives 0 for a value that the kernel does not have.
        let kernel = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        let bytes = (kernel.max(libc::MINSIGSTKSZ) + Self::HANDLER_ROOM).next_multiple_of(PAGE) + PAGE;
        let base = memory::reserve(bytes, PAGE)?;
        let mut previous = MaybeUninit::<libc::stack_t>::uninit();
        // SAFETY: the lowest page of a mapping that only we know of becomes the guard; the rest is a valid signal stack,
        // which stays mapped until `drop` has replaced it.
        unsafe {
            let _ = memory::guard(base, PAGE);
            let stack = libc::stack_t { ss_sp: base.add(PAGE).cast(), ss_flags: 0, ss_size: bytes - PAGE };
            if libc::sigaltstack(&stack, previous.as_mut_ptr()) != 0 {
                let error = io::Error::last_os_error();
                memory::unmap(base, bytes);
                return Err(error);
            }
            Ok(Self { base, bytes, previous: previous.assume_init() })
        }
    }
}

/// Gives the calling thread a signal stack for good, if it is the main thread and has one of std's size. std unmaps its own when any
/// thread ends the process, with the main thread's handlers on it or still to come (rust-lang/rust#161018).
pub(crate) fn keep_main_signal_stack() {
    static ONCE: Once = Once::new();
    // SAFETY: getpid has no preconditions.
    if id() != unsafe { libc::getpid() } {
        return;
    }
    ONCE.call_once(|| {
        // Without memory, all is as it was.
        if let Ok(stack) = SignalStack::install()
            && stack.previous.ss_size < SignalStack::HANDLER_ROOM
        {
            mem::forget(stack);
        }
    });
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // SAFETY: the thread is not on the signal stack (it runs this), so it can be replaced and then unmapped.
        unsafe {
            libc::sigaltstack(&self.previous, ptr::null_mut());
            memory::unmap(self.base, self.bytes);
        }
    }
}
