//! goker/kubernetes_70277: communication, channel.
//!
//! Bug: a helper polls a condition until it holds or a channel is closed. Its caller expects the helper to have closed the
//! channel, and waits for that; but it would close it itself, later.
//!
//! Leaks: `waiter`: chan receive, as soon as the poller has ended: until then its timers are armed, it holds the channel,
//! and nothing may be reported. In Rust: yes: the waiter owns the sender itself.

use std::time::Duration;

use greenprof_runtime::{
    select,
    sync::{Chan, channel},
    time::{Ticker, Timer, sleep},
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_70277",
    origin: "https://github.com/kubernetes/kubernetes/pull/70277",
    what: "A task waits for a channel to be closed that it would close itself.",
    fix: "Close it before waiting, or do not wait.",
    forms: &[
        Form::natural(run, LEAKS).quiet(Duration::from_millis(150)),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the waiter owns the sender itself, and drops it only afterwards"),
    ],
};

const LEAKS: &[Site] = &[Site("waiter", ChanReceive, 1)];

/// Between two ticks, until the poller ends by itself, and what the condition takes.
const TICK: Duration = Duration::from_millis(1);
const END: Duration = Duration::from_millis(80);
const CONDITION: Duration = Duration::from_millis(10);

/// Offers a tick now and then, until its time is over or `done` is closed.
pub(in crate::leaks) fn poller(scene: &Scene, done: &Chan<()>, end: Duration) -> Chan<()> {
    let ticks = Chan::new();
    let (offered, done) = (ticks.clone(), done.clone());
    scene.spawn("poller", move || {
        let (ticker, timer) = (Ticker::new(TICK), Timer::new(end));
        loop {
            select! {
                recv(ticker.chan()) -> _ => _ = offered.try_send(()),
                recv(timer.chan()) -> _ => return,
                recv(done) -> _ => return,
            }
        }
    });
    ticks
}

/// Waits until the condition holds. Does not close `done`.
fn wait_for(scene: &Scene, done: &Chan<()>) {
    let ticks = poller(scene, done, END);
    ticks.recv();
    sleep(CONDITION); // it holds at once
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("waiter", move || {
        let done = Chan::new();
        wait_for(&stage, &done);
        done.recv();
        done.close();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("waiter", move || {
        let ((stop, done), (tick, ticks)) = (channel::rendezvous::<()>(), channel::rendezvous());
        let stopped = done.clone();
        stage.spawn("poller", move || {
            let timer = Timer::new(END);
            let mut ends = false;
            while !ends {
                _ = tick.try_send(());
                select! {
                    recv(stopped) -> _ => ends = true,
                    recv(timer.chan()) -> _ => ends = true,
                    timeout(TICK) => {}
                }
            }
        });
        _ = ticks.recv();
        _ = done.recv();
        drop(stop);
    });
    scene.settled();
}
