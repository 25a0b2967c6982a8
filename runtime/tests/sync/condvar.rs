//! `Condvar`.

use std::{collections::VecDeque, sync::Arc};

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
