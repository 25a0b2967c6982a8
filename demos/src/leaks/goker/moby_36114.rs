//! goker/moby_36114: resource, double locking.
//!
//! Bug: a method locks its object and calls another method that locks it, too.
//!
//! Leaks: `service`: sync.Mutex.Lock. In Rust: yes, with guards as well.

use greenprof_runtime::sync::{Mutex, RawMutex};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/moby_36114",
    origin: "https://github.com/moby/moby/pull/36114",
    what: "A method that locks calls another that locks the same.",
    fix: "Have a second method that expects the lock to be held.",
    forms: &[
        Form::natural(run, LEAKS).instances(100),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the guard is alive during the nested call"),
    ],
};

const LEAKS: &[Site] = &[Site("service", MutexLock, 1)];

#[derive(Default)]
struct ServiceVm {
    lock: RawMutex,
}

impl ServiceVm {
    fn add_disks(&self) {
        self.lock.lock();
        self.add_one();
        self.lock.unlock();
    }

    fn add_one(&self) {
        self.lock.lock();
        self.lock.unlock();
    }
}

fn run(scene: &Scene) {
    let vm = Arc::new(ServiceVm::default());
    scene.spawn("service", move || vm.add_disks());
    scene.settled();
}

fn rust(scene: &Scene) {
    fn add_one(disks: &Mutex<Vec<u32>>) {
        disks.lock().push(7);
    }
    scene.spawn("service", move || {
        let disks = Mutex::new(Vec::new());
        let held = disks.lock();
        add_one(&disks);
        held.len()
    });
    scene.settled();
}
