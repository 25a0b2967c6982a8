//! goker/cockroach_2448: communication, channel.
//!
//! Bug: two loops send each other events and callbacks through rendezvous channels. If both offer at the same time, each
//! waits for the other to receive.
//!
//! Leaks: `store`: select, `raft`: select. In Rust: yes: both are alive, each with the half that the other needs.

use std::time::Duration;

use greenprof_runtime::{
    select,
    sync::{Chan, channel},
    time::sleep,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_2448",
    origin: "https://github.com/cockroachdb/cockroach/pull/2448",
    what: "Two loops send to each other at the same time, and neither receives.",
    fix: "Receive while waiting to send, or give one of the channels room.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "both are alive, and each has the half that the other needs"),
    ],
};

const LEAKS: &[Site] = &[Site("store", Select, 1), Site("raft", Select, 1)];

/// What each of them does between two events.
const PAUSE: Duration = Duration::from_micros(100);

/// Callbacks after which the store stops both, if they have been lucky for so long.
const ROUNDS: usize = 500;

type Callback = Box<dyn FnOnce() + Send>;

fn run(scene: &Scene) {
    let (events, callbacks, stop) = (Chan::new(), Chan::<Callback>::new(), Chan::<()>::new());
    let (stage, theirs, offered, told) = (scene.clone(), events.clone(), callbacks.clone(), stop.clone());
    scene.spawn("store", move || {
        for _ in 0..ROUNDS {
            select! {
                recv(theirs) -> _ => {
                    sleep(PAUSE);
                    stage.until("raft", Select, 1);
                    select! {
                        send(offered, Box::new(|| {})) -> _ => {}
                        recv(told) -> _ => return,
                    }
                }
                recv(told) -> _ => return,
            }
        }
        told.close();
    });
    scene.spawn("raft", move || {
        loop {
            select! {
                recv(stop) -> _ => return,
                recv(callbacks) -> callback => callback.into_iter().for_each(|callback| callback()),
                default => {
                    select! {
                        send(events, 7) -> _ => {}
                        recv(stop) -> _ => return,
                    }
                    sleep(PAUSE);
                }
            }
        }
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let ((events, theirs), (offered, callbacks)) = (channel::rendezvous(), channel::rendezvous::<Callback>());
    let stage = scene.clone();
    scene.spawn("store", move || {
        while theirs.recv().is_ok() {
            stage.until("raft", Select, 1);
            select! {
                send(offered, Box::new(|| {})) -> sent => if sent.is_err() { return },
            }
        }
    });
    scene.spawn("raft", move || {
        loop {
            select! {
                recv(callbacks) -> callback => match callback {
                    Some(callback) => callback(),
                    None => return,
                },
                default => {
                    select! {
                        send(events, 7) -> sent => if sent.is_err() { return },
                    }
                    sleep(PAUSE);
                }
            }
        }
    });
    scene.settled();
}
