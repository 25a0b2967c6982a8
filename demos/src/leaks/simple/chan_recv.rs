//! simple/chan_recv: communication, channel.
//!
//! Bug: a task receives from a channel that nobody else knows. Nobody can send to it.
//!
//! Leaks: `receiver`: chan receive. In Rust: no.

use greenprof_runtime::sync::{Chan, channel};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/chan_recv",
    origin: GO,
    what: "A task receives from a channel that nobody else knows.",
    fix: "Give the channel to somebody who sends.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the sending half is dropped at once: the receive fails"),
    ],
};

const LEAKS: &[Site] = &[Site("receiver", ChanReceive, 1)];

fn run(scene: &Scene) {
    scene.spawn("receiver", || Chan::<u32>::new().recv());
    scene.settled();
}

fn rust(scene: &Scene) {
    scene.spawn("receiver", || {
        // In one expression, `rendezvous().1.recv()`, the sender would live until the receive is over: for ever.
        let (_, receiver) = channel::rendezvous::<u32>();
        receiver.recv()
    });
    scene.settled();
}
