//! goker/moby_4951: resource, AB-BA deadlock.
//!
//! Bug: deleting a device gives up the lock of all devices for a moment while it holds that of the one. Who deletes the
//! same device meanwhile has the first and waits for the second.
//!
//! Leaks: 2 x `deleter`: sync.Mutex.Lock. In Rust: yes, with guards as well.

use std::time::Duration;

use greenprof_runtime::{
    sync::{Mutex, RawMutex},
    time::sleep,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/moby_4951",
    origin: "https://github.com/moby/moby/pull/4951",
    what: "A lock is given up and taken again within another: two tasks end up in opposite order.",
    fix: "Give up both, or look the device up again.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the outer guard is dropped and taken again with the inner one alive"),
    ],
};

const LEAKS: &[Site] = &[Site("deleter", MutexLock, 2)];

/// Until the device is gone.
const WAIT: Duration = Duration::from_nanos(300);

#[derive(Default)]
struct Devices {
    lock: RawMutex,
    device: RawMutex,
}

impl Devices {
    fn delete(&self, wait: impl FnOnce()) {
        self.lock.lock();
        self.device.lock();
        self.lock.unlock();
        wait();
        self.lock.lock();
        self.device.unlock();
        self.lock.unlock();
    }
}

fn run(scene: &Scene) {
    let (devices, waiting, stage) = (Arc::new(Devices::default()), scene.gate(), scene.clone());
    let (theirs, has_device) = (devices.clone(), waiting.clone());
    scene.spawn("deleter", move || {
        theirs.delete(|| {
            has_device.open();
            sleep(WAIT);
            stage.until("deleter", MutexLock, 1);
        });
    });
    scene.spawn("deleter", move || {
        waiting.pass();
        devices.delete(|| sleep(WAIT));
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (count, device) = (Arc::new(Mutex::new(2)), Arc::new(Mutex::new("sda")));
    let (its_count, its_device, waiting, stage) = (count.clone(), device.clone(), scene.gate(), scene.clone());
    let has_device = waiting.clone();
    scene.spawn("deleter", move || {
        let devices = its_count.lock();
        let mut device = its_device.lock();
        drop(devices);
        has_device.open();
        stage.until("deleter", MutexLock, 1);
        *its_count.lock() -= 1;
        *device = "";
    });
    scene.spawn("deleter", move || {
        waiting.pass();
        let mut devices = count.lock();
        *device.lock() = "";
        *devices -= 1;
    });
    scene.settled();
}
