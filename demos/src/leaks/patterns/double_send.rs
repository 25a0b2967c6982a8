//! patterns/double_send: communication, channel.
//!
//! Bug: after it has sent an error, a task goes on and sends a result as well, because a return is missing. The caller
//! receives once.
//!
//! Leaks: `query`: chan send. In Rust: no, as soon as the caller has dropped its receiver.

use greenprof_runtime::sync::{
    Chan,
    channel::{self, Sender},
};

use crate::leaks::{patterns::STUDY, prelude::*};

pub const PROGRAM: Program = Program {
    id: "patterns/double_send",
    origin: STUDY,
    what: "A task sends an error and then, as a return is missing, a result too; only one is received.",
    fix: "Return after sending the error.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the caller's receiver is dropped when it is done: the second send fails"),
    ],
};

const LEAKS: &[Site] = &[Site("query", ChanSend, 1)];

type Answer = Result<u32, &'static str>;

fn query(answers: &Chan<Answer>, fails: bool) {
    if fails {
        answers.send(Err("no such row")).expect("nobody closes it");
        // Here a return is missing.
    }
    answers.send(Ok(7)).expect("nobody closes it");
}

fn ask(scene: &Scene, answers: &Chan<Answer>, fails: bool) {
    let theirs = answers.clone();
    scene.spawn("query", move || query(&theirs, fails));
    answers.recv().expect("nobody closes it").ok();
}

fn run(scene: &Scene) {
    let answers = Chan::new();
    ask(scene, &answers, false);
    ask(scene, &answers, true);
    drop(answers);
    let roomy = Chan::with_capacity(1);
    ask(scene, &roomy, true);
    drop(roomy);
    scene.settled();
}

fn rust(scene: &Scene) {
    fn query(answers: &Sender<Answer>, fails: bool) {
        if fails {
            _ = answers.send(Err("no such row"));
        }
        _ = answers.send(Ok(7));
    }
    let (theirs, answers) = channel::rendezvous();
    for fails in [false, true] {
        let theirs = theirs.clone();
        scene.spawn("query", move || query(&theirs, fails));
        _ = answers.recv();
    }
    drop((theirs, answers));
    scene.settled();
}
