//! simple/select_no_cases_main: communication, channel.
//!
//! Bug: the main task holds the only other handle of a channel and then waits for ever in a select without arms. Whoever
//! receives from the channel is leaked; the main task is not reported, and keeps nothing alive either.
//!
//! Leaks: `receiver`: chan receive. In Rust: yes: the main task's half is never dropped.

use std::time::Duration;

use greenprof_runtime::{
    select, sleep,
    sync::{Chan, channel},
    world::{self, TaskInfo, TaskState},
};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/select_no_cases_main",
    origin: GO,
    what: "The main task parks for ever while its frame holds the channel that another receives from.",
    fix: "Close the channel before parking.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the main task's half lies in a frame that never ends, and is never dropped"),
    ],
};

const LEAKS: &[Site] = &[Site("receiver", ChanReceive, 1)];

fn run(scene: &Scene) {
    let signal = Chan::<()>::new();
    let theirs = signal.clone();
    scene.spawn("receiver", move || theirs.recv());
    spawn_reporter(scene);
    select! {}
}

fn rust(scene: &Scene) {
    let (_signal, theirs) = channel::rendezvous::<()>();
    scene.spawn("receiver", move || theirs.recv());
    spawn_reporter(scene);
    select! {}
}

/// Somebody else than the main task looks, and ends the program.
fn spawn_reporter(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("reporter", move || {
        // Until then the main task is alive, and what its frame holds is.
        let has_parked = |task: &TaskInfo| task.state == TaskState::Waiting(SelectNoCases);
        while !world::tasks(0).iter().any(has_parked) {
            sleep(Duration::from_millis(1));
        }
        stage.until("receiver", ChanReceive, 1);
        stage.look_and_end()
    });
}
