//! simple/nil_recv: communication, channel.
//!
//! Bug: a channel that was never made is received from. That waits for ever, as nobody can send to it.
//!
//! Leaks: `reader`: chan receive (nil chan). In Rust: no.

use greenprof_runtime::sync::{Chan, channel::Receiver};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/nil_recv",
    origin: GO,
    what: "A task receives from a channel that was never made.",
    fix: "Make the channel, or have an `Option` of it and look.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "a channel that was not made is a `None`: there is nothing to receive from"),
    ],
};

const LEAKS: &[Site] = &[Site("reader", ChanReceiveNil, 1)];

fn run(scene: &Scene) {
    let numbers = Chan::<u32>::nil();
    scene.spawn("reader", move || numbers.recv());
    scene.settled();
}

fn rust(scene: &Scene) {
    let numbers: Option<Receiver<u32>> = None;
    scene.spawn("reader", move || numbers.map(|numbers| numbers.recv()));
    scene.settled();
}
