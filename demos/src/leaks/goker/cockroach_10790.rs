//! goker/cockroach_10790: communication, channel and context.
//!
//! Bug: when its context is cancelled, a task does not stop, but spawns another to drain its channels, once for each. Who
//! would have sent on them has stopped at the same signal.
//!
//! Leaks: 2 x `drainer`: chan receive. In Rust: no.

use greenprof_runtime::{
    context::Context,
    select,
    sync::{
        Chan,
        channel::{self, Receiver, Sender},
    },
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_10790",
    origin: "https://github.com/cockroachdb/cockroach/pull/10790",
    what: "Tasks that drain channels begin when the senders have already given up.",
    fix: "Have the drainers look at the context, too.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the helper owns the senders, and drops them when it gives up"),
    ],
};

const LEAKS: &[Site] = &[Site("drainer", ChanReceive, 2)];

fn run(scene: &Scene) {
    let channels = [Chan::<bool>::new(), Chan::new()];
    let (context, cancel) = Context::background().with_cancel();
    let helper_has_left = scene.gate();
    let (theirs, its_context, left) = (channels.clone(), context.clone(), helper_has_left.clone());
    scene.spawn("helper", move || {
        for channel in &theirs {
            select! {
                send(channel, true) -> _ => {}
                recv(its_context.done()) -> _ => break,
            }
        }
        left.open();
    });
    scene.spawn("canceller", move || cancel.cancel());
    let stage = scene.clone();
    scene.spawn("beginner", move || {
        helper_has_left.pass();
        for channel in &channels {
            select! {
                recv(channel) -> _ => {}
                recv(context.done()) -> _ => {
                    let all = channels.clone();
                    stage.spawn("drainer", move || all.iter().for_each(|channel| _ = channel.recv()));
                }
            }
        }
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (senders, receivers): (Vec<Sender<bool>>, Vec<Receiver<bool>>) = (0..2).map(|_| channel::rendezvous()).unzip();
    let (context, cancel) = Context::background().with_cancel();
    let helper_has_left = scene.gate();
    let (its_context, left) = (context.clone(), helper_has_left.clone());
    scene.spawn("helper", move || {
        for sender in &senders {
            select! {
                send(sender, true) -> _ => {}
                recv(its_context.done()) -> _ => break,
            }
        }
        left.open();
    });
    scene.spawn("canceller", move || cancel.cancel());
    let stage = scene.clone();
    scene.spawn("beginner", move || {
        helper_has_left.pass();
        for _ in &receivers {
            let _ended = context.done().recv();
            let all = receivers.clone();
            stage.spawn("drainer", move || all.iter().for_each(|receiver| _ = receiver.recv()));
        }
    });
    scene.settled();
}
