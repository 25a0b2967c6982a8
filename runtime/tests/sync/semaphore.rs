//! `Semaphore`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    spawn,
    sync::{Chan, Semaphore},
    task::WaitReason,
    yield_now,
};

use crate::{everywhere, join_all, panic_text, run, spawn_waiters, until_waiting};

#[test]
fn no_more_than_the_permits_are_inside() {
    let semaphore = Semaphore::new(3);
    let inside = Arc::new(AtomicUsize::new(0));
    let shared = semaphore.clone();
    everywhere(move |n| {
        for round in 0..500 {
            let permit = if (n + round) % 5 == 0 { shared.try_acquire() } else { Some(shared.acquire()) };
            if let Some(_permit) = permit {
                assert!(inside.fetch_add(1, Ordering::Relaxed) < 3);
                if round % 16 == 0 && greenprof_runtime::task::current_id().is_some() {
                    yield_now();
                }
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn permits_go_to_the_first_who_wait() {
    run(1, || {
        let semaphore = Semaphore::new(0);
        let order = Chan::with_capacity(10);
        let (shared, log) = (semaphore.clone(), order.clone());
        let tasks = spawn_waiters(6, WaitReason::Semaphore, move |n| {
            let permit = shared.acquire();
            log.send(n).unwrap();
            if n > 3 {
                drop(permit);
            } else {
                permit.forget();
            }
        });
        semaphore.add_permits(1);
        assert!(semaphore.try_acquire().is_none(), "it is the first waiter's, though that has not run yet");
        while order.is_empty() {
            yield_now();
        }
        semaphore.add_permits(4);
        join_all(tasks);
        order.close();
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_permit_may_be_given_back_elsewhere_and_outlives_the_semaphore() {
    run(2, || {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire();
        assert!(semaphore.try_acquire().is_none());
        let shared = semaphore.clone();
        let waiter = spawn_waiters(1, WaitReason::Semaphore, move |_| shared.acquire());
        std::thread::spawn(move || drop(permit)).join().unwrap();
        drop(semaphore);
        let permit = join_all(waiter).pop().unwrap();
        assert_eq!(format!("{permit:?}"), "Permit");
    });
}

#[test]
fn a_panic_gives_the_permit_back() {
    run(1, || {
        let semaphore = Semaphore::new(1);
        let shared = semaphore.clone();
        let task = spawn(move || {
            let _permit = shared.acquire();
            panic!("on purpose");
        });
        assert!(task.join().is_err());
        assert_eq!(format!("{semaphore:?}"), "Semaphore { available: 1 }");
    });
}

#[test]
fn too_many_permits_panic_with_a_sentence() {
    let semaphore = Semaphore::new(2);
    let permit = semaphore.acquire();
    let text = panic_text(|| semaphore.add_permits(usize::MAX - 1));
    assert_eq!(text, format!("a Semaphore cannot have more than {} permits", usize::MAX));
    assert_eq!(semaphore.available(), 1, "nothing has changed");
    semaphore.add_permits(usize::MAX - 2);
    drop(permit);
    assert_eq!(semaphore.available(), usize::MAX);
}

#[test]
fn permits_that_come_too_late_go_to_others() {
    run(1, || {
        let semaphore = Semaphore::new(0);
        let shared = semaphore.clone();
        let late = spawn(move || shared.acquire_timeout(Duration::from_millis(5)).is_none());
        let shared = semaphore.clone();
        let patient = spawn(move || shared.acquire());
        assert!(late.join().unwrap(), "nobody has given any");
        until_waiting(1, WaitReason::Semaphore);
        semaphore.add_permits(1);
        drop(patient.join().unwrap());
        assert_eq!(semaphore.available(), 1);
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_some(), "there is one");
    });
    let start = Instant::now();
    assert!(Semaphore::new(0).acquire_timeout(Duration::from_millis(5)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(5), "on a plain thread as well");
}

#[test]
fn permits_and_timeouts_that_race_lose_nothing() {
    let semaphore = Semaphore::new(2);
    let inside = Arc::new(AtomicUsize::new(0));
    let shared = semaphore.clone();
    everywhere(move |n| {
        for round in 0..300_u64 {
            let patience = Duration::from_micros((round * 7 + n as u64 * 13) % 80);
            if let Some(_permit) = shared.acquire_timeout(patience) {
                assert!(inside.fetch_add(1, Ordering::Relaxed) < 2);
                if round % 4 == 0 {
                    greenprof_runtime::sleep(Duration::from_micros(30));
                }
                inside.fetch_sub(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(semaphore.available(), 2);
}
