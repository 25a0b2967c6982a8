//! goker/cockroach_16167: resource, read-write-read deadlock.
//!
//! Bug: a task takes a lock for reading, and deep in what it calls, where the lock has another name, again. If a writer
//! queues in between, the second waits for the writer and the writer for the first.
//!
//! Leaks: `session`: sync.RWMutex.RLock, `updater`: sync.RWMutex.Lock. In Rust: yes, with guards as well.

use greenprof_runtime::{
    sync::{RawRwLock, RwLock},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_16167",
    origin: "https://github.com/cockroachdb/cockroach/pull/16167",
    what: "A lock is read-locked twice by one task, the second time under another name; a writer queues in between.",
    fix: "Lock once, and hand down what was read.",
    forms: &[
        Form::natural(run, LEAKS).instances(100),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the outer read guard is alive during the inner read"),
    ],
};

const LEAKS: &[Site] = &[Site("session", RwLockRead, 1), Site("updater", RwLockWrite, 1)];

/// The system's configuration, and what waits for its changes through the same lock's reading side.
#[derive(Clone)]
struct Executor {
    config: Arc<RawRwLock>,
    changed: Arc<RawRwLock>,
}

impl Executor {
    fn update(&self) {
        self.config.write_lock();
        self.config.write_unlock();
    }

    fn describe(&self) {
        self.config.read_lock();
        self.config.read_unlock();
    }
}

fn run(scene: &Scene) {
    let config = Arc::new(RawRwLock::new());
    let executor = Executor { changed: config.clone(), config };
    let (reading, stage, its_executor) = (scene.gate(), scene.clone(), executor.clone());
    let begun = reading.clone();
    scene.spawn("session", move || {
        its_executor.changed.read_lock();
        begun.open();
        yield_now();
        stage.until("updater", RwLockWrite, 1);
        its_executor.describe();
        its_executor.changed.read_unlock();
    });
    scene.spawn("updater", move || {
        reading.pass();
        executor.update(); // by a method, so that the task takes all of it along, as in Go
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let config = Arc::new(RwLock::new(1));
    let (reading, stage, shared) = (scene.gate(), scene.clone(), config.clone());
    let begun = reading.clone();
    scene.spawn("session", move || {
        let version = shared.read();
        begun.open();
        stage.until("updater", RwLockWrite, 1);
        *version == *shared.read()
    });
    scene.spawn("updater", move || {
        reading.pass();
        *config.write() += 1;
    });
    scene.settled();
}
