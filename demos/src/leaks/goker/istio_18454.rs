//! goker/istio_18454: communication, channel and context.
//!
//! Bug: to reset a timer, a loop stops it, and if that says that it has expired, receives the expiry. But it may have
//! received that before. Who sends the resets fills their channel and waits.
//!
//! Leaks: `loop`: chan receive, `processor`: chan send. In Rust: yes: the loop owns the timer, and the receiver is alive.

use std::time::Duration;

use greenprof_runtime::{
    context::Context,
    select,
    sync::{Chan, channel},
    time::Timer,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/istio_18454",
    origin: "https://github.com/istio/istio/pull/18454",
    what: "A loop drains a timer that it has drained already; who sends to the loop waits, too.",
    fix: "Do not drain: after a stop nothing is received.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the loop owns the timer that it waits for, and the receiver of the resets"),
    ],
};

const LEAKS: &[Site] = &[Site("loop", ChanReceive, 1), Site("processor", ChanSend, 1)];

/// After this long without an event, something is done.
const QUIET: Duration = Duration::from_micros(1);

/// Events that are waiting to be processed.
const EVENTS: usize = 1024;

struct Debounce {
    timer: Timer,
    reset: Chan<()>,
}

/// A timer that is not armed.
fn stopped_timer() -> Timer {
    let timer = Timer::new(Duration::from_secs(3600));
    timer.stop();
    timer
}

fn run(scene: &Scene) {
    let debounce = Arc::new(Debounce { timer: stopped_timer(), reset: Chan::with_capacity(1) });
    let ((looping, stop_loop), (processing, stop)) =
        (Context::background().with_cancel(), Context::background().with_cancel());
    let (theirs, expired) = (debounce.clone(), scene.gate());
    let consumed = expired.clone();
    scene.spawn("loop", move || {
        loop {
            select! {
                recv(theirs.timer.chan()) -> _ => consumed.open(),
                recv(theirs.reset) -> _ => {
                    if !theirs.timer.stop() {
                        theirs.timer.chan().recv();
                    }
                    theirs.timer.reset(QUIET);
                }
                recv(looping.done()) -> _ => return,
            }
        }
    });
    let forced = scene.forced();
    scene.spawn("processor", move || {
        for event in 0..EVENTS {
            if processing.err().is_some() {
                return;
            }
            if event == 0 {
                debounce.timer.reset(QUIET);
                expired.pass();
            } else {
                debounce.reset.send(()).expect("nobody closes it");
            }
        }
    });
    scene.spawn("canceller", move || {
        if !forced {
            stop.cancel();
            stop_loop.cancel();
        }
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (timer, (reset, resets)) = (Arc::new(stopped_timer()), channel::bounded(1));
    let (theirs, expired) = (timer.clone(), scene.gate());
    let consumed = expired.clone();
    scene.spawn("loop", move || {
        loop {
            select! {
                recv(theirs.chan()) -> _ => consumed.open(),
                recv(resets) -> reset => {
                    if reset.is_none() {
                        return;
                    }
                    if !theirs.stop() {
                        theirs.chan().recv();
                    }
                    theirs.reset(QUIET);
                }
            }
        }
    });
    scene.spawn("processor", move || {
        timer.reset(QUIET);
        expired.pass();
        (1..EVENTS).try_for_each(|_| reset.send(()))
    });
    scene.settled();
}
