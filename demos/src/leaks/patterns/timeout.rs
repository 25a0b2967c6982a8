//! patterns/timeout: communication, channel and context.
//!
//! Bug: a task waits for a result or for its context, whichever comes first. If it is the context, nobody receives the
//! result any more.
//!
//! Leaks: `child`: chan send. In Rust: no.

use greenprof_runtime::{
    context::Context,
    select,
    sync::{Chan, channel},
};

use crate::leaks::{patterns::STUDY, prelude::*};

pub const PROGRAM: Program = Program {
    id: "patterns/timeout",
    origin: STUDY,
    what: "A task gives up waiting for a result, because its context is cancelled; who computes it cannot send it.",
    fix: "Give the channel room for one value.",
    forms: &[
        Form::natural(natural, &[Site("child", ChanSend, 100)]),
        Form::forced(forced, &[Site("child", ChanSend, 1)]),
        Form::rust(rust, &[], "the receiver is dropped when its owner gives up: the send fails"),
    ],
};

fn natural(scene: &Scene) {
    let (context, cancel) = Context::background().with_cancel();
    cancel.cancel();
    for _ in 0..100 {
        ask(scene, &context);
    }
    scene.settled();
}

fn forced(scene: &Scene) {
    let (context, cancel) = Context::background().with_cancel();
    cancel.cancel();
    ask(scene, &context);
    drop((context, cancel));
    scene.settled();
}

fn ask(scene: &Scene, context: &Context) {
    let (stage, context) = (scene.clone(), context.clone());
    scene.spawn("parent", move || {
        let (answer, given_up) = (Chan::new(), stage.gate());
        let (theirs, gate) = (answer.clone(), given_up.clone());
        stage.spawn("child", move || {
            gate.pass();
            theirs.send(7)
        });
        select! {
            recv(answer) -> value => value,
            recv(context.done()) -> _ => {
                given_up.open();
                None
            }
        }
    });
}

fn rust(scene: &Scene) {
    let (context, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let (stage, given_up) = (scene.clone(), scene.gate());
    scene.spawn("parent", move || {
        let (theirs, answer) = channel::rendezvous();
        let gate = given_up.clone();
        stage.spawn("child", move || {
            gate.pass();
            theirs.send(7)
        });
        select! {
            recv(answer) -> value => value,
            recv(context.done()) -> _ => {
                given_up.open();
                None
            }
        }
    });
    scene.settled();
}
