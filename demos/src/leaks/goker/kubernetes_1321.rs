//! goker/kubernetes_1321: mixed, channel and lock.
//!
//! Bug: a distributor sends to all watchers with the table's lock held. A watcher that wants to leave, and receives no
//! more, needs the lock.
//!
//! Leaks: `distributor`: chan send, `watcher`: sync.Mutex.Lock. In Rust: yes; the lock is held across the send on purpose.

use std::collections::HashMap;

use greenprof_runtime::{
    sync::{Chan, Mutex, RawMutex, channel},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_1321",
    origin: "https://github.com/kubernetes/kubernetes/pull/1321",
    what: "A distributor sends to a watcher with a lock held that the watcher needs to leave.",
    fix: "Send without the lock.",
    forms: &[
        Form::natural(run, LEAKS).instances(50),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the guard is held across the send on purpose; the watcher's receiver is alive"),
    ],
};

const LEAKS: &[Site] = &[Site("distributor", ChanSend, 1), Site("watcher", MutexLock, 1)];

const ROUNDS: u32 = 100;

#[derive(Default)]
struct Mux {
    lock: RawMutex,
    /// Used under the lock, but for the first entry; its own is for the compiler.
    watchers: std::sync::Mutex<HashMap<u32, Chan<u32>>>,
}

impl Mux {
    fn distribute(&self, round: u32) {
        self.lock.lock();
        let watchers: Vec<Chan<u32>> = self.watchers.lock().expect("nobody panics").values().cloned().collect();
        watchers.iter().for_each(|watcher| _ = watcher.send(round));
        self.lock.unlock();
    }

    fn stop_watching(&self, id: u32) {
        self.lock.lock();
        let results = self.watchers.lock().expect("nobody panics").remove(&id);
        results.inspect(|results| _ = results.close());
        self.lock.unlock();
    }
}

fn run(scene: &Scene) {
    let mux = Arc::new(Mux::default());
    mux.watchers.lock().expect("nobody panics").insert(1, Chan::new());
    let theirs = mux.clone();
    scene.spawn("distributor", move || (0..ROUNDS).for_each(|round| theirs.distribute(round)));
    let stage = scene.clone();
    scene.spawn("watcher", move || {
        yield_now();
        stage.until("distributor", ChanSend, 1);
        mux.stop_watching(1);
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (sender, results) = channel::rendezvous();
    let watchers = Arc::new(Mutex::new(HashMap::from([(1, sender)])));
    let theirs = watchers.clone();
    scene.spawn("distributor", move || {
        for round in 0..ROUNDS {
            theirs.lock().values().for_each(|watcher| _ = watcher.send(round));
        }
    });
    let stage = scene.clone();
    scene.spawn("watcher", move || {
        stage.until("distributor", ChanSend, 1);
        watchers.lock().remove(&1);
        drop(results);
    });
    scene.settled();
}
