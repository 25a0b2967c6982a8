//! goker/syncthing_4829: resource, double locking.
//!
//! Bug: clearing the addresses of a mapping tells its listeners with the write lock held. Telling them read-locks it.
//!
//! Leaks: `service`: sync.RWMutex.RLock. In Rust: yes, with guards as well.

use std::collections::HashMap;

use greenprof_runtime::sync::{RawRwLock, RwLock};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/syncthing_4829",
    origin: "https://github.com/syncthing/syncthing/pull/4829",
    what: "Listeners are told of a change with the write lock held, which read-locks the same.",
    fix: "Unlock before telling them.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the write guard is alive while the listeners are told"),
    ],
};

const LEAKS: &[Site] = &[Site("service", RwLockRead, 1)];

#[derive(Default)]
struct Mapping {
    lock: RawRwLock,
    /// Used under the lock; its own is for the compiler.
    addresses: std::sync::Mutex<HashMap<u32, &'static str>>,
}

impl Mapping {
    fn clear(&self) {
        self.lock.write_lock();
        let removed: Vec<_> = self.addresses.lock().expect("nobody panics").drain().collect();
        if !removed.is_empty() {
            self.notify();
        }
        self.lock.write_unlock();
    }

    fn notify(&self) -> usize {
        self.lock.read_lock();
        let left = self.addresses.lock().expect("nobody panics").len();
        self.lock.read_unlock();
        left
    }
}

fn run(scene: &Scene) {
    let mapping = Arc::new(Mapping::default());
    mapping.addresses.lock().expect("nobody panics").insert(1, "192.0.2.1:22000");
    scene.spawn("service", move || mapping.clear());
    scene.settled();
}

fn rust(scene: &Scene) {
    let addresses = Arc::new(RwLock::new(HashMap::from([(1, "192.0.2.1:22000")])));
    scene.spawn("service", move || {
        let mut all = addresses.write();
        all.clear();
        let left = addresses.read().len();
        all.insert(2, "192.0.2.2:22000");
        left
    });
    scene.settled();
}
