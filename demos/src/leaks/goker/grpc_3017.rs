//! goker/grpc_3017: resource, missing unlock.
//!
//! Bug: a timer's function that finds that it was called off returns without unlocking the cache. That takes a timer that
//! has fired, and whose function has not yet locked, when it is called off.
//!
//! Leaks: `owner`: chan receive, `balancer`: sync.Mutex.Lock; other timers' functions, which have no name, may queue for
//! the lock. In Rust: no: the guard is dropped by the return.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use greenprof_runtime::{
    sync::{Chan, Mutex, RawMutex, channel},
    time::{FuncTimer, after_func},
    yield_now,
};

use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAM: Program = Program {
    id: "goker/grpc_3017",
    origin: "https://github.com/grpc/grpc-go/pull/3017",
    what: "A timer's function returns without unlocking when it was called off just after the timer has fired.",
    fix: "Unlock on every way out.",
    forms: &[
        Form::natural(
            natural,
            &[Site("owner", ChanReceive, 1), Site("balancer", MutexLock, 1), Site("", MutexLock, ROUNDS)],
        ),
        Form::forced(forced, LEAKS),
        Form::rust(rust, &[], "the guard is dropped by the early return"),
    ],
};

const LEAKS: &[Site] = &[Site("owner", ChanReceive, 1), Site("balancer", MutexLock, 1)];

/// How often the natural form makes and removes an entry.
const ROUNDS: u32 = 500;

/// Before an entry is deleted.
const DELAY: Duration = Duration::from_nanos(1);

/// An entry that is to be deleted.
struct Doomed {
    timer: FuncTimer,
    called_off: Arc<AtomicBool>,
}

/// Where the timer's function stops in the forced form.
#[derive(Clone)]
struct Stops {
    begun: Gate,
    may_lock: Gate,
    returned: Gate,
}

struct Cache {
    lock: RawMutex,
    /// Used under the lock; its own is for the compiler.
    entries: std::sync::Mutex<HashMap<u32, Doomed>>,
}

impl Cache {
    fn remove_connection(this: &Arc<Self>, address: u32, stops: &Stops) {
        this.lock.lock();
        let mut entries = this.entries.lock().expect("nobody panics");
        entries.entry(address).or_insert_with(|| {
            let called_off = Arc::new(AtomicBool::new(false));
            let (cache, flag, stops) = (this.clone(), called_off.clone(), stops.clone());
            Doomed { timer: after_func(DELAY, move || cache.delete(address, &flag, &stops)), called_off }
        });
        drop(entries);
        this.lock.unlock();
    }

    fn delete(&self, address: u32, called_off: &AtomicBool, stops: &Stops) {
        stops.begun.open();
        stops.may_lock.pass();
        self.lock.lock();
        if called_off.load(Ordering::SeqCst) {
            stops.returned.open();
            return; // and the lock stays locked
        }
        self.entries.lock().expect("nobody panics").remove(&address);
        self.lock.unlock();
    }

    fn new_connection(&self, address: u32) {
        self.lock.lock();
        if let Some(doomed) = self.entries.lock().expect("nobody panics").remove(&address)
            && !doomed.timer.stop()
        {
            doomed.called_off.store(true, Ordering::SeqCst);
        }
        self.lock.unlock();
    }
}

fn natural(scene: &Scene) {
    run(scene, ROUNDS);
}

fn forced(scene: &Scene) {
    run(scene, 2);
}

fn run(scene: &Scene, rounds: u32) {
    let (done, stage) = (Chan::<()>::new(), scene.clone());
    let finished = done.clone();
    scene.spawn("owner", move || done.recv());
    scene.spawn("balancer", move || {
        let cache = Arc::new(Cache { lock: RawMutex::new(), entries: std::sync::Mutex::default() });
        let stops = Stops { begun: stage.gate(), may_lock: stage.gate(), returned: stage.gate() };
        for _ in 0..rounds {
            Cache::remove_connection(&cache, 7, &stops);
            stops.begun.pass();
            yield_now();
            cache.new_connection(7);
            stops.may_lock.open();
            stops.returned.pass();
        }
        finished.close();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    type Entries = Mutex<HashMap<u32, Doomed>>;
    let ((finished, done), stage) = (channel::rendezvous::<()>(), scene.clone());
    scene.spawn("owner", move || done.recv());
    scene.spawn("balancer", move || {
        let cache: Arc<Entries> = Arc::default();
        let stops = Stops { begun: stage.gate(), may_lock: stage.gate(), returned: stage.gate() };
        let delete = |entries: &Entries, called_off: &AtomicBool, stops: &Stops| {
            stops.begun.open();
            stops.may_lock.pass();
            let mut entries = entries.lock();
            if !called_off.load(Ordering::SeqCst) {
                entries.remove(&7);
            }
            stops.returned.open();
        };
        for _ in 0..2 {
            let called_off = Arc::new(AtomicBool::new(false));
            let (theirs, flag, its_stops) = (cache.clone(), called_off.clone(), stops.clone());
            let timer = after_func(DELAY, move || delete(&theirs, &flag, &its_stops));
            cache.lock().insert(7, Doomed { timer, called_off });
            stops.begun.pass();
            if let Some(doomed) = cache.lock().remove(&7)
                && !doomed.timer.stop()
            {
                doomed.called_off.store(true, Ordering::SeqCst);
            }
            stops.may_lock.open();
            stops.returned.pass();
        }
        drop(finished);
    });
    scene.settled();
}
