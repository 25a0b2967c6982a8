//! goker/cockroach_25456: communication, channel.
//!
//! Bug: a task means to ask whether it should stop, but waits until it should. It is itself the one who would say so.
//!
//! Leaks: `queue`: chan receive. In Rust: yes: the task owns the closing half.

use greenprof_runtime::sync::{Chan, channel};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_25456",
    origin: "https://github.com/cockroachdb/cockroach/pull/25456",
    what: "A task waits for a signal that it would give itself later.",
    fix: "Ask without waiting, in a select with a default.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the task's own frame owns the sending half"),
    ],
};

const LEAKS: &[Site] = &[Site("queue", ChanReceive, 1)];

struct Stopper {
    quiesce: Chan<()>,
}

impl Stopper {
    fn should_quiesce(&self) -> Chan<()> {
        self.quiesce.clone()
    }

    fn stop(self) {
        self.quiesce.close();
    }
}

fn run(scene: &Scene) {
    scene.spawn("queue", || {
        let stopper = Stopper { quiesce: Chan::new() };
        stopper.should_quiesce().recv();
        stopper.stop();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    scene.spawn("queue", || {
        let (stop, should_quiesce) = channel::rendezvous::<()>();
        _ = should_quiesce.recv();
        drop(stop);
    });
    scene.settled();
}
