//! `Mutex` and `RwLock`, with guards and raw.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    spawn,
    sync::{Chan, Mutex, RawMutex, RawRwLock, RwLock},
    task::WaitReason,
    yield_now,
};

use crate::{everywhere, join_all, panic_text, run, spawn_waiters, until_waiting};

const ROUNDS: usize = 1000;

#[test]
fn writers_are_alone_and_readers_see_whole_values() {
    let lock = Arc::new(RwLock::new([0_usize; 3]));
    let shared = lock.clone();
    everywhere(move |n| {
        for round in 0..ROUNDS {
            if (round + n) % 4 == 0 {
                let mut value = shared.write();
                for part in &mut *value {
                    *part += 1;
                }
            } else {
                let value = shared.read();
                assert!(value.iter().all(|part| *part == value[0]));
            }
        }
    });
    assert_eq!(Arc::into_inner(lock).unwrap().into_inner(), [4 * 8 * ROUNDS / 4; 3]);
}

#[test]
fn raw_locks_exclude() {
    #[derive(Default)]
    struct Shared {
        rwlock: RawRwLock,
        /// Readers inside; -1 for a writer.
        inside: AtomicI32,
        mutex: RawMutex,
        count: AtomicUsize,
    }
    let shared = Arc::new(Shared::default());
    let count = shared.clone();
    everywhere(move |n| {
        let Shared { rwlock, inside, mutex, count } = &*shared;
        for round in 0..ROUNDS {
            match (round + n) % 4 {
                0 => {
                    rwlock.write_lock();
                    assert_eq!(inside.swap(-1, Ordering::Relaxed), 0);
                    assert_eq!(inside.swap(0, Ordering::Relaxed), -1);
                    rwlock.write_unlock();
                }
                1 if rwlock.try_write_lock() => {
                    assert_eq!(inside.swap(-1, Ordering::Relaxed), 0);
                    assert_eq!(inside.swap(0, Ordering::Relaxed), -1);
                    rwlock.write_unlock();
                }
                1 => {}
                _ => {
                    rwlock.read_lock();
                    assert!(inside.fetch_add(1, Ordering::Relaxed) >= 0);
                    assert!(inside.fetch_sub(1, Ordering::Relaxed) >= 1);
                    rwlock.read_unlock();
                }
            }
        }
        for _ in 0..ROUNDS {
            mutex.lock();
            // Not atomic as a whole: lost updates would show.
            let before = count.load(Ordering::Relaxed);
            std::hint::spin_loop();
            count.store(before + 1, Ordering::Relaxed);
            mutex.unlock();
        }
    });
    assert_eq!(count.count.load(Ordering::Relaxed), 4 * 8 * ROUNDS);
}

#[test]
fn a_reader_that_comes_after_a_waiting_writer_waits() {
    run(1, || {
        let lock = Arc::new(RwLock::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = lock.read();
        assert!(lock.try_write().is_none());
        assert!(lock.try_read().is_some(), "no writer waits yet");
        let (shared, log) = (lock.clone(), order.clone());
        let writers = spawn_waiters(1, WaitReason::RwLockWrite, move |_| {
            let _guard = shared.write();
            log.lock().push("writer");
        });
        assert!(lock.try_read().is_none(), "a writer waits");
        let (shared, log) = (lock.clone(), order.clone());
        let readers = spawn_waiters(2, WaitReason::RwLockRead, move |_| {
            let _guard = shared.read();
            log.lock().push("reader");
        });
        drop(first);
        join_all(writers);
        join_all(readers);
        assert_eq!(*order.lock(), ["writer", "reader", "reader"]);
    });
}

#[test]
fn readers_and_writers_take_turns_and_writers_queue_in_order() {
    for workers in [1, 2] {
        run(workers, || {
            let lock = Arc::new(RwLock::new(Vec::new()));
            let seen = Arc::new(Mutex::new(Vec::new()));
            let held = lock.write();
            let shared = lock.clone();
            let writers = spawn_waiters(5, WaitReason::RwLockWrite, move |n| shared.write().push(n));
            let (shared, log) = (lock.clone(), seen.clone());
            let readers = spawn_waiters(4, WaitReason::RwLockRead, move |n| {
                let value = shared.read();
                log.lock().push((n, value.len()));
            });
            drop(held);
            join_all(writers);
            join_all(readers);
            assert_eq!(*lock.read(), [0, 1, 2, 3, 4]);
            let mut seen = seen.lock().clone();
            if workers > 1 {
                seen.sort_unstable(); // let in together, they run at the same time
            }
            assert_eq!(seen, [(0, 0), (1, 0), (2, 0), (3, 0)], "all readers come in before the next writer, in order");
        });
    }
}

#[test]
fn waiters_get_a_mutex_in_the_order_in_which_they_came() {
    // One worker, and waiters that nobody overtakes: who unlocks does not lock again.
    run(1, || {
        let lock = Arc::new(Mutex::new(Vec::new()));
        let held = lock.lock();
        let shared = lock.clone();
        let waiters = spawn_waiters(8, WaitReason::MutexLock, move |n| shared.lock().push(n));
        drop(held);
        join_all(waiters);
        assert_eq!(*lock.lock(), [0, 1, 2, 3, 4, 5, 6, 7]);
    });
}

#[test]
fn who_locks_again_and_again_starves_no_waiter() {
    for workers in [1, 2] {
        run(workers, || {
            let lock = Arc::new(Mutex::new(false));
            let shared = lock.clone();
            let held = lock.lock();
            let waiter = spawn_waiters(1, WaitReason::MutexLock, move |_| *shared.lock() = true);
            drop(held);
            // It overtakes, for as long as the waiter has not waited for a millisecond.
            let start = Instant::now();
            while !*lock.lock() {
                assert!(start.elapsed() < Duration::from_secs(20), "somebody starves");
                let _held = lock.lock();
                yield_now();
            }
            join_all(waiter);
        });
    }
}

#[test]
fn a_stream_of_readers_starves_no_writer_and_writers_no_reader() {
    run(2, || {
        let lock = Arc::new(RwLock::new(()));
        let done = Arc::new(AtomicUsize::new(0));
        let busy = |write: bool| {
            let (lock, done) = (lock.clone(), done.clone());
            spawn(move || {
                let start = Instant::now();
                while done.load(Ordering::Relaxed) < 2 {
                    assert!(start.elapsed() < Duration::from_secs(10), "somebody starves");
                    if write {
                        let _guard = lock.write();
                        yield_now();
                    } else {
                        let _guard = lock.read();
                        yield_now();
                    }
                }
            })
        };
        let tasks: Vec<_> = [false, false, false, false, true, true].into_iter().map(busy).collect();
        for write in [true, false] {
            let (lock, done) = (lock.clone(), done.clone());
            spawn(move || {
                for _ in 0..200 {
                    if write { drop(lock.write()) } else { drop(lock.read()) }
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        join_all(tasks);
    });
}

#[test]
fn guards_may_be_dropped_elsewhere() {
    static LOCK: RwLock<u32> = RwLock::new(1);
    run(2, || {
        let (reader, second) = (LOCK.read(), LOCK.read());
        let task = spawn(move || *reader);
        assert_eq!(task.join().unwrap(), 1);
        std::thread::spawn(move || drop(second)).join().unwrap();
        let mut writer = LOCK.write();
        spawn(move || *writer += 1).join().unwrap();
        assert_eq!(*LOCK.read(), 2);
    });
}

#[test]
fn a_panic_while_locked_unlocks() {
    run(1, || {
        let lock = Arc::new(RwLock::new(1));
        let shared = lock.clone();
        let task = spawn(move || {
            let mut guard = shared.write();
            *guard = 2;
            panic!("on purpose");
        });
        assert!(task.join().is_err());
        assert_eq!(*lock.read(), 2);
        let shared = lock.clone();
        let task = spawn(move || {
            let _guard = shared.read();
            panic!("on purpose");
        });
        assert!(task.join().is_err());
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn the_value_can_be_had_without_locking_by_its_owner() {
    let mut lock = RwLock::new(String::from("a"));
    lock.get_mut().push('b');
    assert_eq!(format!("{lock:?}"), r#"RwLock { value: "ab" }"#);
    let guard = lock.write();
    assert_eq!(format!("{lock:?}"), "RwLock { value: <locked> }");
    drop(guard);
    assert_eq!(lock.into_inner(), "ab");
    assert_eq!(*RwLock::<u8>::default().read(), 0);
    let lock: Box<RwLock<[u8]>> = Box::new(RwLock::from([1, 2]));
    assert_eq!(lock.read().len(), 2);
}

#[test]
fn anybody_may_unlock_a_raw_lock() {
    run(2, || {
        let locks = Arc::new((RawMutex::new(), RawRwLock::new()));
        locks.0.lock();
        locks.1.write_lock();
        let shared = locks.clone();
        let mutex = spawn_waiters(3, WaitReason::MutexLock, move |_| shared.0.lock());
        let shared = locks.clone();
        let readers = spawn_waiters(2, WaitReason::RwLockRead, move |_| shared.1.read_lock());
        for _ in 0..3 {
            let shared = locks.clone();
            std::thread::spawn(move || shared.0.unlock()).join().unwrap();
            until_mutex_is_taken_again(&locks.0);
        }
        join_all(mutex);
        locks.0.unlock();
        let shared = locks.clone();
        spawn(move || shared.1.write_unlock()).join().unwrap();
        join_all(readers);
        assert_eq!(format!("{locks:?}"), "(RawMutex { locked: false }, RawRwLock { readers: 2, writer: false })");
        locks.1.read_unlock();
        locks.1.read_unlock();
        assert!(locks.0.try_lock() && locks.1.try_write_lock());
    });

    fn until_mutex_is_taken_again(lock: &RawMutex) {
        let start = Instant::now();
        while !format!("{lock:?}").contains("true") {
            assert!(start.elapsed() < Duration::from_secs(10));
            yield_now();
        }
    }
}

#[test]
fn a_raw_lock_may_move_while_it_is_locked() {
    let lock = RawMutex::new();
    lock.lock();
    let lock = Box::new(lock);
    assert!(!lock.try_lock());
    lock.unlock();
    assert!(lock.try_lock());
}

#[test]
fn unlocking_what_is_not_locked_panics_with_a_sentence() {
    let mutex = RawMutex::new();
    let text = "a RawMutex that is not locked was unlocked";
    assert_eq!(panic_text(|| mutex.unlock()), text);
    mutex.lock();
    mutex.unlock();
    assert_eq!(panic_text(|| mutex.unlock()), text);
    assert!(mutex.try_lock(), "it still works");

    let rwlock = RawRwLock::new();
    let reader = "a RawRwLock that is not locked for reading was unlocked by a reader";
    let writer = "a RawRwLock that is not locked for writing was unlocked by a writer";
    assert_eq!(panic_text(|| rwlock.read_unlock()), reader);
    assert_eq!(panic_text(|| rwlock.write_unlock()), writer);
    rwlock.read_lock();
    assert_eq!(panic_text(|| rwlock.write_unlock()), writer);
    rwlock.read_unlock();
    rwlock.write_lock();
    assert_eq!(panic_text(|| rwlock.read_unlock()), reader);
    rwlock.write_unlock();
    assert!(rwlock.try_write_lock(), "it still works");
}

#[test]
fn a_lock_taken_twice_by_one_task_waits_for_ever() {
    // The tasks are abandoned with their runtime.
    run(1, || {
        let lock = Arc::new(RwLock::new(()));
        spawn(move || {
            let _outer = lock.read();
            let _inner = lock.write();
        });
        until_waiting(1, WaitReason::RwLockWrite);
        spawn(|| {
            let lock = RawMutex::new();
            lock.lock();
            lock.lock();
        });
        until_waiting(1, WaitReason::MutexLock);
    });
}

#[test]
fn waits_show_the_words_of_gos_dumps() {
    let reasons = [
        (WaitReason::MutexLock, "sync.Mutex.Lock"),
        (WaitReason::RwLockRead, "sync.RWMutex.RLock"),
        (WaitReason::RwLockWrite, "sync.RWMutex.Lock"),
        (WaitReason::CondvarWait, "sync.Cond.Wait"),
        (WaitReason::Once, "sync.Mutex.Lock"),
        (WaitReason::Semaphore, "semacquire"),
    ];
    for (reason, text) in reasons {
        assert_eq!(reason.to_string(), text);
    }
}

#[test]
fn a_chain_of_locks_and_channels_makes_progress() {
    run(2, || {
        let lock = Arc::new(RwLock::new(0_u64));
        let turns = Chan::with_capacity(4);
        let tasks: Vec<_> = (0..50)
            .map(|n: u64| {
                let (lock, turns) = (lock.clone(), turns.clone());
                spawn(move || {
                    for _ in 0..20 {
                        let before = *lock.read();
                        turns.send(()).unwrap();
                        *lock.write() += 1;
                        assert!(*lock.read() > before || n > 50);
                        turns.recv().unwrap();
                    }
                })
            })
            .collect();
        join_all(tasks);
        assert_eq!(*lock.read(), 1000);
    });
}
