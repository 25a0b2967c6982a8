//! The program and the libraries that are loaded.
//!
//! The C library keeps their list under a lock of its own, which it does not make anew in a forked child (glibc, as of 2.36:
//! `dl_load_write_lock`): a child that asks for the list waits for ever if another thread was reading it at the fork. So all
//! readers of this process come through here, and none of them reads while somebody forks. Who reads the list otherwise
//! (std, when it prints a backtrace) is not helped.

use std::{hint, ptr, sync::Once};

use libc::{c_int, c_void, dl_phdr_info, size_t};

use crate::heap::lock::RawLock;

/// Held while the list is read, and while the process forks.
static READING: RawLock = RawLock::new();

/// Calls `each` for the loaded modules, with the size of what the loader tells of each, until it gives `false`.
///
/// The loader's lock is held meanwhile: `each` must not load or unload a library, list the modules, or fork. It may
/// allocate. Some 0.1 us a module, more if somebody forks. Not to be called in a stopped world, where others may hold the lock.
pub fn for_each_module<F: FnMut(&dl_phdr_info, usize) -> bool>(mut each: F) {
    unsafe extern "C" fn call<F: FnMut(&dl_phdr_info, usize) -> bool>(
        module: *mut dl_phdr_info,
        size: size_t,
        each: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a module, and the closure that it was given below.
        let go_on = unsafe { (*each.cast::<F>())(&*module, size) };
        c_int::from(!go_on)
    }
    register();
    READING.lock();
    // SAFETY: the callback gets the closure it was made for, which lives longer than the call. A panic in it ends the process.
    unsafe { libc::dl_iterate_phdr(Some(call::<F>), ptr::from_mut(&mut each).cast()) };
    READING.unlock();
}

/// Has the lock held around every fork.
fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // What is registered later is called earlier before a fork. A reader allocates while it holds this lock, so the heap,
        // which registers with the first block, must take its locks after this one.
        drop(hint::black_box(Box::new(0_u8)));
        // SAFETY: two functions that live as long as the program. Without memory for them a forked child is as it was without us.
        unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
    });
}

extern "C" fn before() {
    READING.lock();
}

extern "C" fn after() {
    READING.unlock();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        env,
        process::Command,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    fn count() -> usize {
        let mut count = 0;
        for_each_module(|_, _| {
            count += 1;
            true
        });
        count
    }

    #[test]
    fn listing_ends_when_the_caller_has_enough() {
        let mut calls = 0;
        for_each_module(|_, _| {
            calls += 1;
            false
        });
        assert_eq!(calls, 1);
        assert!(count() > 1);
    }

    /// In a process of its own: std reads the list, too, when it prints the stack of a panic, and a test beside this one may.
    #[test]
    fn a_child_that_is_forked_while_others_read_can_read() {
        let mut alone = Command::new(env::current_exe().unwrap());
        let output =
            alone.args(["--exact", "--ignored", "world::modules::tests::forks_while_others_read"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{output:?}");
    }

    #[test]
    #[ignore = "run by `a_child_that_is_forked_while_others_read_can_read`"]
    fn forks_while_others_read() {
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    count();
                }
            });
            for _ in 0..300 {
                // SAFETY: the child lists the modules, which allocates nothing, and ends. One that hangs is killed.
                let status = unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        libc::alarm(60);
                        libc::_exit(i32::from(count() == 0));
                    }
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &mut status, 0), child);
                    status
                };
                if status != 0 {
                    end.store(true, Ordering::Relaxed);
                    panic!("the child has ended with {status:#x}");
                }
            }
            end.store(true, Ordering::Relaxed);
        });
    }
}
