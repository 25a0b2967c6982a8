//! goker/moby_17176: resource, missing unlock.
//!
//! Bug: when there is nothing to clean up, the function returns without unlocking. The next who locks waits for a task
//! that has ended.
//!
//! Leaks: `child`: sync.Mutex.Lock. In Rust: no: the guard is dropped by the return.

use std::time::Duration;

use greenprof_runtime::{
    select,
    sync::{Chan, Mutex, RawMutex, channel},
    time::after,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/moby_17176",
    origin: "https://github.com/moby/moby/pull/17176",
    what: "A lock is left locked by a task that returns early and ends.",
    fix: "Unlock on every way out.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the guard is dropped by the early return"),
    ],
};

const LEAKS: &[Site] = &[Site("child", MutexLock, 1)];

const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Default)]
struct DeviceSet {
    lock: RawMutex,
    deleted: Vec<u32>,
}

impl DeviceSet {
    fn clean_up(&self) -> usize {
        self.lock.lock();
        if self.deleted.is_empty() {
            return 0; // and stays locked
        }
        self.lock.unlock();
        self.deleted.len()
    }
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("caller", move || {
        let devices = Arc::new(DeviceSet::default());
        devices.clean_up();
        let report = Chan::new();
        let done = report.clone();
        stage.spawn("child", move || {
            devices.lock.lock();
            devices.lock.unlock();
            done.send(())
        });
        select! {
            recv(report) -> _ => {}
            recv(after(PATIENCE)) -> _ => {}
        }
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    fn clean_up(deleted: &Mutex<Vec<u32>>) -> usize {
        let deleted = deleted.lock();
        if deleted.is_empty() {
            return 0;
        }
        deleted.len()
    }
    let stage = scene.clone();
    scene.spawn("caller", move || {
        let deleted = Arc::new(Mutex::new(Vec::new()));
        clean_up(&deleted);
        let (done, report) = channel::rendezvous();
        stage.spawn("child", move || {
            deleted.lock().push(7);
            done.send(())
        });
        select! {
            recv(report) -> _ => {}
            timeout(PATIENCE) => {}
        }
    });
    scene.settled();
}
