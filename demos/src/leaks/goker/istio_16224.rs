//! goker/istio_16224: mixed, channel and lock.
//!
//! Bug: an event's handler sends with a lock held that the receiver takes first. If the receiver was faster (variant
//! passed), the monitor is left, as it receives once more from its channel of events when it is told to stop.
//!
//! Leaks: held: `tester`: sync.Mutex.Lock, `monitor`: chan send. passed: `monitor`: chan receive. In Rust: the first yes,
//! the second no.

use greenprof_runtime::{
    select,
    sync::{Chan, Mutex, RawMutex, channel},
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/istio_16224",
    origin: "https://github.com/istio/istio/pull/16224",
    what: "A handler sends with a lock held that the receiver needs; or the monitor receives once too often.",
    fix: "Send without the lock; do not receive from a channel to find out whether it is closed.",
    forms: &[
        Form::natural(|scene| run(scene, None), EITHER).instances(20),
        Form::forced(|scene| run(scene, Some(Order::HandlerFirst)), HELD).variant("held"),
        Form::forced(|scene| run(scene, Some(Order::TesterFirst)), PASSED).variant("passed"),
        Form::rust(|scene| rust(scene, Order::HandlerFirst), HELD, "the guard is held across the send on purpose")
            .variant("held"),
        Form::rust(|scene| rust(scene, Order::TesterFirst), &[], "the tester's sender is dropped: the receive ends")
            .variant("passed"),
    ],
};

const HELD: &[Site] = &[Site("tester", MutexLock, 1), Site("monitor", ChanSend, 1)];
const PASSED: &[Site] = &[Site("monitor", ChanReceive, 1)];

const EITHER: &[Site] = &[Site("tester", MutexLock, 1), Site("monitor", ChanSend, 1), Site("monitor", ChanReceive, 1)];

/// Who has the lock first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    HandlerFirst,
    TesterFirst,
}

#[derive(Default)]
struct Monitor {
    lock: RawMutex,
    events: Chan<u32>,
    done: Chan<()>,
    stop: Chan<()>,
}

fn run(scene: &Scene, order: Option<Order>) {
    let monitor = Arc::new(Monitor::default());
    let passed = scene.gate();
    if order != Some(Order::TesterFirst) {
        passed.open();
    }
    let (theirs, may_lock) = (monitor.clone(), passed.clone());
    scene.spawn("monitor", move || {
        loop {
            select! {
                recv(theirs.events) -> _ => {
                    may_lock.pass();
                    theirs.lock.lock();
                    _ = theirs.done.send(());
                    theirs.lock.unlock();
                }
                recv(theirs.stop) -> _ => {
                    // Meant to find out whether it is still open.
                    theirs.events.recv();
                    return;
                }
            }
        }
    });
    let stage = scene.clone();
    scene.spawn("tester", move || {
        monitor.events.send(7).expect("nobody closes it");
        if order == Some(Order::HandlerFirst) {
            stage.until("monitor", ChanSend, 1);
        }
        monitor.lock.lock();
        monitor.lock.unlock();
        passed.open();
        monitor.done.recv();
        monitor.stop.close();
    });
    scene.settled();
}

fn rust(scene: &Scene, order: Order) {
    let ((send, events), (done, is_done)) = (channel::rendezvous(), channel::rendezvous());
    let ((stop, stopped), count) = (channel::rendezvous::<()>(), Arc::new(Mutex::new(0)));
    let passed = scene.gate();
    if order == Order::HandlerFirst {
        passed.open();
    }
    let (total, may_lock) = (count.clone(), passed.clone());
    scene.spawn("monitor", move || {
        loop {
            select! {
                recv(events) -> event => {
                    let Some(event) = event else { return };
                    may_lock.pass();
                    let mut total = total.lock();
                    *total += event;
                    _ = done.send(());
                }
                recv(stopped) -> _ => {
                    _ = events.recv();
                    return;
                }
            }
        }
    });
    let stage = scene.clone();
    scene.spawn("tester", move || {
        send.send(7).expect("there is a receiver");
        if order == Order::HandlerFirst {
            stage.until("monitor", ChanSend, 1);
        }
        *count.lock() += 1;
        passed.open();
        _ = is_done.recv();
        drop(stop);
    });
    scene.settled();
}
