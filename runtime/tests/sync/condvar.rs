//! `Condvar`.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use greenprof_runtime::{
    spawn,
    sync::{Condvar, Mutex, RwLock},
    task::WaitReason,
    yield_now,
};

use crate::{everywhere, join_all, run, spawn_waiters, until_waiting, waiting};

#[test]
fn no_notification_is_lost() {
    // A queue of one place: every put and every get needs the other's notification.
    struct Queue {
        items: Mutex<VecDeque<usize>>,
        not_empty: Condvar,
        not_full: Condvar,
    }
    let queue =
        Arc::new(Queue { items: Mutex::new(VecDeque::new()), not_empty: Condvar::new(), not_full: Condvar::new() });
    let shared = queue.clone();
    everywhere(move |n| {
        for round in 0..1000 {
            if n % 2 == 0 {
                let mut items = shared.not_full.wait_while(shared.items.lock(), |items| !items.is_empty());
                items.push_back(round);
                if n % 4 == 0 {
                    drop(items); // notified with and without the lock
                    shared.not_empty.notify_one();
                } else {
                    shared.not_empty.notify_one();
                }
            } else {
                let mut items = shared.items.lock();
                while items.is_empty() {
                    items = shared.not_empty.wait(items);
                }
                items.pop_front();
                shared.not_full.notify_one();
            }
        }
    });
    assert!(queue.items.lock().is_empty());
}

#[test]
fn the_first_who_waits_is_notified_first() {
    run(2, || {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let waiter = shared.clone();
        let tasks = spawn_waiters(5, WaitReason::CondvarWait, move |n| {
            let guard = waiter.0.lock();
            waiter.1.wait(guard).push(n);
        });
        for n in 0..3 {
            shared.1.notify_one();
            until_waiting(4 - n, WaitReason::CondvarWait);
            while shared.0.lock().len() <= n {
                yield_now();
            }
        }
        assert_eq!(*shared.0.lock(), [0, 1, 2]);
        shared.1.notify_all();
        join_all(tasks);
        shared.0.lock().sort_unstable();
        assert_eq!(*shared.0.lock(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn notify_all_wakes_in_order_and_only_those_who_wait() {
    run(1, || {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        shared.1.notify_one();
        shared.1.notify_all(); // nobody waits: forgotten
        let waiter = shared.clone();
        let tasks = spawn_waiters(6, WaitReason::CondvarWait, move |n| {
            let guard = waiter.0.lock();
            waiter.1.wait(guard).push(n);
            if n == 0 {
                drop(waiter.1.wait(waiter.0.lock()));
            }
        });
        shared.1.notify_all();
        while shared.0.lock().len() < 6 {
            yield_now();
        }
        assert_eq!(*shared.0.lock(), [0, 1, 2, 3, 4, 5]);
        until_waiting(1, WaitReason::CondvarWait);
        shared.1.notify_one();
        join_all(tasks);
        shared.1.notify_one();
    });
}

#[test]
fn the_lock_is_free_during_a_wait_and_held_after() {
    run(1, || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let waiter = shared.clone();
        let task = spawn(move || {
            let guard = waiter.1.wait(waiter.0.lock());
            assert!(waiter.0.try_lock().is_none());
            *guard
        });
        until_waiting(1, WaitReason::CondvarWait);
        let mut guard = shared.0.lock();
        *guard = 7;
        shared.1.notify_one();
        until_waiting(1, WaitReason::MutexLock);
        assert_eq!(waiting(WaitReason::CondvarWait), 0);
        drop(guard);
        assert_eq!(task.join().unwrap(), 7);
    });
}

#[test]
fn it_waits_with_the_guards_of_reader_writer_locks_too() {
    run(2, || {
        let shared = Arc::new((RwLock::new(0), Condvar::new()));
        let reader = shared.clone();
        let reads = spawn(move || {
            let mut value = reader.0.read();
            while *value == 0 {
                value = reader.1.wait(value);
            }
            *value
        });
        let writer = shared.clone();
        let writes = spawn(move || {
            *writer.1.wait_while(writer.0.write(), |value| *value == 0) += 1;
        });
        until_waiting(2, WaitReason::CondvarWait);
        *shared.0.write() = 5;
        shared.1.notify_all();
        assert!([5, 6].contains(&reads.join().unwrap()));
        writes.join().unwrap();
        assert_eq!(*shared.0.read(), 6);
    });
}

#[test]
fn a_panic_in_the_condition_unlocks() {
    static READY: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
    run(1, || {
        let task = spawn(|| {
            let _guard = READY.1.wait_while(READY.0.lock(), |n| if *n == 0 { true } else { panic!("on purpose") });
        });
        until_waiting(1, WaitReason::CondvarWait);
        *READY.0.lock() = 1;
        READY.1.notify_one();
        assert!(task.join().is_err());
        assert!(READY.0.try_lock().is_some());
    });
}

#[test]
fn a_wait_ends_when_its_time_is_over_and_leaves_the_queue() {
    let check = || {
        let (lock, changed) = (Mutex::new(5), Condvar::new());
        let start = Instant::now();
        let (guard, result) = changed.wait_timeout(lock.lock(), Duration::from_millis(20));
        assert!(result.timed_out() && start.elapsed() >= Duration::from_millis(20));
        assert_eq!(*guard, 5);
        assert!(lock.try_lock().is_none(), "it holds the lock again");
        drop(guard);
        let (guard, result) = changed.wait_timeout(lock.lock(), Duration::ZERO);
        assert!(result.timed_out());
        drop(guard);
        // Nobody is left in the queue, which would be a reference to a stack that has gone on.
        changed.notify_one();
        changed.notify_all();
    };
    run(1, check);
    check();
}

#[test]
fn a_notification_goes_past_those_who_have_given_up() {
    #[derive(Default)]
    struct Log {
        /// Who has entered the queue: the lock is held until then.
        entered: usize,
        notified: Vec<usize>,
    }
    run(2, || {
        let shared = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        let wait = |n: usize, patience| {
            let (waiter, before) = (shared.clone(), shared.0.lock().entered);
            let task = spawn(move || {
                let mut log = waiter.0.lock();
                log.entered += 1;
                let (mut log, result) = waiter.1.wait_timeout(log, patience);
                if !result.timed_out() {
                    log.notified.push(n);
                }
            });
            while shared.0.lock().entered == before {
                yield_now();
            }
            task
        };
        let (mut patient, mut others) = (Vec::new(), Vec::new());
        for n in 0..3 {
            others.push(wait(10 + n, Duration::from_millis(5)));
            patient.push(wait(n, Duration::from_secs(60)));
        }
        join_all(others);
        for n in 1..=3 {
            shared.1.notify_one();
            while shared.0.lock().notified.len() < n {
                yield_now();
            }
        }
        assert_eq!(shared.0.lock().notified, [0, 1, 2]);
        join_all(patient);
    });
}

#[test]
fn waiting_for_a_condition_has_a_timeout_too() {
    run(2, || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let setter = shared.clone();
        let task = spawn(move || {
            for _ in 0..3 {
                until_waiting(1, WaitReason::CondvarWait);
                *setter.0.lock() += 1;
                setter.1.notify_one();
            }
        });
        let (value, result) = shared.1.wait_timeout_while(shared.0.lock(), Duration::from_secs(60), |n| *n < 3);
        assert!(*value == 3 && !result.timed_out());
        drop(value);
        task.join().unwrap();
        let (value, result) = shared.1.wait_timeout_while(shared.0.lock(), Duration::ZERO, |n| *n < 3);
        assert!(!result.timed_out(), "there was no time, and no need for any");
        drop(value);
        let (value, result) = shared.1.wait_timeout_while(shared.0.lock(), Duration::from_millis(5), |_| true);
        assert!(*value == 3 && result.timed_out());
    });
}

/// Waiters give up just when they are notified. Each token comes with one notification, and the next token only when it
/// has been taken. Who gives up takes none: so if a notification were spent on one that says that its time was over,
/// the token would stay.
#[test]
fn notifications_and_timeouts_that_race_lose_nothing() {
    #[derive(Default)]
    struct Tokens {
        here: usize,
        taken: usize,
        given_up: usize,
        over: bool,
        left: usize,
    }
    const TOKENS: usize = 300;
    let shared = Arc::new((Mutex::new(Tokens::default()), Condvar::new()));
    let log = shared.clone();
    everywhere(move |n| {
        let (tokens, changed) = &*shared;
        match n {
            0 => {
                for token in 0..TOKENS {
                    tokens.lock().here += 1;
                    if token % 3 == 0 {
                        changed.notify_all()
                    } else {
                        changed.notify_one()
                    }
                    let start = Instant::now();
                    while tokens.lock().here > 0 {
                        assert!(start.elapsed() < Duration::from_secs(20), "a notification was lost");
                        yield_now();
                    }
                }
                tokens.lock().over = true;
                changed.notify_all();
            }
            1 | 2 => loop {
                let mut guard = changed.wait_while(tokens.lock(), |tokens| tokens.here == 0 && !tokens.over);
                if guard.here == 0 {
                    break;
                }
                guard.here -= 1;
                guard.taken += 1;
            },
            _ => {
                for round in 0.. {
                    let guard = tokens.lock();
                    if guard.over {
                        break;
                    }
                    let patience = Duration::from_micros((round * 7 + n as u64 * 13) % 120);
                    let (mut guard, result) = changed.wait_timeout(guard, patience);
                    if result.timed_out() {
                        guard.given_up += 1;
                    } else if guard.here > 0 {
                        guard.here -= 1;
                        guard.taken += 1;
                    }
                }
            }
        }
        let mut guard = tokens.lock();
        guard.left += 1;
        if guard.left == 8 {
            // Ready for the next eight.
            (guard.left, guard.over) = (0, false);
        }
    });
    let tokens = log.0.lock();
    assert!(tokens.taken == 4 * TOKENS && tokens.given_up > 0);
}

#[test]
fn a_notify_all_reaches_those_with_and_without_a_timeout() {
    run(2, || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let waiter = shared.clone();
        let tasks = spawn_waiters(20, WaitReason::CondvarWait, move |n| {
            let guard = waiter.0.lock();
            let (mut guard, late) = if n % 2 == 0 {
                let (guard, result) = waiter.1.wait_timeout(guard, Duration::from_secs(60));
                (guard, result.timed_out())
            } else {
                (waiter.1.wait(guard), false)
            };
            *guard += 1;
            late
        });
        shared.1.notify_all();
        assert!(join_all(tasks).into_iter().all(|late| !late));
        assert_eq!(*shared.0.lock(), 20);
    });
}
