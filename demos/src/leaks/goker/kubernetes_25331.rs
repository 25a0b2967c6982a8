//! goker/kubernetes_25331: communication, channel and context.
//!
//! Bug: a watch that is stopped with an error sends a result about it. Who has stopped it receives no results.
//!
//! Leaks: `runner`: chan send. In Rust: no, if the client owns the receiver of the results.

use greenprof_runtime::{
    context::{Cancel, Context},
    select,
    sync::{Chan, channel},
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_25331",
    origin: "https://github.com/kubernetes/kubernetes/pull/25331",
    what: "A watch sends its last result to nobody.",
    fix: "Give the results room for one, or select between the send and the context.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the client owns the receiver of the results, and has dropped it"),
    ],
};

const LEAKS: &[Site] = &[Site("runner", ChanSend, 1)];

struct Watch {
    errors: Chan<&'static str>,
    results: Chan<String>,
    context: Context,
    cancel: Cancel,
}

impl Watch {
    fn run(&self) {
        select! {
            recv(self.errors) -> error => {
                self.cancel.cancel();
                _ = self.results.send(error.unwrap_or_default().to_owned());
            }
            recv(self.context.done()) -> _ => {}
        }
    }

    fn stop(&self) {
        self.errors.send("stopped").expect("nobody closes it");
        self.cancel.cancel();
    }
}

fn run(scene: &Scene) {
    let (context, cancel) = Context::background().with_cancel();
    let watch = Arc::new(Watch { errors: Chan::new(), results: Chan::new(), context, cancel });
    let theirs = watch.clone();
    scene.spawn("runner", move || theirs.run());
    scene.spawn("stopper", move || watch.stop());
    scene.settled();
}

fn rust(scene: &Scene) {
    let ((error, errors), (result, results)) = (channel::rendezvous(), channel::rendezvous());
    scene.spawn("runner", move || errors.recv().map(|error: &str| result.send(error.to_owned())));
    scene.spawn("stopper", move || {
        drop(results);
        error.send("stopped")
    });
    scene.settled();
}
