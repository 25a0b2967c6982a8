//! Short slices of a processor for a thread.

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

/// Asks the system to give the calling thread its share of a processor in slices of a tenth of a millisecond. For the threads of instruments.
///
/// Where all processors are busy, a thread that wakes gets its turn when the slice of another is over, and keeps others waiting for its
/// own: some milliseconds each. Who looks at the program every few milliseconds would come too late, and who has much to do would keep a worker
/// from its tasks. Linux lets a thread ask for a shorter slice (since 6.12, for ordinary threads as well). It gets no more time for that, takes
/// the processor when it wakes, and lets others have it in between. An older kernel, or one that does not permit it, leaves all as it is.
///
/// ```
/// std::thread::spawn(|| {
///     greenprof_runtime::hooks::take_short_slices();
///     // looks at the program now and then
/// });
/// ```
pub fn take_short_slices() {
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
                // SAFETY: as in `take_short_slices`.
                let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
                assert_eq!(result, 0);
                (attributes.policy, attributes.nice)
            };
            let before = read();
            take_short_slices();
            assert_eq!(read(), before);
        })
        .join()
        .unwrap();
    }
}
