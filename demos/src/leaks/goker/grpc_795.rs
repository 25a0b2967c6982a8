//! goker/grpc_795: resource, double locking.
//!
//! Bug: a graceful stop that finds the server stopping already locks it again before it returns, where it should unlock.
//!
//! Leaks: `tester`: sync.Mutex.Lock, `server`: sync.Mutex.Lock. In Rust: no: there is no unlock to mistype.

use std::sync::atomic::{AtomicBool, Ordering};

use greenprof_runtime::sync::{Mutex, RawMutex};

use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAM: Program = Program {
    id: "goker/grpc_795",
    origin: "https://github.com/grpc/grpc-go/pull/795",
    what: "A lock is taken a second time where it should be released.",
    fix: "Unlock.",
    forms: &[
        Form::natural(run, LEAKS).instances(20),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "a guard is dropped by the return: there is no unlock to mistype"),
    ],
};

const LEAKS: &[Site] = &[Site("tester", MutexLock, 1), Site("server", MutexLock, 1)];

#[derive(Default)]
struct Server {
    lock: RawMutex,
    draining: AtomicBool,
}

impl Server {
    fn serve(&self) {
        self.lock.lock();
        self.lock.unlock();
    }

    fn stop_gracefully(&self, owned: &Gate) {
        self.lock.lock();
        if self.draining.swap(true, Ordering::SeqCst) {
            owned.open();
            self.lock.lock(); // an unlock was meant
            return;
        }
        self.lock.unlock();
    }
}

fn run(scene: &Scene) {
    let (server, owned, stage) = (Arc::new(Server::default()), scene.gate(), scene.clone());
    scene.spawn("tester", move || {
        let (served, gate) = (server.clone(), owned.clone());
        stage.spawn("server", move || {
            gate.pass();
            served.serve();
        });
        (0..3).for_each(|_| server.stop_gracefully(&owned));
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (draining, owned, stage) = (Arc::new(Mutex::new(false)), scene.gate(), scene.clone());
    scene.spawn("tester", move || {
        let (served, gate) = (draining.clone(), owned.clone());
        stage.spawn("server", move || {
            gate.pass();
            *served.lock()
        });
        for _ in 0..3 {
            let mut draining = draining.lock();
            if *draining {
                owned.open();
                continue;
            }
            *draining = true;
        }
    });
    scene.settled();
}
