//! Threads that help to look at the stopped world.
//!
//! The processors of those who are stopped are free. Threads that existed before would have to be told from others when all are
//! stopped; so these are made afterwards, by the bare system call, and have ended before anybody goes on: no census ever meets
//! one, but one that is about to be gone. In a copy of the process they are made in the same way.
//!
//! They have stacks that were mapped before the stop, all signals blocked as the requester has, and its thread-local variables, so
//! the rules for what they run are those of the closure, and it must not use thread-local variables either.

use std::{io, ptr, sync::atomic::AtomicU32};

use super::Stopped;
use crate::sys::{
    memory::{PAGE, prefetch},
    raw,
};

/// Bytes of a helper's stack: a debug build of a loop over memory takes some ten.
const STACK: usize = 256 << 10;

/// Stacks for helpers, made before the stop. Pages of them cost memory once they are used.
#[derive(Debug)]
pub struct Helpers {
    start: *mut u8,
    count: usize,
}

// SAFETY: it owns its memory.
unsafe impl Send for Helpers {}

impl Helpers {
    /// Stacks for so many.
    ///
    /// # Errors
    /// The system has no memory for them.
    pub fn new(count: usize) -> io::Result<Self> {
        if count == 0 {
            return Ok(Self { start: ptr::null_mut(), count });
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), count * STACK, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let helpers = Self { start: start.cast(), count };
        for number in 0..count {
            // The second page, so that who goes too far does not meet the word in the first.
            // SAFETY: inside of the mapping, which nobody uses yet.
            if unsafe { libc::mprotect(helpers.stack(number).add(PAGE).cast(), PAGE, libc::PROT_NONE) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(helpers)
    }

    fn stack(&self, number: usize) -> *mut u8 {
        // SAFETY: inside of the mapping.
        unsafe { self.start.add(number * STACK) }
    }

    /// Whether the helper uses its stack.
    fn alive(&self, number: usize) -> &AtomicU32 {
        // SAFETY: the start of its part of the mapping, which was zeroes at first.
        unsafe { AtomicU32::from_ptr(self.stack(number).cast()) }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        if self.count > 0 {
            // SAFETY: our mapping, and whoever ran on it has ended.
            unsafe { libc::munmap(self.start.cast(), self.count * STACK) };
        }
    }
}

/// What helpers are given.
struct Job<'j, 'w, F> {
    world: *const Stopped<'w>,
    work: &'j F,
}

/// Where a helper begins. What panics here ends the process.
extern "C" fn begin<'w, F: Fn(&Stopped<'w>) + Sync>(job: usize) {
    // SAFETY: the job outlives all helpers: see `Started`.
    let job = unsafe { &*(job as *const Job<'_, 'w, F>) };
    // SAFETY: of what is no thread's own there, the cells of the world are not written any more: `together` has read the mappings,
    // and the process whose memory is read changes before a look begins.
    (job.work)(unsafe { &*job.world });
}

/// Helpers at work. Dropping it waits for their end.
struct Started<'h> {
    helpers: &'h Helpers,
    count: usize,
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        (0..self.count).for_each(|number| raw::wait_for_end(self.helpers.alive(number)));
    }
}

impl<'w> Stopped<'w> {
    /// Runs `work` on this thread and on helpers, as many of those as can be made, and returns when all are done. What the closure of a
    /// stop may not do, `work` may not either; nor may it use thread-local variables.
    pub fn together<F: Fn(&Self) + Sync>(&self, helpers: &mut Helpers, work: F) {
        if helpers.count == 0 {
            return work(self);
        }
        self.mappings();
        let job = Job { world: ptr::from_ref(self), work: &work };
        let mut started = Started { helpers, count: 0 };
        while started.count < helpers.count {
            let number = started.count;
            let stack_end = helpers.stack(number) as usize + STACK;
            // SAFETY: the helper's stack, which nobody uses, for the last one to do so was waited for. `begin` neither unwinds nor, as
            // the caller has promised for `work`, uses thread-local variables.
            let thread = unsafe {
                raw::clone_thread(begin::<'w, F>, ptr::from_ref(&job) as usize, stack_end, helpers.alive(number))
            };
            if thread < 0 {
                break;
            }
            started.count += 1;
        }
        work(self);
        drop(started);
    }
}

/// Lets other helpers run that this one waits for.
pub fn let_others_run() {
    raw::let_others_run();
}

/// Asks the processor for the cache line of an address, which may be any.
#[inline(always)]
pub fn fetch(address: usize) {
    prefetch(address as *const u8);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::world::{self, stop::Ended};
    use std::{
        sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        thread,
        time::Duration,
    };

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Sums numbers with helpers, and counts them. Each takes part once; who comes late finds nothing to do.
    fn sum(world: &Stopped<'_>, helpers: &mut Helpers, next: &AtomicUsize, total: &AtomicUsize) -> usize {
        let parts = AtomicUsize::new(0);
        world.together(helpers, |_| {
            parts.fetch_add(1, Relaxed);
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number > 1000 {
                    return;
                }
                total.fetch_add(number, Relaxed);
            }
        });
        parts.into_inner()
    }

    #[test]
    fn they_have_ended_when_all_is_done() {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        std::hint::black_box(vec![1; 100]);
                    }
                });
            }
            let mut helpers = Helpers::new(3).unwrap();
            for _ in 0..50 {
                let (next, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let stopped = world::stop(PATIENCE, |world| {
                    let parts = sum(world, &mut helpers, &next, &total);
                    // Used again in the same stop.
                    parts + sum(world, &mut helpers, &next, &total)
                });
                let stopped = stopped.unwrap();
                assert!(stopped.complete);
                assert_eq!((stopped.value, total.into_inner()), (8, 500_500));
            }
            over.store(true, Relaxed);
        });
    }

    #[test]
    fn a_copy_of_the_process_has_its_own() {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping touches no memory of ours.
        let room = unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert_ne!(room, libc::MAP_FAILED);
        let room: *mut AtomicUsize = room.cast();
        // SAFETY: zeroes, which both processes change atomically only, and which stay mapped until the end of the test.
        let (next, total, parts) = unsafe { (&*room, &*room.add(1), &*room.add(2)) };
        let mut helpers = Helpers::new(2).unwrap();
        let fork = world::stop(PATIENCE, |world| {
            world.fork(|world| parts.store(sum(world, &mut helpers, next, total), Relaxed))
        });
        assert_eq!(fork.unwrap().value.unwrap().wait(PATIENCE), Ended::Returned);
        assert_eq!((parts.load(Relaxed), total.load(Relaxed)), (3, 500_500));
        // SAFETY: nobody uses it any more.
        unsafe { libc::munmap(room.cast(), PAGE) };
    }
}
