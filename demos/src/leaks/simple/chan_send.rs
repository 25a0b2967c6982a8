//! simple/chan_send: communication, channel.
//!
//! Bug: a task sends to a channel that nobody else knows. Nobody can receive from it.
//!
//! Leaks: `sender`: chan send. In Rust: no.

use greenprof_runtime::sync::{Chan, channel};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/chan_send",
    origin: GO,
    what: "A task sends to a channel that nobody else knows.",
    fix: "Give the channel to somebody who receives.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the receiving half is dropped at once: the send fails"),
    ],
};

const LEAKS: &[Site] = &[Site("sender", ChanSend, 1)];

fn run(scene: &Scene) {
    scene.spawn("sender", || Chan::new().send(7));
    scene.settled();
}

fn rust(scene: &Scene) {
    scene.spawn("sender", || {
        let (sender, _) = channel::rendezvous();
        sender.send(7)
    });
    scene.settled();
}
