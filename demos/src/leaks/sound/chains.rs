//! Who can wake is itself blocked, and can be woken.

use std::sync::Arc;

use greenprof_runtime::{
    select,
    sync::{Chan, Mutex, WaitGroup, channel},
};

use super::{RECEIVER, play_with_holder, receiver, sound, wake};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!(
        "chain",
        "A thousand tasks, each of which wakes the next when it is woken.",
        "A sleeper wakes the first.",
        chain,
        &[Site("receiver", ChanReceive, 1000)]
    ),
    sound!(
        "ring",
        "Ten tasks in a ring, each waiting for the one before; a sleeper has a handle to one of their channels.",
        "It wakes that one, and the ring turns.",
        ring,
        &[Site("receiver", ChanReceive, 10)]
    ),
    sound!(
        "fan",
        "A hundred tasks receive from one channel.",
        "A sleeper closes it.",
        fan,
        &[Site("receiver", ChanReceive, 100)]
    ),
    sound!(
        "mixed_chain",
        "A lock, a wait group and a channel, one behind the other.",
        "A sleeper starts at the end.",
        mixed,
        &[Site("locker", MutexLock, 1), Site("waiter", WaitGroupWait, 1), Site("receiver", ChanReceive, 1)]
    ),
    sound!(
        "select_one_live",
        "A select on three channels, of which a sleeper has one.",
        "It sends.",
        select_one,
        &[Site("selector", Select, 1)]
    ),
    sound!(
        "select_send",
        "A select that would send on a channel from which a sleeper will receive.",
        "It receives.",
        select_send,
        &[Site("selector", Select, 1)]
    ),
    sound!(
        "sender",
        "A sender waits; a sleeper has the receiver.",
        "It receives.",
        sender,
        &[Site("sender", ChanSend, 1)]
    ),
    sound!(
        "receiver_drop",
        "A sender waits; a sleeper has the receiving half, and drops it.",
        "The send fails.",
        receiver_drop,
        &[Site("sender", ChanSend, 1)]
    ),
    sound!("sender_drop", "A sleeper has the sending half, and drops it.", "The receive fails.", sender_drop, RECEIVER),
    sound!(
        "clone_of_clone",
        "A sleeper has the thirtieth clone of a handle; the others are gone.",
        "It sends.",
        clones,
        RECEIVER
    ),
    sound!(
        "many_handles",
        "A sleeper has a hundred handles to one channel.",
        "It sends by the last.",
        many_handles,
        RECEIVER
    ),
];

fn chain(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let mut last = receiver(scene);
        for _ in 1..1000 {
            let (next, signal) = (last, Chan::new());
            let theirs: Chan<()> = signal.clone();
            scene.spawn("receiver", move || {
                theirs.recv();
                wake(&next);
            });
            last = signal;
        }
        scene.spawn("holder", move || {
            gate.pass();
            wake(&last);
        });
    }
    play_with_holder(scene, start);
}

fn ring(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signals: Vec<Chan<()>> = (0..10).map(|_| Chan::with_capacity(1)).collect();
        for at in 0..signals.len() {
            let (mine, next) = (signals[at].clone(), signals[(at + 1) % signals.len()].clone());
            scene.spawn("receiver", move || {
                mine.recv();
                wake(&next);
            });
        }
        let third = signals[3].clone();
        scene.spawn("holder", move || {
            gate.pass();
            wake(&third);
        });
    }
    play_with_holder(scene, start);
}

fn fan(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = Chan::<()>::new();
        for _ in 0..100 {
            let theirs = signal.clone();
            scene.spawn("receiver", move || theirs.recv());
        }
        scene.spawn("holder", move || {
            gate.pass();
            signal.close();
        });
    }
    play_with_holder(scene, start);
}

fn mixed(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (count, group, signal) = (Arc::new(Mutex::new(0)), WaitGroup::new(), Chan::<()>::new());
        group.add(1);
        let (its_group, its_signal) = (group.clone(), signal.clone());
        scene.spawn("receiver", move || {
            its_signal.recv();
            its_group.done();
        });
        let its_count = count.clone();
        scene.spawn("waiter", move || {
            let mut count = its_count.lock();
            group.wait();
            *count += 1;
        });
        scene.until("waiter", WaitGroupWait, 1);
        scene.spawn("locker", move || *count.lock() += 1);
        scene.spawn("holder", move || {
            gate.pass();
            wake(&signal);
        });
    }
    play_with_holder(scene, start);
}

fn select_one(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (first, second, third) = (Chan::<()>::new(), Chan::<()>::new(), Chan::<()>::new());
        let live = second.clone();
        scene.spawn("selector", move || {
            select! {
                recv(first) -> _ => {}
                recv(second) -> _ => {}
                send(third, ()) -> _ => {}
            }
        });
        scene.spawn("holder", move || {
            gate.pass();
            wake(&live);
        });
    }
    play_with_holder(scene, start);
}

fn select_send(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (numbers, never) = (Chan::<u32>::new(), Chan::<()>::new());
        let theirs = numbers.clone();
        scene.spawn("selector", move || {
            select! {
                send(theirs, 7) -> _ => {}
                recv(never) -> _ => {}
            }
        });
        scene.spawn("holder", move || {
            gate.pass();
            numbers.recv()
        });
    }
    play_with_holder(scene, start);
}

fn sender(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let numbers = Chan::new();
        let theirs = numbers.clone();
        scene.spawn("sender", move || theirs.send(7));
        scene.spawn("holder", move || {
            gate.pass();
            numbers.recv()
        });
    }
    play_with_holder(scene, start);
}

fn receiver_drop(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (numbers, receiver) = channel::rendezvous();
        scene.spawn("sender", move || numbers.send(7));
        scene.spawn("holder", move || {
            gate.pass();
            drop(receiver);
        });
    }
    play_with_holder(scene, start);
}

fn sender_drop(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (sender, numbers) = channel::rendezvous::<u32>();
        scene.spawn("receiver", move || numbers.recv());
        scene.spawn("holder", move || {
            gate.pass();
            drop(sender);
        });
    }
    play_with_holder(scene, start);
}

fn clones(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        // Each is dropped as soon as the next is made.
        let signal = (0..30).fold(receiver(scene), |signal, _| signal.clone());
        scene.spawn("holder", move || {
            gate.pass();
            wake(&signal);
        });
    }
    play_with_holder(scene, start);
}

fn many_handles(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        let mut all: Vec<Chan<()>> = (0..100).map(|_| signal.clone()).collect();
        drop(signal);
        all.swap(0, 99);
        scene.spawn("holder", move || {
            gate.pass();
            all.last().into_iter().for_each(wake);
        });
    }
    play_with_holder(scene, start);
}
