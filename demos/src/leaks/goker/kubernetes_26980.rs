//! goker/kubernetes_26980: mixed, channel and lock.
//!
//! Bug: a listener that has something to hand out waits for its stop signal with its lock held. The signal is given by one
//! who first waits for another to have had the lock.
//!
//! Leaks: `tester`: chan receive, `pop`: chan receive, `locker`: sync.RWMutex.Lock. In Rust: yes; the lock is held across
//! the wait on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};

use greenprof_runtime::{
    sync::{Chan, RawRwLock, RwLock, channel},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_26980",
    origin: "https://github.com/kubernetes/kubernetes/pull/26980",
    what: "A task waits for a signal with a lock held that is needed before the signal is given.",
    fix: "Unlock before waiting.",
    forms: &[
        Form::natural(run, LEAKS).instances(50),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the guard is held across the wait on purpose; both senders are alive"),
    ],
};

const LEAKS: &[Site] = &[Site("tester", ChanReceive, 1), Site("pop", ChanReceive, 1), Site("locker", RwLockWrite, 1)];

#[derive(Default)]
struct Listener {
    lock: RawRwLock,
    pending: AtomicUsize,
}

impl Listener {
    fn pop(&self, stop: &Chan<()>) {
        self.lock.write_lock();
        if self.pending.load(Ordering::SeqCst) > 0 {
            stop.recv();
        }
        self.lock.write_unlock();
    }
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("tester", move || {
        let (listener, stop, result) = (Arc::new(Listener::default()), Chan::<()>::new(), Chan::<()>::new());
        listener.pending.store(1, Ordering::SeqCst);
        let (theirs, told) = (listener.clone(), stop.clone());
        stage.spawn("pop", move || theirs.pop(&told));
        let (theirs, locked, scene) = (listener.clone(), result.clone(), stage.clone());
        stage.spawn("locker", move || {
            scene.until("pop", ChanReceive, 1);
            theirs.lock.write_lock();
            locked.close();
        });
        yield_now();
        result.recv();
        // Locked by the other.
        listener.lock.write_unlock();
        stop.close();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("tester", move || {
        let pending = Arc::new(RwLock::new(vec![7]));
        let ((stop, told), (locked, has_locked)) = (channel::rendezvous::<()>(), channel::rendezvous::<()>());
        let theirs = pending.clone();
        stage.spawn("pop", move || {
            let pending = theirs.write();
            if !pending.is_empty() {
                _ = told.recv();
            }
        });
        let scene = stage.clone();
        stage.spawn("locker", move || {
            scene.until("pop", ChanReceive, 1);
            pending.write().clear();
            drop(locked);
        });
        _ = has_locked.recv();
        drop(stop);
    });
    scene.settled();
}
