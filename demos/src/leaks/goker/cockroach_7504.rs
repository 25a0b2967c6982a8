//! goker/cockroach_7504: resource, AB-BA deadlock.
//!
//! Bug: acquiring a lease by name locks the cache of names and then the lease; releasing it locks the lease and then the
//! cache.
//!
//! Leaks: `acquirer`: sync.Mutex.Lock, `releaser`: sync.Mutex.Lock. In Rust: yes, with guards as well.

use greenprof_runtime::{
    sync::{Mutex, RawMutex},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_7504",
    origin: "https://github.com/cockroachdb/cockroach/pull/7504",
    what: "Two tasks lock a lease and the cache of names in opposite order.",
    fix: "Lock in one order everywhere.",
    forms: &[
        Form::natural(run, LEAKS).instances(100),
        Form::forced(run, LEAKS),
        Form::rust(rust, LEAKS, "both guards are held on purpose; nothing says in which order to lock"),
    ],
};

const LEAKS: &[Site] = &[Site("acquirer", MutexLock, 1), Site("releaser", MutexLock, 1)];

#[derive(Default)]
struct Table {
    state: RawMutex,
    lease: RawMutex,
    names: RawMutex,
}

fn run(scene: &Scene) {
    let table = Arc::new(Table::default());
    let (has_names, has_lease) = (scene.gate(), scene.gate());
    let (theirs, mine, other) = (table.clone(), has_names.clone(), has_lease.clone());
    scene.spawn("acquirer", move || {
        theirs.names.lock();
        yield_now();
        mine.open();
        other.pass();
        theirs.lease.lock();
        theirs.lease.unlock();
        theirs.names.unlock();
    });
    scene.spawn("releaser", move || {
        table.state.lock();
        table.lease.lock();
        yield_now();
        has_lease.open();
        has_names.pass();
        table.names.lock();
        table.names.unlock();
        table.lease.unlock();
        table.state.unlock();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let (lease, names) = (Arc::new(Mutex::new(1_u32)), Arc::new(Mutex::new(vec!["accounts"])));
    let (has_names, has_lease) = (scene.gate(), scene.gate());
    let (its_lease, its_names) = (lease.clone(), names.clone());
    let (mine, other) = (has_names.clone(), has_lease.clone());
    scene.spawn("acquirer", move || {
        let names = its_names.lock();
        mine.open();
        other.pass();
        *its_lease.lock() += names.len() as u32;
    });
    scene.spawn("releaser", move || {
        let mut uses = lease.lock();
        has_lease.open();
        has_names.pass();
        names.lock().clear();
        *uses -= 1;
    });
    scene.settled();
}
