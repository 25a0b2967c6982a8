//! A task that is alive holds the handle in a way of its own, or lends what lies on a stack.

use std::{cell::RefCell, hint::black_box, sync::Mutex as StdMutex, thread, time::Duration};

use greenprof_runtime::{
    sync::Chan,
    task::{self, Builder, JoinHandle},
    task_local,
};

use super::{RECEIVER, play, play_with_holder, receiver, sound, wake};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!(
        "result",
        "The result of a task that nobody has joined yet.",
        "A sleeper joins it and sends.",
        result,
        RECEIVER
    ),
    sound!(
        "result_static",
        "The same, with the join handle in a static.",
        "Anybody could join it and send.",
        result_static,
        RECEIVER
    ),
    sound!("panic_payload", "The payload of a task's panic.", "A sleeper joins it and sends.", payload, RECEIVER),
    sound!("task_local", "A task-local of a sleeping task.", "It sends when it wakes.", local, RECEIVER),
    sound!("not_begun", "The closure of a task that has not begun.", "It sends when it runs.", not_begun, RECEIVER),
    sound!(
        "not_begun_large",
        "The same, of a closure so large that it is boxed.",
        "As before.",
        not_begun_large,
        RECEIVER
    ),
    sound!("join", "A join of a task that sleeps.", "It ends.", join, &[Site("joiner", Join, 1)]),
    sound!(
        "join_blocked",
        "A join of a task that is blocked and can be woken.",
        "It is woken, and ends.",
        join_blocked,
        &[Site("joiner", Join, 1), Site("receiver", ChanReceive, 1)]
    ),
    sound!(
        "thread_scope",
        "A scoped thread has a reference into the stack of the blocked task; there is no other handle.",
        "The thread sends.",
        thread_scope,
        RECEIVER
    ),
    sound!("crossbeam_scope", "The same with crossbeam's scope.", "The thread sends.", crossbeam_scope, RECEIVER),
    sound!(
        "task_scope",
        "A scoped task has a reference into the stack of the blocked task; there is no other handle.",
        "The scoped task sends.",
        task_scope,
        RECEIVER
    ),
    sound!(
        "task_scope_twice",
        "A scoped task of a scoped task, both below a blocked one.",
        "The innermost sends.",
        scope_twice,
        &[Site("receiver", ChanReceive, 1), Site("", ChanReceive, 1)]
    ),
    sound!(
        "lent_in_closure",
        "A reference to the blocked task's stack inside a box that a scoped task holds.",
        "The scoped task sends.",
        lent,
        RECEIVER
    ),
];

fn result(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        let ended = scene.spawn("giver", move || signal);
        scene.until_that(|| ended.is_finished());
        scene.spawn("holder", move || {
            gate.pass();
            wake(&ended.join().expect("it does not panic"));
        });
    }
    play_with_holder(scene, start);
}

static ENDED: StdMutex<Option<JoinHandle<Box<Chan<()>>>>> = StdMutex::new(None);

fn result_static(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let signal = receiver(scene);
        let ended = scene.spawn("giver", move || Box::new(signal));
        scene.until_that(|| ended.is_finished());
        *ENDED.lock().expect("nobody panics") = Some(ended);
    }
    play(scene, start);
    let ended = ENDED.lock().expect("nobody panics").take().expect("it is there");
    wake(&ended.join().expect("it does not panic"));
}

fn payload(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        let ended = scene.spawn("giver", move || -> () { std::panic::resume_unwind(Box::new(signal)) });
        scene.until_that(|| ended.is_finished());
        scene.spawn("holder", move || {
            gate.pass();
            if let Err(payload) = ended.join() {
                wake(payload.downcast_ref::<Chan<()>>().expect("it is one"));
            }
        });
    }
    play_with_holder(scene, start);
}

task_local! {
    static KEPT: RefCell<Option<Chan<()>>> = RefCell::new(None)
}

fn local(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        scene.spawn("holder", move || {
            KEPT.with(|kept| kept.replace(Some(signal)));
            gate.pass();
            KEPT.with(|kept| kept.take().iter().for_each(wake));
        });
    }
    play_with_holder(scene, start);
}

/// Keeps the first worker busy until the gate opens, and queues a task behind that.
fn queue_behind(gate: Gate, waiting: impl FnOnce() + Send + 'static) {
    let busy = Gate::closed();
    let is_busy = busy.clone();
    let spin = move || {
        is_busy.open();
        while !gate.is_open() {
            std::hint::spin_loop();
        }
    };
    Builder::new().name("spinner").pinned(0).spawn(spin).expect("there is memory for a stack");
    busy.pass();
    Builder::new().name("queued").pinned(0).spawn(waiting).expect("there is memory for a stack");
}

fn not_begun(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = receiver(scene);
        queue_behind(gate, move || wake(&signal));
    }
    // The main task may have begun on the first worker; it goes on elsewhere.
    play(scene, start);
}

fn not_begun_large(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (signal, ballast) = (receiver(scene), [0_u64; 1024]);
        queue_behind(gate, move || {
            black_box(&ballast);
            wake(&signal);
        });
    }
    play(scene, start);
}

fn join(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let sleeper = scene.spawn("holder", move || gate.pass());
        scene.spawn("joiner", move || sleeper.join().is_ok());
    }
    play_with_holder(scene, start);
}

fn join_blocked(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal = Chan::new();
        let theirs = signal.clone();
        let receiver = scene.spawn("receiver", move || theirs.recv());
        scene.spawn("joiner", move || receiver.join().is_ok());
        scene.spawn("holder", move || {
            gate.pass();
            wake(&signal);
        });
    }
    play_with_holder(scene, start);
}

/// What a scoped thread does.
fn wake_later(gate: &Gate, signal: &Chan<()>) {
    while !gate.is_open() {
        thread::sleep(Duration::from_millis(1));
    }
    wake(signal);
}

fn thread_scope(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        scene.spawn("receiver", move || {
            let signal = Chan::new();
            thread::scope(|scope| {
                scope.spawn(|| wake_later(&gate, &signal));
                signal.recv()
            })
        });
    }
    play(scene, start);
}

fn crossbeam_scope(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        scene.spawn("receiver", move || {
            let signal = Chan::new();
            let scoped = crossbeam_utils::thread::scope(|scope| {
                scope.spawn(|_| wake_later(&gate, &signal));
                signal.recv()
            });
            scoped.expect("nobody panics")
        });
    }
    play(scene, start);
}

fn task_scope(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        scene.spawn("receiver", move || {
            let signal = Chan::new();
            task::scope(|scope| {
                scope.spawn(|| {
                    gate.pass();
                    wake(&signal);
                });
                signal.recv()
            })
        });
    }
    play(scene, start);
}

fn scope_twice(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        scene.spawn("receiver", move || {
            let outer = Chan::new();
            task::scope(|scope| {
                scope.spawn(|| {
                    let inner = Chan::new();
                    task::scope(|scope| {
                        scope.spawn(|| {
                            gate.pass();
                            wake(&inner);
                        });
                        inner.recv()
                    });
                    wake(&outer);
                });
                outer.recv()
            })
        });
    }
    play(scene, start);
}

fn lent(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        scene.spawn("receiver", move || {
            let signal = Chan::new();
            task::scope(|scope| {
                let call: Box<dyn FnOnce() + Send> = Box::new(|| wake(&signal));
                scope.spawn(move || {
                    gate.pass();
                    call();
                });
                signal.recv()
            })
        });
    }
    play(scene, start);
}
