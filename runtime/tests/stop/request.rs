//! Requests within and beside each other.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::world::{self, stop::StopError};

use crate::{Companion, PATIENT, alone};

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

#[test]
fn the_program_gets_on_while_one_stop_follows_another() {
    const THREADS: usize = 6;
    const STEPS: u64 = 200;
    let _alone = alone();
    let steps: Arc<[AtomicU64; THREADS]> = Arc::default();
    let companions: Vec<_> = (0..THREADS)
        .map(|i| {
            let steps = steps.clone();
            Companion::new(move |end| {
                while !end.load(Ordering::Acquire) {
                    steps[i].fetch_add(1, Ordering::Relaxed);
                    // Each step wakes from a sleep, which a stop interrupts.
                    thread::sleep(Duration::from_micros(10));
                }
            })
        })
        .collect();
    let least = || steps.iter().map(|step| step.load(Ordering::Relaxed)).min().unwrap();
    // When stops kept no distance, some thread never got there.
    let stops = (0..100 * STEPS).take_while(|_| {
        assert!(world::stop(PATIENT, |_| ()).unwrap().complete);
        least() < STEPS
    });
    let stops = stops.count() as u64;
    assert!(least() >= STEPS, "{} steps in {stops} stops", least());
    drop(companions);
}
