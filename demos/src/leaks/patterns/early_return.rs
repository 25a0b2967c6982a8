//! patterns/early_return: communication, channel.
//!
//! Bug: a task spawns another that sends it a result, meets an error, and returns before it receives.
//!
//! Leaks: `child`: chan send. In Rust: no.

use greenprof_runtime::sync::{Chan, channel};

use crate::leaks::{patterns::STUDY, prelude::*};

pub const PROGRAM: Program = Program {
    id: "patterns/early_return",
    origin: STUDY,
    what: "A task returns with an error before it receives what it has asked another to send.",
    fix: "Give the channel room for one value.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the receiver is dropped by the return: the send fails"),
    ],
};

const LEAKS: &[Site] = &[Site("child", ChanSend, 1)];

/// Fails always here; in the wild now and then.
fn check() -> Result<(), &'static str> {
    Err("not allowed")
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("parent", move || -> Result<u32, &str> {
        let answer = Chan::new();
        let theirs = answer.clone();
        stage.spawn("child", move || theirs.send(7));
        check()?;
        Ok(answer.recv().unwrap_or_default())
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("parent", move || -> Result<u32, &str> {
        let (theirs, answer) = channel::rendezvous();
        stage.spawn("child", move || theirs.send(7));
        check()?;
        Ok(answer.recv().unwrap_or_default())
    });
    scene.settled();
}
