//! goker/grpc_862: communication, channel and context.
//!
//! Bug: dialling makes a connection with a context of its own and spawns a task that waits for that. It then fails to hand
//! the connection out, so that nobody can cancel.
//!
//! Leaks: `reset`: chan receive. In Rust: no, with a guard that cancels when it is dropped.

use std::time::Duration;

use greenprof_runtime::context::{Cancel, Context};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/grpc_862",
    origin: "https://github.com/grpc/grpc-go/pull/862",
    what: "A task waits for the context of a connection that was never handed out, so nobody cancels it.",
    fix: "Derive the connection's context from the caller's, or cancel it on failure.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the task gets the context only; the guard that cancels is dropped by the failed dial"),
    ],
};

const LEAKS: &[Site] = &[Site("reset", ChanReceive, 1)];

struct Connection {
    context: Context,
    cancel: Cancel,
}

/// Never hands a connection out.
fn dial(scene: &Scene, caller: &Context) -> Option<Arc<Connection>> {
    let (context, cancel) = Context::background().with_cancel();
    let connection = Arc::new(Connection { context, cancel });
    // Plays no role, and must keep nothing alive.
    let (short, given_up) = connection.context.with_timeout(Duration::from_nanos(10));
    given_up.cancel();
    drop(short);
    let theirs = connection.clone();
    scene.spawn("reset", move || {
        let (attempt, _cancel) = theirs.context.with_cancel();
        attempt.done().recv();
        theirs.cancel.cancel();
    });
    // Closes the connection if the caller has given up; but what is handed out is not this one.
    let handed_out: Option<Arc<Connection>> = None;
    if caller.err().is_some() {
        handed_out.iter().for_each(|connection| connection.cancel.cancel());
    }
    handed_out
}

fn run(scene: &Scene) {
    let (context, cancel) = Context::background().with_cancel();
    let stage = scene.clone();
    scene.spawn("dialler", move || dial(&stage, &context).is_some());
    scene.spawn("canceller", move || cancel.cancel());
    scene.settled();
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("dialler", move || -> Option<CancelOnDrop> {
        let (context, cancel) = Context::background().with_cancel();
        let _connection = CancelOnDrop(cancel);
        stage.spawn("reset", move || {
            let (attempt, _cancel) = context.with_cancel();
            attempt.done().recv()
        });
        None
    });
    scene.settled();
}
