//! goker/etcd_6873: mixed, channel and lock.
//!
//! Bug: who stops a broadcaster holds its lock while it waits for its end. The broadcaster needs the lock for the update
//! that is still in its channel.
//!
//! Leaks: `stopper`: chan receive, `broadcaster`: sync.Mutex.Lock. In Rust: yes; the lock is held across the wait on
//! purpose.

use greenprof_runtime::{
    select,
    sync::{Chan, Mutex, RawMutex, channel},
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/etcd_6873",
    origin: "https://github.com/etcd-io/etcd/pull/6873",
    what: "A stopper waits for a broadcaster with its lock held; the broadcaster needs the lock to end.",
    fix: "Wait without the lock.",
    forms: &[
        Form::natural(run, LEAKS).instances(50),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the guard is held across the wait on purpose"),
    ],
};

const LEAKS: &[Site] = &[Site("stopper", ChanReceive, 1), Site("broadcaster", MutexLock, 1)];

struct Broadcasts {
    lock: RawMutex,
    updates: Chan<u32>,
    done: Chan<()>,
}

fn run(scene: &Scene) {
    let all = Arc::new(Broadcasts { lock: RawMutex::new(), updates: Chan::with_capacity(1), done: Chan::new() });
    let (updated, closed) = (scene.gate(), scene.gate());
    let (theirs, has_updated) = (all.clone(), updated.clone());
    scene.spawn("updater", move || {
        select! {
            send(theirs.updates, 7) -> _ => {}
            default => {}
        }
        has_updated.open();
    });
    let (theirs, has_closed) = (all.clone(), closed.clone());
    scene.spawn("stopper", move || {
        updated.pass();
        theirs.lock.lock();
        theirs.updates.close();
        has_closed.open();
        theirs.done.recv();
        theirs.lock.unlock();
    });
    let (theirs, may_run) = (all, closed);
    scene.spawn("broadcaster", move || {
        may_run.pass();
        for _ in &theirs.updates {
            theirs.lock.lock();
            theirs.lock.unlock();
        }
        theirs.done.close();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let ((updates, received), (finished, done)) = (channel::bounded(1), channel::rendezvous::<()>());
    let (sum, may_run) = (Arc::new(Mutex::new(0)), scene.gate());
    let (total, closed) = (sum.clone(), may_run.clone());
    scene.spawn("broadcaster", move || {
        may_run.pass();
        received.iter().for_each(|update: u32| *total.lock() += update);
        drop(finished);
    });
    updates.send(7).expect("there is room");
    scene.spawn("stopper", move || {
        let _sum = sum.lock();
        drop(updates);
        closed.open();
        _ = done.recv();
    });
    scene.settled();
}
