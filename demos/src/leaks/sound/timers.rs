//! Time will wake who waits: an armed timer, or a deadline.

use std::{
    sync::{Arc, Mutex as StdMutex},
    time::Duration,
};

use greenprof_runtime::{
    context::{Cancel, Context},
    select,
    sync::{self, Chan, Condvar, Mutex},
    time::{FuncTimer, Ticker, Timer, after, after_func},
};

use super::{RECEIVER, play, play_with_holder, receiver, sound, wake};
use crate::leaks::{goker::kubernetes_70277::poller, prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!(
        "after_func",
        "The closure of an armed timer captures the channel.",
        "The timer runs it.",
        function,
        RECEIVER
    ),
    sound!(
        "after_func_kept",
        "The closure of a stopped timer, which a sleeper can reset.",
        "It is reset.",
        kept,
        RECEIVER
    ),
    sound!("after", "Who waits receives from a timer's channel.", "The timer sends.", after_channel, RECEIVER),
    sound!(
        "ticker",
        "Who waits receives from a ticker's channel, which it owns itself.",
        "The ticker sends.",
        ticker,
        RECEIVER
    ),
    sound!("timer_reset", "A timer is not armed; a sleeping task will arm it.", "Then it sends.", reset, RECEIVER),
    sound!(
        "select_timeout",
        "A select with a timeout on a channel that nobody else knows.",
        "The timeout ends it.",
        timeout,
        &[Site("selector", Select, 1)]
    ),
    sound!(
        "condvar_timeout",
        "A wait with a timeout on a condition that nobody else knows.",
        "The timeout ends it.",
        condvar_timeout,
        &[Site("waiter", CondvarWait, 1)]
    ),
    sound!(
        "semaphore_timeout",
        "A wait with a timeout for a permit that nobody gives back.",
        "The timeout ends it.",
        semaphore_timeout,
        &[Site("acquirer", Semaphore, 1)]
    ),
    sound!(
        "timed_ahead",
        "A waiter with a timeout stands ahead of another; it gives the permit when it gives up.",
        "The timeout ends one wait, and that the other.",
        timed_ahead,
        &[Site("timed", Semaphore, 1), Site("acquirer", Semaphore, 1)]
    ),
    sound!(
        "join_timeout",
        "A join with a timeout of a task that is blocked by it.",
        "The timeout ends it, and that the other.",
        join_timeout,
        &[Site("joiner", Join, 1), Site("receiver", ChanReceive, 1)]
    ),
    sound!(
        "deadline",
        "The context has a deadline, and nobody has its cancel handle.",
        "The deadline ends it.",
        deadline,
        RECEIVER
    ),
    sound!(
        "deadline_above",
        "The context is derived from one with a deadline.",
        "The deadline ends both.",
        above,
        RECEIVER
    ),
    sound!("cancel", "A sleeping task can cancel the context.", "It cancels.", cancel, RECEIVER),
    sound!(
        "cancel_above",
        "A static can cancel what the context is derived from, ten levels up.",
        "It does.",
        chain,
        RECEIVER
    ),
    sound!("context_of_timer", "A timer's closure will cancel the context.", "The timer runs it.", by_timer, RECEIVER),
    sound!(
        "kubernetes_70277_early",
        "The kernel of that name, looked at while its poller still runs.",
        "The poller's timers are armed, and it holds the channel that is waited for.",
        early,
        &[Site("waiter", ChanReceive, 1)]
    ),
];

/// Longer than it takes to look.
const SOON: Duration = Duration::from_millis(800);
const NEVER: Duration = Duration::from_secs(3600);

fn function(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let signal = receiver(scene);
        after_func(SOON, move || wake(&signal));
    }
    play(scene, start);
}

fn kept(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        let timer: FuncTimer = after_func(NEVER, move || wake(&signal));
        assert!(timer.stop(), "it was armed");
        scene.spawn("holder", move || {
            gate.pass();
            timer.reset(Duration::ZERO);
        });
    }
    play_with_holder(scene, start);
}

fn after_channel(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        scene.spawn("receiver", || after(SOON).recv());
    }
    play(scene, start);
}

fn ticker(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        scene.spawn("receiver", || Ticker::new(SOON).chan().recv());
    }
    play(scene, start);
}

fn reset(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let timer = Arc::new(Timer::new(NEVER));
        timer.stop();
        let theirs = timer.clone();
        scene.spawn("receiver", move || theirs.chan().recv());
        scene.spawn("holder", move || {
            gate.pass();
            timer.reset(Duration::ZERO);
        });
    }
    play_with_holder(scene, start);
}

fn timeout(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        scene.spawn("selector", || {
            let nobodys = Chan::<()>::new();
            select! {
                recv(nobodys) -> _ => {}
                timeout(SOON) => {}
            }
        });
    }
    play(scene, start);
}

fn condvar_timeout(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        scene.spawn("waiter", || {
            let (ready, changed) = (Mutex::new(false), Condvar::new());
            changed.wait_timeout(ready.lock(), SOON).1.timed_out()
        });
    }
    play(scene, start);
}

fn semaphore_timeout(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        scene.spawn("acquirer", || sync::Semaphore::new(0).acquire_timeout(SOON).is_none());
    }
    play(scene, start);
}

fn timed_ahead(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let slots = sync::Semaphore::new(0);
        let theirs = slots.clone();
        scene.spawn("timed", move || {
            if theirs.acquire_timeout(SOON).is_none() {
                theirs.add_permits(1);
            }
        });
        scene.until("timed", Semaphore, 1);
        scene.spawn("acquirer", move || drop(slots.acquire()));
    }
    play(scene, start);
}

fn join_timeout(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let signal = Chan::new();
        let theirs = signal.clone();
        let receiver = scene.spawn("receiver", move || theirs.recv());
        scene.spawn("joiner", move || {
            if receiver.join_timeout(SOON).is_err() {
                wake(&signal);
            }
        });
    }
    play(scene, start);
}

/// A task that waits for the context to be done.
fn waiter(scene: &Scene, context: Context) {
    scene.spawn("receiver", move || context.done().recv());
}

fn deadline(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        waiter(scene, Context::background().with_timeout(SOON).0);
    }
    play(scene, start);
}

fn above(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let (request, _) = Context::background().with_timeout(SOON);
        waiter(scene, request.with_cancel().0.with_cancel().0);
    }
    play(scene, start);
}

fn cancel(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (context, cancel) = Context::background().with_cancel();
        waiter(scene, context.with_cancel().0);
        drop(context);
        scene.spawn("holder", move || {
            gate.pass();
            cancel.cancel();
        });
    }
    play_with_holder(scene, start);
}

static CANCEL: StdMutex<Option<Cancel>> = StdMutex::new(None);

fn chain(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let (root, cancel) = Context::background().with_cancel();
        *CANCEL.lock().expect("nobody panics") = Some(cancel);
        waiter(scene, (0..10).fold(root, |context, _| context.with_cancel().0));
    }
    play(scene, start);
    CANCEL.lock().expect("nobody panics").iter().for_each(Cancel::cancel);
}

fn by_timer(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let (context, cancel) = Context::background().with_cancel();
        waiter(scene, context);
        after_func(SOON, move || cancel.cancel());
    }
    play(scene, start);
}

fn early(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let stage = scene.clone();
        scene.spawn("waiter", move || {
            let done = Chan::new();
            poller(&stage, &done, SOON).recv();
            // As the poller ends without closing it, this one does so after it.
            let last = done.clone();
            after_func(SOON * 2, move || _ = last.close());
            done.recv();
        });
    }
    play(scene, start);
}
