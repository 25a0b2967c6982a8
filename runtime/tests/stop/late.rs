//! Threads that block the signal, for good or for a while.

use std::{
    mem, ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::world::{
    self,
    stop::{Missed, Patience, ThreadState},
};

use crate::{Companion, PATIENT, alone, sleep_until};

fn block(signal: Option<i32>) {
    // SAFETY: the set is initialised, and only this thread's mask changes.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigfillset(&mut set);
        if let Some(signal) = signal {
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
    }
}

#[test]
fn a_thread_that_blocks_the_signal_is_missed_and_named() {
    let _alone = alone();
    let signal = libc::SIGRTMIN() + world::stop::DEFAULT_SIGNAL;
    let queued = Arc::new(AtomicU32::new(0));
    let companion = Companion::new({
        let queued = queued.clone();
        move |end| {
            block(Some(signal));
            sleep_until(end);
            // SAFETY: the set is initialised, and no time to wait is given.
            unsafe {
                let mut set = mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, signal);
                let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                while libc::sigtimedwait(&set, ptr::null_mut(), &at_once) == signal {
                    queued.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    thread::sleep(Duration::from_millis(20));
    let short = Patience { deadline: Duration::from_millis(5), attempts: 2 };
    let before = world::stop::pauses();
    let mut asleep = 0;
    for _ in 0..20 {
        let stop = world::stop(short, |world| {
            let thread = world.thread(companion.id).expect("listed");
            (thread.state(), thread.sp(), thread.registers().len())
        })
        .unwrap();
        assert!(!stop.complete && stop.pause.attempts == 2);
        assert!(stop.pause.stopping >= short.deadline);
        let (state, sp, registers) = stop.value;
        assert_eq!((state, registers), (ThreadState::Missed(Missed::Masked), 0));
        asleep += u32::from(sp != 0);
    }
    assert!(asleep > 0, "it sleeps most of the time, and then the kernel tells where");
    let pauses = world::stop::pauses();
    assert_eq!((pauses.incomplete - before.incomplete, pauses.retries - before.retries), (20, 20));
    drop(companion);
    let queued = queued.load(Ordering::Relaxed);
    assert!((1..=3).contains(&queued), "{queued} signals waited after 40 attempts");
    assert!(world::stop(PATIENT, |_| ()).unwrap().complete);
}

#[test]
fn a_thread_that_unblocks_the_signal_in_time_is_waited_for() {
    let _alone = alone();
    let companion = Companion::new(|end| {
        while !end.load(Ordering::Acquire) {
            block(None);
            thread::sleep(Duration::from_millis(5));
            // SAFETY: as in `block`.
            unsafe {
                let mut set = mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut());
            }
        }
    });
    for _ in 0..20 {
        let stop = world::stop(PATIENT, |world| world.thread(companion.id).map(|thread| thread.state())).unwrap();
        assert!(stop.complete);
        assert_eq!(stop.value, Some(ThreadState::Stopped));
    }
}
