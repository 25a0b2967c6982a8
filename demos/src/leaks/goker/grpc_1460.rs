//! goker/grpc_1460: mixed, channel and lock.
//!
//! Bug: when there are no streams, keepalive waits to be woken with the client's lock held. Who makes a stream, and would
//! wake it, needs the lock.
//!
//! Leaks: `keepalive`: chan receive, `stream`: sync.Mutex.Lock. In Rust: yes; the lock is held across the wait on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};

use greenprof_runtime::{
    select,
    sync::{Chan, Mutex, RawMutex, channel},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/grpc_1460",
    origin: "https://github.com/grpc/grpc-go/pull/1460",
    what: "A task waits to be woken with a lock held that the waker needs.",
    fix: "Unlock before waiting.",
    forms: &[
        Form::natural(run, LEAKS).instances(50),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the guard is held across the receive on purpose"),
    ],
};

const LEAKS: &[Site] = &[Site("keepalive", ChanReceive, 1), Site("stream", MutexLock, 1)];

#[derive(Default)]
struct Client {
    lock: RawMutex,
    streams: AtomicUsize,
    wake: Chan<()>,
}

fn run(scene: &Scene) {
    let client = Arc::new(Client::default());
    let theirs = client.clone();
    scene.spawn("keepalive", move || {
        theirs.lock.lock();
        if theirs.streams.load(Ordering::SeqCst) == 0 {
            theirs.wake.recv();
        }
        theirs.lock.unlock();
    });
    let stage = scene.clone();
    scene.spawn("stream", move || {
        stage.until("keepalive", ChanReceive, 1);
        yield_now();
        client.lock.lock();
        client.streams.fetch_add(1, Ordering::SeqCst);
        select! {
            send(client.wake, ()) -> _ => {}
            default => {}
        }
        client.lock.unlock();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (streams, (wake, woken)) = (Arc::new(Mutex::new(0)), channel::rendezvous());
    let theirs = streams.clone();
    scene.spawn("keepalive", move || {
        let streams = theirs.lock();
        if *streams == 0 {
            _ = woken.recv();
        }
    });
    let stage = scene.clone();
    scene.spawn("stream", move || {
        stage.until("keepalive", ChanReceive, 1);
        let mut streams = streams.lock();
        *streams += 1;
        _ = wake.try_send(());
    });
    scene.settled();
}
