//! goker/etcd_5509: resource, missing unlock.
//!
//! Bug: a request read-locks the client, sees that it is closed, and returns an error without unlocking. Closing the client
//! then waits for that read lock.
//!
//! Leaks: `closer`: sync.RWMutex.Lock. In Rust: no: the guard is dropped by the return.

use greenprof_runtime::{
    sync::{RawRwLock, RwLock},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/etcd_5509",
    origin: "https://github.com/etcd-io/etcd/pull/5509",
    what: "A request returns an error without unlocking; who closes the client waits for it.",
    fix: "Unlock on every way out.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the guard is dropped by the early return"),
    ],
};

const LEAKS: &[Site] = &[Site("closer", RwLockWrite, 1)];

#[derive(Default)]
struct Client {
    lock: RawRwLock,
    /// Nothing from the start: the client looks closed.
    connection: Option<u32>,
}

impl Client {
    fn request(&self) -> Result<u32, &'static str> {
        self.lock.read_lock();
        let Some(connection) = self.connection else {
            return Err("the client is closed"); // and stays locked
        };
        self.lock.read_unlock();
        Ok(connection)
    }

    fn close(&self) {
        self.lock.write_lock();
        self.lock.write_unlock();
    }
}

fn run(scene: &Scene) {
    let (client, requested) = (Arc::new(Client::default()), scene.gate());
    let (theirs, done) = (client.clone(), requested.clone());
    scene.spawn("request", move || {
        let answer = theirs.request();
        done.open();
        answer
    });
    scene.spawn("closer", move || {
        yield_now();
        requested.pass();
        client.close();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (client, requested) = (Arc::new(RwLock::new(None::<u32>)), scene.gate());
    let (theirs, done) = (client.clone(), requested.clone());
    scene.spawn("request", move || {
        let answer = || -> Result<u32, &str> {
            let connection = theirs.read();
            let open = connection.ok_or("the client is closed")?;
            Ok(open)
        }();
        done.open();
        answer
    });
    scene.spawn("closer", move || {
        requested.pass();
        client.write().take()
    });
    scene.settled();
}
