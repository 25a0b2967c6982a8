//! How long instruments are told that tasks have waited.

#![cfg(all(feature = "hooks", not(loom)))]

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime,
    hooks::{self, Instrument, Interest},
    spawn,
    sync::{Chan, Mutex as TaskMutex, Once, RwLock},
    task::WaitReason,
    yield_now,
};

/// Nanoseconds of the last wait of a receiver.
static RECEIVED: AtomicU64 = AtomicU64::new(0);

struct Receivers;

impl Instrument for Receivers {
    fn waited(&self, reason: WaitReason, nanoseconds: u64) {
        if reason == WaitReason::ChanReceive {
            RECEIVED.store(nanoseconds, Ordering::Relaxed);
        }
    }
}

/// There is one instrument.
static ALONE: Mutex<()> = Mutex::new(());

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Lets a task receive what is sent after `pause`, on a single worker. Gives what the instrument was told of its wait, and how long the
/// call took by the task's own clock.
fn wait_beside(pause: impl FnOnce(&Chan<u32>) + Send) -> (Duration, Duration) {
    let _alone = ALONE.lock().unwrap();
    let _installed = hooks::install(&Receivers, Interest::WAIT).unwrap();
    Runtime::builder().workers(1).build().unwrap().run(|| {
        let chan = Chan::new();
        let theirs = chan.clone();
        let receiver = spawn(move || {
            let start = Instant::now();
            theirs.recv();
            let took = start.elapsed();
            (Duration::from_nanos(RECEIVED.load(Ordering::Relaxed)), took)
        });
        yield_now(); // now it waits
        pause(&chan);
        receiver.join().unwrap()
    })
}

const LONG: Duration = Duration::from_millis(5);

/// The join of the sender lets the worker switch straight to the receiver, and the time of that is taken for both.
#[test]
fn a_wait_that_ends_as_another_begins_has_its_length() {
    let (told, took) = wait_beside(|chan| {
        spin(LONG);
        chan.send(1).unwrap();
    });
    assert!(LONG <= told && told <= took, "{told:?} of {took:?}");
}

/// What runs in between belongs to the wait.
#[test]
fn a_task_that_runs_in_between_is_waited_for() {
    let (told, took) = wait_beside(|chan| {
        let theirs = chan.clone();
        spawn(move || {
            spin(LONG);
            theirs.send(1).unwrap();
            spin(LONG);
            // Its end is no wait.
        })
        .join()
        .unwrap();
    });
    assert!(2 * LONG <= told && told <= took, "{told:?} of {took:?}");
}

/// The worker has slept since the last task left it.
#[test]
fn a_wait_while_nothing_runs_lasts_until_its_end() {
    let (told, took) = wait_beside(|chan| {
        let theirs = chan.clone();
        std::thread::spawn(move || {
            std::thread::sleep(LONG);
            theirs.send(1).unwrap();
        });
    });
    assert!(LONG <= told && told <= took, "{told:?} of {took:?}");
}

/// Waits by their reasons.
struct Reasons(Mutex<Vec<WaitReason>>);

static REASONS: Reasons = Reasons(Mutex::new(Vec::new()));

impl Instrument for Reasons {
    fn waited(&self, reason: WaitReason, _: u64) {
        // A list that is long enough: a hook may not allocate.
        self.0.lock().unwrap().push(reason);
    }
}

/// Who asks for waits that an unlock ends is told of those, and of no others.
#[test]
fn waits_for_locks_can_be_asked_for_alone() {
    let _alone = ALONE.lock().unwrap();
    REASONS.0.lock().unwrap().reserve(64);
    let installed = hooks::install(&REASONS, Interest::LOCK_WAIT).unwrap();
    Runtime::builder().workers(1).build().unwrap().run(|| {
        let (mutex, rwlock, once) = (TaskMutex::new(()), RwLock::new(()), Once::new());
        let begin = Chan::<()>::new();
        greenprof_runtime::task::scope(|tasks| {
            let (held, read) = (mutex.lock(), rwlock.read());
            tasks.spawn(|| drop(mutex.lock()));
            tasks.spawn(|| drop(rwlock.write()));
            tasks.spawn(|| once.call_once(yield_now));
            tasks.spawn(|| once.call_once(|| ()));
            tasks.spawn(|| begin.recv());
            yield_now(); // now all wait
            drop((held, read));
            begin.close();
        });
    });
    drop(installed);
    let mut told = std::mem::take(&mut *REASONS.0.lock().unwrap());
    told.sort();
    assert_eq!(told, [WaitReason::MutexLock, WaitReason::RwLockWrite, WaitReason::Once]);
}
