//! goker/serving_2137: mixed, channel and lock.
//!
//! Bug: two requests share one active slot, and each waits for a lock that the tester releases when the one before was
//! accepted. If the second has the slot, all three wait for each other.
//!
//! Leaks: `tester`: chan receive, `first`: chan send, `second`: sync.Mutex.Lock. In Rust: yes, with guards and a semaphore
//! as well.

use greenprof_runtime::sync::{self, Chan, Mutex, RawMutex, WaitGroup, channel};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/serving_2137",
    origin: "https://github.com/knative/serving/pull/2137",
    what: "The second request has the slot that the first needs, and waits for what comes after the first.",
    fix: "Do not expect requests to run in the order in which they were started.",
    forms: &[
        Form::natural(run, LEAKS).instances(100),
        Form::forced(run, LEAKS),
        Form::rust(
            rust,
            &[Site("tester", ChanReceive, 1), Site("first", Semaphore, 1), Site("second", MutexLock, 1)],
            "the tester's guard is alive, and so is the permit of the second request",
        ),
    ],
};

const LEAKS: &[Site] = &[Site("tester", ChanReceive, 1), Site("first", ChanSend, 1), Site("second", MutexLock, 1)];

const NAMES: [&str; 2] = ["first", "second"];

/// Two channels as semaphores: a value in them is a slot taken.
struct Breaker {
    pending: Chan<()>,
    active: Chan<()>,
}

impl Breaker {
    fn run(&self, job: impl FnOnce()) -> bool {
        if self.pending.try_send(()).is_err() {
            return false;
        }
        self.active.send(()).expect("nobody closes it");
        job();
        self.active.recv();
        self.pending.recv();
        true
    }
}

struct Request {
    turn: RawMutex,
    accepted: Chan<bool>,
}

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("tester", move || {
        let breaker = Arc::new(Breaker { pending: Chan::with_capacity(2), active: Chan::with_capacity(1) });
        let started = WaitGroup::new();
        let requests = NAMES.map(|name| {
            let request = Arc::new(Request { turn: RawMutex::new(), accepted: Chan::with_capacity(1) });
            request.turn.lock();
            started.add(1);
            let (breaker, theirs, started, scene) = (breaker.clone(), request.clone(), started.clone(), stage.clone());
            stage.spawn(name, move || {
                started.done();
                if name == NAMES[0] {
                    scene.until(NAMES[1], MutexLock, 1);
                }
                let ran = breaker.run(|| {
                    theirs.turn.lock();
                    theirs.turn.unlock();
                });
                theirs.accepted.send(ran)
            });
            request
        });
        started.wait();
        for request in requests {
            // Only now: the first, whose turn it is, would else be done before the second has the slot.
            stage.until(NAMES[0], ChanSend, 1);
            request.turn.unlock();
            request.accepted.recv();
        }
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("tester", move || {
        let active = sync::Semaphore::new(1);
        let turns = NAMES.map(|_| Arc::new(Mutex::new(())));
        let held = [turns[0].lock(), turns[1].lock()];
        let accepted = [0, 1].map(|at| {
            let (sender, accepted) = channel::bounded(1);
            let (turn, active, scene) = (turns[at].clone(), active.clone(), stage.clone());
            stage.spawn(NAMES[at], move || {
                if at == 0 {
                    scene.until(NAMES[1], MutexLock, 1);
                }
                let _slot = active.acquire();
                drop(turn.lock());
                sender.send(true)
            });
            accepted
        });
        stage.until(NAMES[0], Semaphore, 1);
        for (turn, accepted) in held.into_iter().zip(accepted) {
            drop(turn);
            _ = accepted.recv();
        }
    });
    scene.settled();
}
