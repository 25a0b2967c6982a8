//! A reclaim and a wake-up that the detector did not foresee: one of them wins, whole.
//!
//! The handle that wakes is hidden from the scan on purpose, as unsafe code can hide one: so the report is wrong, the wake-up
//! counts as an error of the detector, and this program has a process of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use greenprof_profiler::leak::{
    self,
    reclaim::{Outcome, Refusal},
};
use greenprof_runtime::{
    JoinHandle, Runtime,
    heap::Heap,
    spawn,
    sync::{Chan, Mutex},
    task::Reclaimed,
};
use greenprof_tests::leaks::{complete, options_for, runtime, settle};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// A value that no scan finds: its address is kept as the complement.
struct Hidden<T>(usize, std::marker::PhantomData<T>);

impl<T> Hidden<T> {
    #[inline(never)]
    fn new(value: T) -> Self {
        Self(!(Box::into_raw(Box::new(value)) as usize), std::marker::PhantomData)
    }

    #[inline(never)]
    fn take(self) -> T {
        // SAFETY: the box that was hidden, which is taken once.
        *unsafe { Box::from_raw(!self.0 as *mut T) }
    }
}

/// So many receivers, each with its own channel, or all on one.
const TASKS: usize = 64;

struct Round {
    joins: Vec<JoinHandle<Option<u64>>>,
    channels: Hidden<Vec<Chan<u64>>>,
}

/// In a task that ends, so that nothing of it is left on a live stack.
fn make(runtime: &Runtime, shared: bool) -> Round {
    runtime.run(|| {
        let one: Chan<u64> = Chan::new();
        let channels: Vec<Chan<u64>> = (0..TASKS).map(|_| if shared { one.clone() } else { Chan::new() }).collect();
        let join = |channel: &Chan<u64>| {
            let channel = channel.clone();
            spawn(move || channel.recv())
        };
        let joins = channels.iter().map(join).collect();
        Round { joins, channels: Hidden::new(channels) }
    })
}

#[test]
fn a_wake_up_or_the_reclaim_wins() {
    let runtime = runtime();
    let (mut reclaimed, mut woken, mut reported) = (0, 0, [0; 2]);
    for round in 0..60 {
        let Round { joins, channels } = make(&runtime, round % 2 == 1);
        settle(&runtime, TASKS);
        let report = complete(&options_for(&runtime));
        // A stale word may keep one alive, and of those on one channel all.
        reported[round % 2] += report.leaked().len();
        let go = Arc::new(AtomicUsize::new(0));
        let waker = {
            let go = go.clone();
            std::thread::spawn(move || {
                let channels = channels.take();
                go.store(1, Ordering::SeqCst);
                // From long before the reclaim to long after it, wherever that is on this machine.
                std::thread::sleep(Duration::from_millis((round as u64 / 2) * 10));
                // Each value is received by one task, or, if that was reclaimed, by nobody.
                channels
                    .iter()
                    .zip(1..)
                    .filter(|(channel, value)| {
                        std::thread::sleep(Duration::from_micros(20));
                        channel.try_send(*value).is_ok()
                    })
                    .count()
            })
        };
        while go.load(Ordering::SeqCst) == 0 {
            std::hint::spin_loop();
        }
        let reclamation = leak::reclaim(&report);
        let sent = waker.join().expect("no panic");
        let mut received = 0;
        for join in joins {
            let id = join.id();
            let outcome = reclamation.outcome(id).cloned();
            match (join.join_timeout(Duration::from_secs(60)), outcome) {
                (Ok(Ok(Some(value))), None | Some(Outcome::Refused(Refusal::Woken | Refusal::Referenced(_)))) => {
                    assert_ne!(value, 0);
                    received += 1;
                    woken += 1;
                }
                (Ok(Err(payload)), Some(Outcome::Reclaimed)) => {
                    assert_eq!(payload.downcast_ref::<Reclaimed>().expect("no panic").task(), id);
                    reclaimed += 1;
                }
                // Nobody has come for it.
                (Err(_), outcome) => panic!("task {id} waits still, and its outcome was {outcome:?}"),
                (ended, outcome) => {
                    panic!("task {id}: {:?}, {outcome:?}", ended.map(|result| result.map_err(|_| "a payload")))
                }
            }
        }
        assert_eq!(received, sent, "no value is lost and none is given twice");
    }
    println!("{reported:?} reported, {reclaimed} reclaimed, {woken} woken");
    assert!(reported[0] > 0 && reported[1] > 0, "{reported:?}: the handles are hidden");
    assert!(reclaimed > 0 && woken > 0, "{reclaimed} reclaimed, {woken} woken: one of them never won");
}

/// Who unlocks hands the lock to a waiter or finds that it has gone; in both cases the lock is free in the end.
#[test]
fn an_unlock_meets_a_withdrawal() {
    let runtime = runtime();
    for round in 0..60 {
        let lock: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(0)));
        let guard = Hidden::new(lock.lock());
        let joins: Vec<JoinHandle<()>> = runtime.run(|| (0..8).map(|_| spawn(|| *lock.lock() += 1)).collect());
        settle(&runtime, joins.len());
        let report = complete(&options_for(&runtime));
        let waker = std::thread::spawn(move || drop(guard.take()));
        (0..round * 40).for_each(|_| std::hint::spin_loop());
        let reclamation = leak::reclaim(&report);
        waker.join().expect("no panic");
        let ended = joins.into_iter().map(|join| join.join_timeout(Duration::from_secs(60)));
        let went_on =
            ended.map(|ended| ended.unwrap_or_else(|_| panic!("a waiter was forgotten"))).filter(Result::is_ok).count();
        assert_eq!(*lock.lock(), went_on as u64);
        assert!(reclamation.reclaimed() + went_on >= 8, "{reclamation:?}");
    }
}
