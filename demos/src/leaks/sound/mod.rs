//! Programs whose tasks are blocked and must not be reported: each can be woken, and is woken after the look.
//!
//! What they have in common: the handle that can wake is out of sight of whoever looks superficially. It is made in a
//! function that has returned when the program is looked at, so that the looking task's own frames do not hold it.

mod chains;
mod containers;
mod in_flight;
mod locks;
mod registers;
mod roots;
mod stacks;
mod tasks;
mod timers;
mod waits;

use greenprof_runtime::sync::Chan;

use super::{prelude::*, scene::Gate};

/// All of them.
pub fn programs() -> Vec<&'static Program> {
    [
        roots::PROGRAMS,
        stacks::PROGRAMS,
        registers::PROGRAMS,
        containers::PROGRAMS,
        in_flight::PROGRAMS,
        timers::PROGRAMS,
        tasks::PROGRAMS,
        locks::PROGRAMS,
        waits::PROGRAMS,
        chains::PROGRAMS,
    ]
    .concat()
}

/// A program: name, what it does, why nothing may be reported, its function, who is blocked.
macro_rules! sound {
    ($name:literal, $what:literal, $why:literal, $run:expr, $held:expr) => {
        &Program {
            id: concat!("sound/", $name),
            origin: "a leak detector must not report it",
            what: $what,
            fix: $why,
            forms: &[Form::forced($run, &[]).held($held)],
        }
    };
}
use sound;

/// Who is blocked in most of them.
const RECEIVER: &[Site] = &[Site("receiver", ChanReceive, 1)];

/// Spawns a task that receives, and gives the handle that can wake it.
fn receiver(scene: &Scene) -> Chan<()> {
    let signal = Chan::new();
    let theirs = signal.clone();
    scene.spawn("receiver", move || theirs.recv());
    signal
}

/// Wakes the one that receives.
fn wake(signal: &Chan<()>) {
    signal.send(()).expect("nobody closes it");
}

/// Starts a program, lets it be looked at, and opens the gate.
fn play(scene: &Scene, start: fn(&Scene, Gate)) {
    let gate = scene.gate();
    start(scene, gate.clone());
    scene.settled();
    gate.open();
}

/// As [`play`], with a task named `holder` that sleeps when the program is looked at.
fn play_with_holder(scene: &Scene, start: fn(&Scene, Gate)) {
    let gate = scene.gate();
    start(scene, gate.clone());
    scene.until("holder", Sleep, 1);
    scene.settled();
    gate.open();
}
