//! goker/kubernetes_58107: resource, read-write-read deadlock with a condition.
//!
//! Bug: workers wait for work with a read lock held. When the signals were given before anybody waited, a writer queues
//! behind the first worker, and the second worker behind the writer.
//!
//! Leaks: `worker`: sync.Cond.Wait, `syncer`: sync.RWMutex.Lock, `worker`: sync.RWMutex.RLock. In Rust: yes; the lock is
//! held across the wait on purpose.

use greenprof_runtime::sync::{Condvar, Mutex, RawRwLock, RwLock};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/kubernetes_58107",
    origin: "https://github.com/kubernetes/kubernetes/pull/58107",
    what: "Workers wait on a condition with a read lock held; the signals were lost, and a writer queues.",
    fix: "Wait without the lock, and on a predicate.",
    forms: &[
        Form::natural(
            natural,
            &[Site("worker", CondvarWait, 2), Site("syncer", RwLockWrite, 1), Site("worker", RwLockRead, 1)],
        )
        .instances(10),
        Form::forced(forced, LEAKS),
        Form::rust(rust, LEAKS, "the read guard is held across the wait on purpose; the signal is lost as before"),
    ],
};

const LEAKS: &[Site] = &[Site("worker", CondvarWait, 1), Site("syncer", RwLockWrite, 1), Site("worker", RwLockRead, 1)];

/// How often the natural form signals, and locks for writing.
const ROUNDS: u32 = 1000;

#[derive(Default)]
struct Queue {
    items: Mutex<Vec<u32>>,
    added: Condvar,
}

impl Queue {
    fn get(&self) -> Option<u32> {
        self.added.wait(self.items.lock()).pop()
    }
}

#[derive(Default)]
struct Controller {
    lock: RawRwLock,
    queues: [Queue; 2],
}

fn spawn_worker(scene: &Scene, controller: &Arc<Controller>, queue: usize) {
    let controller = controller.clone();
    scene.spawn("worker", move || {
        controller.lock.read_lock();
        controller.queues[queue].get();
        controller.lock.read_unlock();
    });
}

fn spawn_syncer(scene: &Scene, controller: &Arc<Controller>, rounds: u32) {
    let controller = controller.clone();
    scene.spawn("syncer", move || {
        for _ in 0..rounds {
            controller.lock.write_lock();
            controller.lock.write_unlock();
        }
    });
}

fn spawn_signaller(scene: &Scene, controller: &Arc<Controller>, rounds: u32) {
    let controller = controller.clone();
    scene.spawn("signaller", move || {
        for _ in 0..rounds {
            controller.queues.iter().for_each(|queue| queue.added.notify_one());
        }
    });
}

fn natural(scene: &Scene) {
    let controller = Arc::new(Controller::default());
    spawn_signaller(scene, &controller, ROUNDS);
    spawn_worker(scene, &controller, 0);
    spawn_syncer(scene, &controller, ROUNDS);
    spawn_worker(scene, &controller, 1);
    drop(controller);
    scene.settled();
}

fn forced(scene: &Scene) {
    let controller = Arc::new(Controller::default());
    controller.queues.iter().for_each(|queue| queue.added.notify_one());
    spawn_worker(scene, &controller, 0);
    scene.until("worker", CondvarWait, 1);
    spawn_syncer(scene, &controller, 1);
    scene.until("syncer", RwLockWrite, 1);
    spawn_worker(scene, &controller, 1);
    drop(controller);
    scene.settled();
}

fn rust(scene: &Scene) {
    let shared = Arc::new((RwLock::new(()), [Queue::default(), Queue::default()]));
    let worker = |queue: usize| {
        let shared = shared.clone();
        scene.spawn("worker", move || {
            let _reading = shared.0.read();
            shared.1[queue].get()
        });
    };
    worker(0);
    scene.until("worker", CondvarWait, 1);
    let theirs = shared.clone();
    scene.spawn("syncer", move || drop(theirs.0.write()));
    scene.until("syncer", RwLockWrite, 1);
    worker(1);
    drop(shared);
    scene.settled();
}
