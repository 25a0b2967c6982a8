//! Requests within and beside each other.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use greenprof_runtime::world::{self, stop::StopError};

use crate::{PATIENT, alone};

#[test]
fn a_stop_within_a_stop_is_refused() {
    let _alone = alone();
    assert!(!world::stop::inside());
    let stop = world::stop(PATIENT, |_| {
        (world::stop::inside(), matches!(world::stop(PATIENT, |_| ()), Err(StopError::Nested)))
    });
    assert_eq!(stop.unwrap().value, (true, true));
    assert!(!world::stop::inside());
}

#[test]
fn requests_come_one_after_another() {
    let _alone = alone();
    let inside = Arc::new(AtomicU64::new(0));
    let barrier = Arc::new(Barrier::new(4));
    let requesters: Vec<_> = (0..4)
        .map(|_| {
            let (inside, barrier) = (inside.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                for _ in 0..50 {
                    let stop = world::stop(PATIENT, |_| {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                    assert!(stop.unwrap().complete);
                }
            })
        })
        .collect();
    requesters.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_panic_in_the_closure_releases_the_world() {
    let _alone = alone();
    // What panics here has nobody else's locks to wait for: the only other threads sleep.
    let caught = std::panic::catch_unwind(|| world::stop(PATIENT, |_| std::panic::resume_unwind(Box::new(()))));
    assert!(caught.is_err());
    assert!(world::stop(PATIENT, |world| world.complete()).unwrap().value);
}
