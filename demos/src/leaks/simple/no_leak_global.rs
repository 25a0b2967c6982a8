//! simple/no_leak_global: control, no leak.
//!
//! No bug that a detector may report: a task receives from a channel in a static. Nobody sends, but anybody could.
//!
//! Leaks: none. `receiver`: chan receive is blocked, and woken at the end.

use std::sync::LazyLock;

use greenprof_runtime::sync::{
    Chan,
    channel::{self, Receiver, Sender},
};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/no_leak_global",
    origin: GO,
    what: "A task receives from a channel that lies in a static: anybody could send.",
    fix: "Nothing may be reported.",
    forms: &[
        Form::natural(run, &[]).held(HELD),
        Form::forced(run, &[]).held(HELD),
        Form::rust(rust, &[], "nothing leaks: a static keeps both halves, and the task stays blocked").held(HELD),
    ],
};

const HELD: &[Site] = &[Site("receiver", ChanReceive, 1)];

static SIGNAL: LazyLock<Chan<()>> = LazyLock::new(Chan::new);

static HALVES: LazyLock<(Sender<()>, Receiver<()>)> = LazyLock::new(channel::rendezvous);

fn run(scene: &Scene) {
    let receiver = scene.spawn("receiver", || SIGNAL.recv());
    scene.settled();
    SIGNAL.send(()).expect("it is open");
    receiver.join().expect("it does not panic");
}

fn rust(scene: &Scene) {
    let receiver = scene.spawn("receiver", || HALVES.1.recv());
    scene.settled();
    HALVES.0.send(()).expect("there is a receiver");
    _ = receiver.join().expect("it does not panic");
}
