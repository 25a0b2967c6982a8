//! goker/etcd_6708: resource, double locking.
//!
//! Bug: a client's list of endpoints is synchronized under its write lock. For that it asks the cluster through the same
//! client, which read-locks it.
//!
//! Leaks: `syncer`: sync.RWMutex.RLock. In Rust: yes, with guards as well.

use greenprof_runtime::sync::{RawRwLock, RwLock};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/etcd_6708",
    origin: "https://github.com/etcd-io/etcd/pull/6708",
    what: "A client locks itself for writing and then calls back into itself, where it is read-locked.",
    fix: "Ask first, and lock for as long as the list is replaced.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "the write guard is alive during the call back"),
    ],
};

const LEAKS: &[Site] = &[Site("syncer", RwLockRead, 1)];

trait Transport {
    fn ask(&self) -> usize;
}

#[derive(Default)]
struct Client {
    lock: RawRwLock,
    endpoints: Vec<String>,
}

impl Transport for Client {
    fn ask(&self) -> usize {
        self.lock.read_lock();
        let count = self.endpoints.len();
        self.lock.read_unlock();
        count
    }
}

impl Client {
    fn sync(&self) -> usize {
        self.lock.write_lock();
        let members: &dyn Transport = self;
        let count = members.ask();
        self.lock.write_unlock();
        count
    }
}

fn run(scene: &Scene) {
    let client = Arc::new(Client::default());
    scene.spawn("syncer", move || client.sync());
    scene.settled();
}

fn rust(scene: &Scene) {
    let endpoints = Arc::new(RwLock::new(vec!["a"]));
    scene.spawn("syncer", move || {
        let mut all = endpoints.write();
        let known = endpoints.read().len();
        all.truncate(known);
    });
    scene.settled();
}
