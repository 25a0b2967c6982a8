//! simple/select_no_cases: communication, channel.
//!
//! Bug: a task waits in a select without arms. There is nothing that could end it.
//!
//! Leaks: `waiter`: select (no cases). In Rust: yes, the same.

use greenprof_runtime::select;

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/select_no_cases",
    origin: GO,
    what: "A task waits in a select without arms.",
    fix: "Wait for something that says when to end.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(run, LEAKS, "there is no half whose drop could end it"),
    ],
};

const LEAKS: &[Site] = &[Site("waiter", SelectNoCases, 1)];

fn run(scene: &Scene) {
    scene.spawn("waiter", || select! {});
    scene.settled();
}
