//! simple/mutex_heap: resource, double locking.
//!
//! Bug: a task puts a mutex on the heap, gives it to another and ends. The other locks it twice and waits for itself.
//!
//! Leaks: `locker`: sync.Mutex.Lock. In Rust: yes, with guards as well.

use greenprof_runtime::sync::{Mutex, RawMutex};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/mutex_heap",
    origin: GO,
    what: "A task locks a mutex on the heap, which it was given by one that has ended, twice.",
    fix: "Unlock before locking again.",
    forms: &[
        Form::natural(run, LEAKS).instances(1000),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "a guard does not keep its owner from locking again"),
    ],
};

const LEAKS: &[Site] = &[Site("locker", MutexLock, 1)];

fn run(scene: &Scene) {
    let inner = scene.clone();
    scene.spawn("giver", move || {
        let turn = Box::new(RawMutex::new());
        inner.spawn("locker", move || {
            turn.lock();
            turn.lock();
        });
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let inner = scene.clone();
    scene.spawn("giver", move || {
        let count = Box::new(Mutex::new(0));
        inner.spawn("locker", move || {
            let first = count.lock();
            *count.lock() += *first;
        });
    });
    scene.settled();
}
