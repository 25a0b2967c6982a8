//! goker/moby_30408: communication, condition variable.
//!
//! Bug: who waits for a plugin to become active waits for its manifest. Activation has failed, and nobody says so.
//!
//! Leaks: `activator`: sync.Cond.Wait, `tester`: chan receive. In Rust: yes: a missing notification is missing.

use greenprof_runtime::sync::{Chan, Condvar, Mutex, channel};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/moby_30408",
    origin: "https://github.com/moby/moby/pull/30408",
    what: "A task waits for a condition that a failure keeps from ever holding, and of which nobody is notified.",
    fix: "Wait for the error as well, and notify when it is set.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "nothing notifies when the last who could is gone"),
    ],
};

const LEAKS: &[Site] = &[Site("activator", CondvarWait, 1), Site("tester", ChanReceive, 1)];

#[derive(Default)]
struct Activation {
    manifest: Option<String>,
    #[expect(dead_code, reason = "nobody looks: this is the bug")]
    error: Option<&'static str>,
}

#[derive(Default)]
struct Plugin {
    activation: Mutex<Activation>,
    changed: Condvar,
}

impl Plugin {
    fn failed() -> Self {
        let activation = Activation { manifest: None, error: Some("no such file") };
        Self { activation: Mutex::new(activation), changed: Condvar::new() }
    }

    fn wait_active(&self) {
        drop(self.changed.wait_while(self.activation.lock(), |activation| activation.manifest.is_none()));
    }
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("tester", move || {
        let (plugin, done) = (Arc::new(Plugin::failed()), Chan::<()>::new());
        let active = done.clone();
        stage.spawn("activator", move || {
            plugin.wait_active();
            active.close();
        });
        done.recv();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("tester", move || {
        let (plugin, (active, done)) = (Plugin::failed(), channel::rendezvous::<()>());
        stage.spawn("activator", move || {
            plugin.wait_active();
            drop(active);
        });
        done.recv()
    });
    scene.settled();
}
