//! goker/kubernetes_5316: communication, channel.
//!
//! Bug: a request runs in a task that sends its result or its error. Who waits for either gives up after a while.
//!
//! Leaks: `worker`: chan send. In Rust: no.

use std::time::{Duration, SystemTime};

use greenprof_runtime::{
    select,
    sync::{Chan, channel},
    time::{after, sleep},
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_5316",
    origin: "https://github.com/kubernetes/kubernetes/pull/5316",
    what: "A request is given up, and who works on it cannot send its result.",
    fix: "Give both channels room for one value.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "both receivers are dropped when the request is given up"),
    ],
};

const LEAKS: &[Site] = &[Site("worker", ChanSend, 1)];

const PATIENCE: Duration = Duration::from_micros(1);
const WORK: Duration = Duration::from_millis(2);

/// Works for a while, and succeeds or not.
fn work() -> Result<u32, &'static str> {
    sleep(WORK);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now.subsec_micros().is_multiple_of(2) { Ok(7) } else { Err("it did not work") }
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("request", move || {
        let (results, errors, given_up) = (Chan::new(), Chan::new(), stage.gate());
        let (result, error, gate) = (results.clone(), errors.clone(), given_up.clone());
        stage.spawn("worker", move || {
            let outcome = work();
            gate.pass();
            match outcome {
                Ok(value) => result.send(value).is_ok(),
                Err(why) => error.send(why).is_ok(),
            }
        });
        select! {
            recv(results) -> _ => {}
            recv(errors) -> _ => {}
            recv(after(PATIENCE)) -> _ => {}
        }
        given_up.open();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("request", move || {
        let ((result, results), (error, errors)) = (channel::rendezvous(), channel::rendezvous());
        stage.spawn("worker", move || match work() {
            Ok(value) => result.send(value).is_ok(),
            Err(why) => error.send(why).is_ok(),
        });
        select! {
            recv(results) -> _ => {}
            recv(errors) -> _ => {}
            timeout(PATIENCE) => {}
        }
    });
    scene.settled();
}
