//! goker/kubernetes_38669: communication, channel.
//!
//! Bug: a cache watcher's task first sends the events that there are. Its creator stops it at once, by closing its input,
//! and never reads results.
//!
//! Leaks: `process`: chan send. In Rust: no, if the creator owns the receiver of the results.

use greenprof_runtime::sync::{Chan, Mutex, channel};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_38669",
    origin: "https://github.com/kubernetes/kubernetes/pull/38669",
    what: "A watcher is stopped before anybody has read the events with which it begins.",
    fix: "Select between the send and the stop.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the creator's receiver of the results is dropped with the watcher"),
    ],
};

const LEAKS: &[Site] = &[Site("process", ChanSend, 1)];

struct Watcher {
    input: Chan<u32>,
    results: Chan<u32>,
    stopped: Mutex<bool>,
}

impl Watcher {
    fn start(scene: &Scene, initial: Vec<u32>) -> Arc<Self> {
        let watcher = Arc::new(Self { input: Chan::new(), results: Chan::new(), stopped: Mutex::new(false) });
        let theirs = watcher.clone();
        scene.spawn("process", move || {
            initial.into_iter().chain(&theirs.input).for_each(|event| _ = theirs.results.send(event));
        });
        watcher
    }

    fn stop(&self) {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            *stopped = true;
            self.input.close();
        }
    }
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("creator", move || Watcher::start(&stage, vec![1, 2, 3]).stop());
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("creator", move || {
        let ((input, inputs), (result, results)) = (channel::rendezvous::<u32>(), channel::rendezvous());
        stage.spawn("process", move || {
            [1, 2, 3].into_iter().chain(inputs.iter()).try_for_each(|event| result.send(event))
        });
        drop((input, results));
    });
    scene.settled();
}
