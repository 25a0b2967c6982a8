//! The handle is on its way from one task to another.

use std::any::Any;

use greenprof_runtime::{
    select,
    sync::{
        Chan,
        channel::{self, Sender},
    },
};

use super::{RECEIVER, play_with_holder, receiver, sound, wake};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!("buffered", "In the buffer of a channel.", "Who holds that one receives it and sends.", buffered, RECEIVER),
    sound!("buffered_twice", "In the buffer of a channel in the buffer of a channel.", "As before.", twice, RECEIVER),
    sound!("buffered_any", "In a box without a type in a channel.", "As before.", any, RECEIVER),
    sound!(
        "buffered_closure",
        "Captured by a closure in a channel.",
        "Who receives the closure calls it.",
        closure,
        RECEIVER
    ),
    sound!("unbounded", "Among a thousand others in an unbounded channel.", "As before.", unbounded, RECEIVER),
    sound!("half", "A sender in a channel of senders.", "Who receives it sends, or drops it.", half, RECEIVER),
    sound!(
        "sender_waits",
        "The message of a sender that waits.",
        "Who receives it sends on.",
        sender_waits,
        &[Site("receiver", ChanReceive, 1), Site("sender", ChanSend, 1)]
    ),
    sound!(
        "select_sends",
        "The value of an arm of a select that waits.",
        "Who receives it sends on.",
        select_sends,
        &[Site("receiver", ChanReceive, 1), Site("sender", Select, 1)]
    ),
    sound!(
        "captured_send",
        "A waiting sender's message is all that leads to another that waits.",
        "Who receives the first wakes the second.",
        captured_send,
        &[Site("receiver", ChanReceive, 1), Site("sender", ChanSend, 1), Site("other", ChanSend, 1)]
    ),
];

/// Spawns a task that will receive from a channel, and open what it gets.
fn hold<T: Send + 'static>(scene: &Scene, gate: Gate, outer: Chan<T>, open: fn(T)) {
    scene.spawn("holder", move || {
        gate.pass();
        open(outer.recv().expect("something is in it"));
    });
}

fn buffered(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let outer = Chan::with_capacity(4);
        outer.send(receiver(scene)).expect("it is open");
        hold(scene, gate, outer, |signal| wake(&signal));
    }
    play_with_holder(scene, start);
}

fn twice(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (outer, inner) = (Chan::with_capacity(1), Chan::with_capacity(1));
        inner.send(receiver(scene)).expect("it is open");
        outer.send(inner).expect("it is open");
        hold(scene, gate, outer, |inner| inner.recv().iter().for_each(wake));
    }
    play_with_holder(scene, start);
}

fn any(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let outer = Chan::<Box<dyn Any + Send>>::with_capacity(1);
        outer.send(Box::new(receiver(scene))).expect("it is open");
        hold(scene, gate, outer, |any| wake(any.downcast_ref::<Chan<()>>().expect("it is one")));
    }
    play_with_holder(scene, start);
}

fn closure(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let outer = Chan::<Box<dyn FnOnce() + Send>>::with_capacity(1);
        let signal = receiver(scene);
        outer.send(Box::new(move || wake(&signal))).expect("it is open");
        hold(scene, gate, outer, |call| call());
    }
    play_with_holder(scene, start);
}

fn unbounded(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (sender, outer) = channel::unbounded();
        (0..1000).for_each(|_| sender.send(Chan::nil()).expect("there is a receiver"));
        sender.send(receiver(scene)).expect("there is a receiver");
        scene.spawn("holder", move || {
            gate.pass();
            drop(sender);
            outer.iter().filter(|signal| !signal.is_nil()).for_each(|signal| wake(&signal));
        });
    }
    play_with_holder(scene, start);
}

fn half(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (outer, (sender, theirs)) = (Chan::<Sender<()>>::with_capacity(1), channel::rendezvous());
        scene.spawn("receiver", move || theirs.recv());
        outer.send(sender).expect("it is open");
        hold(scene, gate, outer, drop);
    }
    play_with_holder(scene, start);
}

fn sender_waits(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (outer, signal) = (Chan::new(), receiver(scene));
        let theirs = outer.clone();
        scene.spawn("sender", move || theirs.send(signal));
        hold(scene, gate, outer, |signal| wake(&signal));
    }
    play_with_holder(scene, start);
}

fn select_sends(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (outer, never, signal) = (Chan::new(), Chan::<()>::new(), receiver(scene));
        let theirs = outer.clone();
        scene.spawn("sender", move || {
            select! {
                send(theirs, signal) -> sent => sent.is_ok(),
                recv(never) -> _ => false,
            }
        });
        hold(scene, gate, outer, |signal| wake(&signal));
    }
    play_with_holder(scene, start);
}

fn captured_send(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (outer, middle, signal) = (Chan::new(), Chan::new(), receiver(scene));
        let (theirs, message) = (middle.clone(), outer.clone());
        scene.spawn("other", move || theirs.send(signal));
        scene.spawn("sender", move || message.send(middle));
        hold(scene, gate, outer, |middle: Chan<Chan<()>>| middle.recv().iter().for_each(wake));
    }
    play_with_holder(scene, start);
}
