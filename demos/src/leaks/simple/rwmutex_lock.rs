//! simple/rwmutex_lock: resource, double locking.
//!
//! Bug: a task locks a reader-writer lock for writing twice. It waits for itself.
//!
//! Leaks: `writer`: sync.RWMutex.Lock (Go says sync.Mutex.Lock: a writer behind a writer waits for an inner mutex). In
//! Rust: yes, with guards as well.

use greenprof_runtime::sync::{RawRwLock, RwLock};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/rwmutex_lock",
    origin: GO,
    what: "A task locks a reader-writer lock for writing twice.",
    fix: "Unlock before locking again.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "a guard does not keep its owner from locking again"),
    ],
};

const LEAKS: &[Site] = &[Site("writer", RwLockWrite, 1)];

fn run(scene: &Scene) {
    scene.spawn("writer", || {
        let turn = RawRwLock::new();
        turn.write_lock();
        turn.write_lock();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    scene.spawn("writer", || {
        let count = RwLock::new(0);
        let first = count.write();
        *count.write() += *first;
    });
    scene.settled();
}
