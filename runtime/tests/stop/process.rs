//! Forked children, and a main thread that ends.

use std::{mem, ptr, sync::atomic::Ordering, thread, time::Duration};

use greenprof_runtime::world::{self, stop::ThreadState};

use crate::{Companion, PATIENT, alone, sleep_until};

/// Runs `child` in a forked process, and gives its exit code.
fn in_a_fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only stops the world, which allocates nothing, and ends without running anything else.
    unsafe {
        let process = libc::fork();
        if process == 0 {
            // One that hangs fails, and does not hold up all tests.
            libc::alarm(60);
            libc::_exit(child());
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(process, &mut status, 0), process);
        assert!(libc::WIFEXITED(status), "{status:#x}");
        libc::WEXITSTATUS(status)
    }
}

#[test]
fn a_forked_child_knows_nothing_of_its_parents_stop() {
    let _alone = alone();
    let companion = Companion::new(sleep_until);
    let requester = Companion::new(|end| {
        while !end.load(Ordering::Acquire) {
            let stop = world::stop(PATIENT, |_| thread::sleep(Duration::from_micros(300)));
            assert!(stop.unwrap().complete);
        }
    });
    // Some of the forks come while the other thread holds the lock.
    for _ in 0..30 {
        let code = in_a_fork(|| match world::stop(PATIENT, |world| world.threads().count()) {
            Ok(stop) if stop.complete && stop.value == 1 => 0,
            _ => 1,
        });
        assert_eq!(code, 0);
    }
    drop((companion, requester));
}

#[test]
fn a_main_thread_that_has_ended_is_dead() {
    let _alone = alone();
    extern "C" fn last(main: *mut libc::c_void) -> *mut libc::c_void {
        thread::sleep(Duration::from_millis(50));
        let stop = world::stop(PATIENT, |world| world.thread(main as usize as i32).map(|thread| thread.state()));
        let good = stop.is_ok_and(|stop| stop.complete && stop.value == Some(ThreadState::Dead));
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(!good)) }
    }
    let code = in_a_fork(|| {
        // SAFETY: the new thread does not need this one.
        unsafe {
            let mut thread = mem::zeroed();
            libc::pthread_create(&mut thread, ptr::null(), last, libc::getpid() as usize as *mut _);
            libc::syscall(libc::SYS_exit, 0);
        }
        2
    });
    assert_eq!(code, 0);
}
