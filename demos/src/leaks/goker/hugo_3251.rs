//! goker/hugo_3251: resource, AB-BA deadlock.
//!
//! Bug: a lock for each URL is taken with the table's write lock held, and released with its read lock held. Whoever waits
//! for a URL keeps its holder from releasing it.
//!
//! Leaks: `parent`: sync.WaitGroup.Wait, `worker`: sync.RWMutex.RLock, `worker`: sync.Mutex.Lock; with more workers, the
//! others at sync.RWMutex.Lock. In Rust: yes: the guard of the URL is kept, and the order stays.

use std::collections::HashMap;

use greenprof_runtime::{
    sync::{Mutex, RawMutex, RawRwLock, RwLock, WaitGroup},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/hugo_3251",
    origin: "https://github.com/gohugoio/hugo/pull/3251",
    what: "A URL's lock is taken and released under the table's lock: who waits for it keeps it from being released.",
    fix: "Release the table before waiting for a URL.",
    forms: &[
        Form::natural(
            natural,
            &[
                Site("parent", WaitGroupWait, 1),
                Site("worker", RwLockRead, 1),
                Site("worker", MutexLock, 1),
                Site("worker", RwLockWrite, WORKERS as u32 - 2),
            ],
        ),
        Form::forced(forced, LEAKS),
        Form::rust(rust, LEAKS, "the guard of a URL can be kept for long; the order of the two locks stays wrong"),
    ],
};

const LEAKS: &[Site] = &[Site("parent", WaitGroupWait, 1), Site("worker", RwLockRead, 1), Site("worker", MutexLock, 1)];

/// Of the natural form, and how often each uses the URL.
const WORKERS: usize = 100;
const USES: u32 = 200;

const URL: &str = "https://example.org/";

#[derive(Default)]
struct UrlLocks {
    table: RawRwLock,
    /// Used under the lock; its own is for the compiler.
    locks: std::sync::Mutex<HashMap<&'static str, Arc<RawMutex>>>,
}

impl UrlLocks {
    fn of(&self, url: &'static str) -> Arc<RawMutex> {
        self.locks.lock().expect("nobody panics").entry(url).or_default().clone()
    }

    fn lock(&self, url: &'static str) {
        self.table.write_lock();
        self.of(url).lock();
        self.table.write_unlock();
    }

    fn unlock(&self, url: &'static str) {
        self.table.read_lock();
        self.of(url).unlock();
        self.table.read_unlock();
    }
}

fn natural(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("parent", move || {
        let (locks, group) = (Arc::new(UrlLocks::default()), WaitGroup::new());
        group.add(WORKERS);
        for _ in 0..WORKERS {
            let (locks, group) = (locks.clone(), group.clone());
            stage.spawn("worker", move || {
                for _ in 0..USES {
                    locks.lock(URL);
                    yield_now();
                    locks.unlock(URL);
                }
                group.done();
            });
        }
        group.wait();
    });
    scene.settled();
}

fn forced(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("parent", move || {
        let (locks, group, has_url) = (Arc::new(UrlLocks::default()), WaitGroup::new(), stage.gate());
        group.add(2);
        let (theirs, done, took, scene) = (locks.clone(), group.clone(), has_url.clone(), stage.clone());
        stage.spawn("worker", move || {
            theirs.lock(URL);
            took.open();
            scene.until("worker", MutexLock, 1);
            theirs.unlock(URL);
            done.done();
        });
        let done = group.clone();
        stage.spawn("worker", move || {
            has_url.pass();
            locks.lock(URL);
            locks.unlock(URL);
            done.done();
        });
        group.wait();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    type Table = RwLock<HashMap<&'static str, Arc<Mutex<()>>>>;
    let stage = scene.clone();
    scene.spawn("parent", move || {
        let (table, group, has_url): (Arc<Table>, _, _) = (Arc::default(), WaitGroup::new(), stage.gate());
        group.add(2);
        let (theirs, done, took, scene) = (table.clone(), group.clone(), has_url.clone(), stage.clone());
        stage.spawn("worker", move || {
            let mut locks = theirs.write();
            let url = locks.entry(URL).or_default().clone();
            let held = url.lock();
            drop(locks);
            took.open();
            scene.until("worker", MutexLock, 1);
            let locks = theirs.read();
            drop(held);
            drop(locks);
            done.done();
        });
        let done = group.clone();
        stage.spawn("worker", move || {
            has_url.pass();
            let mut locks = table.write();
            let url = locks.entry(URL).or_default().clone();
            let _held = url.lock();
            drop(locks);
            done.done();
        });
        group.wait();
    });
    scene.settled();
}
