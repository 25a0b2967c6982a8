//! simple/nil_send: communication, channel.
//!
//! Bug: a value is sent to a channel that was never made. That waits for ever, as nobody can receive from it.
//!
//! Leaks: `writer`: chan send (nil chan). In Rust: no.

use greenprof_runtime::sync::{Chan, channel::Sender};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/nil_send",
    origin: GO,
    what: "A task sends to a channel that was never made.",
    fix: "Make the channel, or have an `Option` of it and look.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "a channel that was not made is a `None`: there is nothing to send to"),
    ],
};

const LEAKS: &[Site] = &[Site("writer", ChanSendNil, 1)];

fn run(scene: &Scene) {
    let numbers = Chan::nil();
    scene.spawn("writer", move || numbers.send(7));
    scene.settled();
}

fn rust(scene: &Scene) {
    let numbers: Option<Sender<u32>> = None;
    scene.spawn("writer", move || numbers.map(|numbers| numbers.send(7)));
    scene.settled();
}
