//! goker/cockroach_18101: communication, channel and context.
//!
//! Bug: a consumer leaves its channel in the middle, because its context was cancelled. The producer goes on until the
//! channel is full.
//!
//! Leaks: `producer`: chan send. In Rust: no.

use greenprof_runtime::{
    context::Context,
    sync::{Chan, channel},
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_18101",
    origin: "https://github.com/cockroachdb/cockroach/pull/18101",
    what: "A consumer leaves when its context is cancelled; the producer fills the channel and waits.",
    fix: "Have the producer look at the context, too.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the consumer's receiver is dropped when it leaves: the send fails"),
    ],
};

const LEAKS: &[Site] = &[Site("producer", ChanSend, 1)];

/// Values, and the room for them: one is consumed, so one too many.
const VALUES: u32 = 8;
const ROOM: usize = 6;

fn run(scene: &Scene) {
    let ready = Chan::with_capacity(ROOM);
    let (context, cancel) = Context::background().with_cancel();
    let theirs = ready.clone();
    scene.spawn("producer", move || {
        (0..VALUES).for_each(|value| theirs.send(value).expect("nobody else closes it"));
        theirs.close();
    });
    scene.spawn("consumer", move || {
        if ready.recv().is_some() {
            context.done().recv();
        }
    });
    scene.spawn("canceller", move || cancel.cancel());
    scene.settled();
}

fn rust(scene: &Scene) {
    let (theirs, ready) = channel::bounded(ROOM);
    let (context, cancel) = Context::background().with_cancel();
    scene.spawn("producer", move || (0..VALUES).try_for_each(|value| theirs.send(value)));
    scene.spawn("consumer", move || {
        if ready.recv().is_ok() {
            context.done().recv();
        }
    });
    scene.spawn("canceller", move || cancel.cancel());
    scene.settled();
}
