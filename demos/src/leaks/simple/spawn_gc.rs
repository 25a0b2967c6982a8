//! simple/spawn_gc: communication, channel; a stress test.
//!
//! Bug: each node of a tree of tasks spawns one that receives from a channel of its own. Each node takes a leak profile
//! when its children have begun, so that many are taken at once.
//!
//! Leaks: 206 x `leaker`: chan receive. In Rust: no.

use greenprof_runtime::{
    sync::{Chan, WaitGroup, channel},
    yield_now,
};

use crate::leaks::{prelude::*, simple::GO};

pub const PROGRAM: Program = Program {
    id: "simple/spawn_gc",
    origin: GO,
    what: "206 tasks receive from channels that nobody else knows, while 206 others take leak profiles.",
    fix: "Give each channel to somebody who sends.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the sending halves are dropped at once: the receives fail"),
    ],
};

const LEAKS: &[Site] = &[Site("leaker", ChanReceive, 206)];

/// The level of the root; a node of level n has n children of level n - 1.
const ROOT: usize = 5;

fn run(scene: &Scene) {
    grow(scene, ROOT, || _ = Chan::<()>::new().recv());
    scene.settled();
}

fn rust(scene: &Scene) {
    grow(scene, ROOT, || {
        let (_, receiver) = channel::rendezvous::<()>();
        _ = receiver.recv();
    });
    scene.settled();
}

fn grow(scene: &Scene, level: usize, leak: fn()) {
    if level == 0 {
        return;
    }
    let begun = WaitGroup::new();
    begun.add(level + 1);
    let group = begun.clone();
    scene.spawn("leaker", move || {
        group.done();
        leak();
    });
    for _ in 0..level {
        let (group, stage) = (begun.clone(), scene.clone());
        scene.spawn("node", move || {
            group.done();
            grow(&stage, level - 1, leak);
        });
    }
    begun.wait();
    yield_now();
    scene.look_aside();
}
