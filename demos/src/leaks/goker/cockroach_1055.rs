//! goker/cockroach_1055: mixed, channel and wait group.
//!
//! Bug: a service is stopped by waiting, with its lock held, for tasks that it runs, and those never say that they are
//! done; or (variant b) they need the lock to begin. So the closer waits for workers that wait for the closer.
//!
//! Leaks: a: `owner`: chan receive, 2 x `worker`: chan receive, `closer`: sync.WaitGroup.Wait. b: one of the workers waits
//! at sync.Mutex.Lock instead. In Rust: yes; the lock is held across the wait on purpose.

use std::sync::atomic::{AtomicBool, Ordering};

use greenprof_runtime::sync::{
    Chan, Mutex, RawMutex, WaitGroup,
    channel::{self, Receiver, Sender},
};

use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_1055",
    origin: "https://github.com/cockroachdb/cockroach/pull/1055",
    what: "A service is stopped by waiting for its tasks with its lock held; they wait to be stopped.",
    fix: "Tell the workers to stop before waiting for them, and wait without the lock.",
    forms: &[
        Form::natural(natural, EITHER).instances(20),
        Form::forced(registered, REGISTERED).variant("registered"),
        Form::forced(between, BETWEEN).variant("between"),
        Form::rust(rust, REGISTERED, "the lock is held across the wait on purpose, and the stop sender is alive"),
    ],
};

const REGISTERED: &[Site] =
    &[Site("owner", ChanReceive, 1), Site("worker", ChanReceive, 2), Site("closer", WaitGroupWait, 1)];

const BETWEEN: &[Site] = &[
    Site("owner", ChanReceive, 1),
    Site("worker", ChanReceive, 1),
    Site("worker", MutexLock, 1),
    Site("closer", WaitGroupWait, 1),
];

const EITHER: &[Site] = &[
    Site("owner", ChanReceive, 1),
    Site("worker", ChanReceive, 2),
    Site("worker", MutexLock, 2),
    Site("closer", WaitGroupWait, 1),
];

#[derive(Default)]
struct Service {
    lock: RawMutex,
    draining: AtomicBool,
    /// A worker has looked at that, and found that it may register.
    may_begin: AtomicBool,
    running: WaitGroup,
    staff: WaitGroup,
    stopped: Chan<()>,
}

impl Service {
    /// Registers a task, unless the service is being stopped. Nobody ever takes it off the list.
    fn begin(&self, after_the_look: &Gate) {
        if self.draining.load(Ordering::SeqCst) {
            return;
        }
        self.may_begin.store(true, Ordering::SeqCst);
        after_the_look.pass();
        self.lock.lock();
        self.running.add(1);
        self.lock.unlock();
    }

    fn quiesce(&self) {
        self.lock.lock();
        self.draining.store(true, Ordering::SeqCst);
        self.running.wait();
        self.draining.store(false, Ordering::SeqCst);
        self.lock.unlock();
    }

    fn stop(&self, closed: &Gate) {
        self.lock.lock();
        self.draining.store(true, Ordering::SeqCst);
        self.running.wait();
        self.stopped.close();
        closed.open();
        self.staff.wait();
        self.lock.unlock();
    }
}

fn natural(scene: &Scene) {
    spawn_owner(scene, &scene.gate());
    scene.settled();
}

fn registered(scene: &Scene) {
    let open = scene.gate();
    open.open();
    spawn_owner(scene, &open);
    scene.settled();
}

fn between(scene: &Scene) {
    spawn_owner(scene, &scene.gate());
    scene.settled();
}

/// The gate holds the workers between their look at the flag and the lock, until the first service has been stopped.
fn spawn_owner(scene: &Scene, gate: &Gate) {
    let (scene, gate) = (scene.clone(), gate.clone());
    scene.clone().spawn("owner", move || {
        let services: [Arc<Service>; 2] = Default::default();
        for service in &services {
            service.staff.add(1);
            let (service, gate) = (service.clone(), gate.clone());
            scene.spawn("worker", move || {
                service.begin(&gate);
                service.stopped.recv();
                service.staff.done();
            });
        }
        scene.until_that(|| services.iter().all(|service| service.may_begin.load(Ordering::SeqCst)));
        if gate.is_open() {
            scene.until("worker", ChanReceive, 2);
        }
        let done = Chan::<()>::new();
        let finished = done.clone();
        scene.spawn("closer", move || {
            services.iter().for_each(|service| service.quiesce());
            services.iter().for_each(|service| service.stop(&gate));
            finished.close();
        });
        done.recv();
    });
}

struct Guarded {
    draining: Mutex<bool>,
    running: WaitGroup,
    staff: WaitGroup,
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("owner", move || {
        let mut services: Vec<(Arc<Guarded>, Sender<()>)> = Vec::new();
        for _ in 0..2 {
            let (running, staff) = (WaitGroup::new(), WaitGroup::new());
            let service = Arc::new(Guarded { draining: Mutex::new(false), running, staff });
            let (stop, stopped): (Sender<()>, Receiver<()>) = channel::rendezvous();
            services.push((service.clone(), stop));
            service.staff.add(1);
            stage.spawn("worker", move || {
                if !*service.draining.lock() {
                    service.running.add(1);
                }
                _ = stopped.recv();
                service.staff.done();
            });
        }
        stage.until("worker", ChanReceive, 2);
        let (finished, done) = channel::rendezvous::<()>();
        stage.spawn("closer", move || {
            for (service, stop) in services {
                let mut draining = service.draining.lock();
                *draining = true;
                service.running.wait();
                drop(stop);
                service.staff.wait();
            }
            drop(finished);
        });
        done.recv()
    });
    scene.settled();
}
