//! simple/mutex_stack: resource, double locking.
//!
//! Bug: a task locks a mutex on its own stack twice. It waits for itself.
//!
//! Leaks: `locker`: sync.Mutex.Lock. In Rust: yes, with guards as well.

use greenprof_runtime::sync::{Mutex, RawMutex};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/mutex_stack",
    origin: GO,
    what: "A task locks a mutex that lies on its own stack twice.",
    fix: "Unlock before locking again.",
    forms: &[
        Form::natural(run, LEAKS).instances(1000),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "a guard does not keep its owner from locking again"),
    ],
};

const LEAKS: &[Site] = &[Site("locker", MutexLock, 1)];

fn run(scene: &Scene) {
    scene.spawn("locker", || {
        let turn = RawMutex::new();
        turn.lock();
        turn.lock();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    scene.spawn("locker", || {
        let count = Mutex::new(0);
        let first = count.lock();
        *count.lock() += *first;
    });
    scene.settled();
}
