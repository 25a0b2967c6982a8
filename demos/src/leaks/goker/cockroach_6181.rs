//! goker/cockroach_6181: resource, read-write-read deadlock.
//!
//! Bug: tasks read-lock the same lock twice, nested. If another queues for writing between the two, the second read lock
//! waits for the writer, and the writer for the first.
//!
//! Leaks: `parent`: sync.WaitGroup.Wait, `worker`: sync.RWMutex.Lock, 2 x `worker`: sync.RWMutex.RLock. In Rust: yes, with
//! guards as well.

use std::sync::atomic::{AtomicUsize, Ordering};

use greenprof_runtime::{
    sync::{RawRwLock, RwLock, WaitGroup},
    yield_now,
};

use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_6181",
    origin: "https://github.com/cockroachdb/cockroach/pull/6181",
    what: "Nested read locks of one lock, with a writer that queues in between.",
    fix: "Lock once; hand what was read to who needs it.",
    forms: &[
        Form::natural(
            |scene| run(scene, work),
            &[Site("parent", WaitGroupWait, 1), Site("worker", RwLockWrite, 2), Site("worker", RwLockRead, 2)],
        )
        .instances(20),
        Form::forced(|scene| run(scene, work), LEAKS),
        Form::rust(|scene| run(scene, work_guarded), LEAKS, "the outer read guard is alive during the inner read"),
    ],
};

const LEAKS: &[Site] =
    &[Site("parent", WaitGroupWait, 1), Site("worker", RwLockWrite, 1), Site("worker", RwLockRead, 2)];

#[derive(Default)]
struct Range {
    lock: RawRwLock,
    value: RwLock<u64>,
    entered: AtomicUsize,
}

fn work(range: &Range, gate: &Gate) {
    range.lock.read_lock();
    range.entered.fetch_add(1, Ordering::SeqCst);
    yield_now();
    gate.pass();
    range.lock.read_lock();
    range.lock.read_unlock();
    range.lock.read_unlock();
    range.lock.write_lock();
    range.lock.write_unlock();
}

fn work_guarded(range: &Range, gate: &Gate) {
    let outer = range.value.read();
    range.entered.fetch_add(1, Ordering::SeqCst);
    gate.pass();
    let sum = *range.value.read() + *outer;
    drop(outer);
    *range.value.write() = sum;
}

fn run(scene: &Scene, work: fn(&Range, &Gate)) {
    let stage = scene.clone();
    scene.spawn("parent", move || {
        let (range, group) = (Arc::new(Range::default()), WaitGroup::new());
        let gates = [stage.gate(), stage.gate(), stage.gate()];
        group.add(gates.len());
        for gate in &gates {
            let (range, group, gate) = (range.clone(), group.clone(), gate.clone());
            stage.spawn("worker", move || {
                work(&range, &gate);
                group.done();
            });
        }
        stage.until_that(|| range.entered.load(Ordering::SeqCst) == gates.len());
        gates[0].open();
        stage.until("worker", RwLockWrite, 1);
        gates.iter().for_each(Gate::open);
        group.wait();
    });
    scene.settled();
}
