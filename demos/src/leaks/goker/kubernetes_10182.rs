//! goker/kubernetes_10182: mixed, channel and lock.
//!
//! Bug: setters send with a lock held, and who receives takes the lock after each message. If the next setter has the lock
//! before, each waits for the other.
//!
//! Leaks: `syncer`: sync.RWMutex.Lock, `setter`: chan send. In Rust: yes; the lock is held across the send on purpose.

use greenprof_runtime::{
    sync::{Chan, RawRwLock, RwLock, channel},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_10182",
    origin: "https://github.com/kubernetes/kubernetes/pull/10182",
    what: "Setters send with a lock held that the receiver needs between two messages.",
    fix: "Send without the lock.",
    forms: &[
        Form::natural(run, LEAKS).instances(50),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the guard is held across the send on purpose, and the receiver is alive"),
    ],
};

const LEAKS: &[Site] = &[Site("syncer", RwLockWrite, 1), Site("setter", ChanSend, 1)];

#[derive(Default)]
struct Manager {
    lock: RawRwLock,
    updates: Chan<u32>,
}

fn run(scene: &Scene) {
    let manager = Arc::new(Manager::default());
    let (theirs, stage) = (manager.clone(), scene.clone());
    scene.spawn("syncer", move || {
        for _ in 0..2 {
            theirs.updates.recv();
            yield_now();
            stage.until("setter", ChanSend, 1);
            theirs.lock.write_lock();
            theirs.lock.write_unlock();
        }
    });
    for update in 0..2 {
        let manager = manager.clone();
        scene.spawn("setter", move || {
            manager.lock.write_lock();
            manager.updates.send(update).expect("nobody closes it");
            manager.lock.write_unlock();
        });
    }
    drop(manager);
    scene.settled();
}

fn rust(scene: &Scene) {
    let (statuses, (updates, received)) = (Arc::new(RwLock::new(Vec::new())), channel::rendezvous());
    let (theirs, stage) = (statuses.clone(), scene.clone());
    scene.spawn("syncer", move || {
        for update in received.iter() {
            stage.until("setter", ChanSend, 1);
            theirs.write().push(update);
        }
    });
    for update in 0..2 {
        let (statuses, updates) = (statuses.clone(), updates.clone());
        scene.spawn("setter", move || {
            let _statuses = statuses.write();
            updates.send(update)
        });
    }
    drop((statuses, updates));
    scene.settled();
}
