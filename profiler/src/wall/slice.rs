//! A short slice for the thread that looks.
//!
//! A thread that wakes beside one that computes gets its turn when that one's slice is over, some milliseconds later: a task that computes
//! for less than that would be seen when it has ended, and never while it computes. Linux lets a thread ask for a shorter slice (since 6.12,
//! for ordinary threads as well), and one with a shorter slice takes the processor when it wakes. It gets no more time for it.

use std::mem;

/// The shortest that the kernel grants.
const SLICE_NANOSECONDS: u64 = 100_000;

/// The kernel's structure, as of its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for a short slice for the calling thread. An older kernel, or one that does not permit it, leaves it as it is.
pub(super) fn shorten() {
    let mut attributes = Attributes::default();
    let size = mem::size_of::<Attributes>();
    // SAFETY: the kernel writes `size` bytes at the most, and reads as many; thread 0 is the calling one.
    unsafe {
        if libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) == 0 {
            attributes.runtime = SLICE_NANOSECONDS;
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_keeps_its_policy_and_its_rank() {
        std::thread::spawn(|| {
            let read = || {
                let mut attributes = Attributes::default();
                let size = mem::size_of::<Attributes>();
                // SAFETY: as in `shorten`.
                let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
                assert_eq!(result, 0);
                (attributes.policy, attributes.nice)
            };
            let before = read();
            shorten();
            assert_eq!(read(), before);
        })
        .join()
        .unwrap();
    }
}
