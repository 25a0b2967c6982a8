//! goker/moby_25384: mixed, misuse of a wait group.
//!
//! Bug: tasks are to be started and then waited for, all together, but the wait stands inside the loop that starts them. The
//! first round waits for two with one started.
//!
//! Leaks: `initializer`: sync.WaitGroup.Wait. In Rust: yes with a wait group, no with handles that are joined.

use greenprof_runtime::sync::WaitGroup;

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/moby_25384",
    origin: "https://github.com/moby/moby/pull/25384",
    what: "A wait for all tasks stands inside the loop that starts them.",
    fix: "Move it behind the loop.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(run, LEAKS, "a counter is a counter").variant("counter"),
        Form::rust(joined, &[], "a task that was not started cannot be joined: the misplaced wait is only slow")
            .variant("joined"),
    ],
};

const LEAKS: &[Site] = &[Site("initializer", WaitGroupWait, 1)];

const PLUGINS: [&str; 2] = ["network", "volume"];

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("initializer", move || {
        let group = WaitGroup::new();
        group.add(PLUGINS.len());
        for _ in PLUGINS {
            let done = group.clone();
            stage.spawn("plugin", move || done.done());
            group.wait();
        }
    });
    scene.settled();
}

fn joined(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("initializer", move || {
        for plugin in PLUGINS {
            let started = stage.spawn("plugin", move || plugin.len());
            started.join().expect("it does not panic");
        }
    });
    scene.settled();
}
