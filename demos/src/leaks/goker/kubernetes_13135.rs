//! goker/kubernetes_13135: resource, AB-BA deadlock.
//!
//! Bug: listing locks the cacher and then the watch cache, which unlocks the cacher in a callback. Adding locks the watch
//! cache and then, in a callback, the cacher.
//!
//! Leaks: `lister`: sync.RWMutex.Lock, `adder`: sync.Mutex.Lock. In Rust: yes: the guard can be moved into the callback,
//! and the order stays.

use std::time::Duration;

use greenprof_runtime::{
    sync::{self, Chan, Mutex, RawMutex, RawRwLock, RwLock, TryRecvError, WaitGroup},
    time::sleep,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_13135",
    origin: "https://github.com/kubernetes/kubernetes/pull/13135",
    what: "Two locks are taken in opposite order, one of them in callbacks of the other's object.",
    fix: "Call back without the lock.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the guard moves into the callback; the order of the two locks stays wrong"),
    ],
};

const LEAKS: &[Site] = &[Site("lister", RwLockWrite, 1), Site("adder", MutexLock, 1)];

/// Between two listings, and before they are stopped.
const PAUSE: Duration = Duration::from_micros(50);
const RUN: Duration = Duration::from_millis(2);

type Callback = Box<dyn Fn() + Send + Sync>;

struct WatchCache {
    lock: RawRwLock,
    on_replace: Callback,
    on_event: Callback,
}

impl WatchCache {
    fn replace(&self) {
        self.lock.write_lock();
        (self.on_replace)();
        self.lock.write_unlock();
    }

    fn add(&self) {
        self.lock.write_lock();
        (self.on_event)();
        self.lock.write_unlock();
    }
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("tester", move || {
        let (cacher, initialized, first) = (Arc::new(RawMutex::new()), WaitGroup::new(), sync::Once::new());
        initialized.add(1);
        let (replaced, ready, event) = (cacher.clone(), initialized.clone(), cacher.clone());
        let cache = Arc::new(WatchCache {
            lock: RawRwLock::new(),
            on_replace: Box::new(move || {
                first.call_once(|| ready.done());
                replaced.unlock();
            }),
            on_event: Box::new(move || {
                event.lock();
                event.unlock();
            }),
        });
        let (stop, second_round) = (Chan::<()>::new(), stage.gate());
        let (listed, told, locked, scene) = (cache.clone(), stop.clone(), second_round.clone(), stage.clone());
        stage.spawn("lister", move || {
            for round in 1.. {
                if told.try_recv() == Err(TryRecvError::Closed) {
                    return;
                }
                cacher.lock();
                if round == 2 {
                    locked.open();
                    scene.until("adder", MutexLock, 1);
                }
                listed.replace();
                sleep(PAUSE);
            }
        });
        initialized.wait();
        stage.spawn("adder", move || {
            second_round.pass();
            cache.add();
        });
        let forced = stage.forced();
        stage.spawn("stopper", move || {
            if !forced {
                sleep(RUN);
                stop.close();
            }
        });
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (cacher, cache) = (Arc::new(Mutex::new(false)), Arc::new(RwLock::new(Vec::new())));
    let (theirs, items, stage, locked) = (cacher.clone(), cache.clone(), scene.clone(), scene.gate());
    let has_locked = locked.clone();
    scene.spawn("lister", move || {
        let mut initialized = theirs.lock();
        has_locked.open();
        stage.until("adder", MutexLock, 1);
        let mut items = items.write();
        let mut on_replace = move || *initialized = true;
        on_replace();
        items.clear();
    });
    scene.spawn("adder", move || {
        locked.pass();
        let mut items = cache.write();
        items.push(*cacher.lock());
    });
    scene.settled();
}
