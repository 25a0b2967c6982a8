//! Models of the locks' states: nobody is in with somebody else, and nobody waits for ever.

use loom::{sync::Arc, thread};

use super::{ExclusiveLock, SharedLock};
use crate::{
    sync::core::{Body, Core, Kind, LazyCore},
    sys::{
        clock,
        model::{Checked, check},
    },
};

#[derive(Default)]
struct Mutual(ExclusiveLock);

impl Body for Mutual {
    const KIND: Kind = Kind::RawMutex;
}

#[derive(Default)]
struct ReadWrite(SharedLock);

impl Body for ReadWrite {
    const KIND: Kind = Kind::RawRwLock;
}

/// A state in its core, and a value that loom checks: no two threads may use it at the same time, or without an order.
struct Guarded<B: Body> {
    lock: LazyCore<B>,
    value: Checked,
}

impl<B: Body + Default> Guarded<B> {
    fn new() -> Arc<Self> {
        let guarded = Self { lock: LazyCore::new(), value: Checked::default() };
        guarded.lock.get();
        Arc::new(guarded)
    }

    fn state(&self) -> (&'static Core, &B) {
        let (_, core) = self.lock.get();
        // SAFETY: the core holds a B, which guards itself.
        (core, unsafe { &*core.body::<B>() })
    }
}

/// Runs each of `bodies` on a thread, the last one on the calling thread.
fn run<B: Body + Default + 'static>(guarded: &Arc<Guarded<B>>, bodies: &[fn(&Guarded<B>)]) {
    let (last, others) = bodies.split_last().unwrap();
    let threads: Vec<_> = others
        .iter()
        .map(|body| {
            let (guarded, body) = (guarded.clone(), *body);
            thread::spawn(move || body(&guarded))
        })
        .collect();
    last(guarded);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn lock_once(guarded: &Guarded<Mutual>) {
    let (core, state) = guarded.state();
    state.0.lock(core);
    guarded.value.add(1);
    assert!(state.0.unlock(core));
}

fn lock_twice(guarded: &Guarded<Mutual>) {
    lock_once(guarded);
    lock_once(guarded);
}

/// At the end nobody is in the queue and nobody is on the way.
fn free_at_the_end(guarded: &Guarded<Mutual>) {
    let (core, state) = guarded.state();
    assert!(!state.0.is_locked() && !state.0.unlock(core));
    assert!(state.0.is_unused(), "QUEUED or WOKEN has been left behind");
}

#[test]
fn mutex_of_two_threads() {
    check(3, 100, || {
        let guarded = Guarded::new();
        run(&guarded, &[lock_twice, lock_twice]);
        assert_eq!(guarded.value.read(), 4);
        free_at_the_end(&guarded);
    });
}

#[test]
fn mutex_of_three_threads() {
    check(3, 100, || {
        let guarded = Guarded::new();
        run(&guarded, &[lock_once, lock_once, lock_once]);
        assert_eq!(guarded.value.read(), 3);
        free_at_the_end(&guarded);
    });
}

/// Everybody who waits has waited for too long, so each unlock gives the lock away.
#[test]
fn mutex_that_is_handed_over() {
    check(3, 100, || {
        clock::set(1, 10_000_000);
        let guarded = Guarded::new();
        run(&guarded, &[lock_once, lock_twice, lock_once]);
        assert_eq!(guarded.value.read(), 4);
        free_at_the_end(&guarded);
    });
}

fn read_once(guarded: &Guarded<ReadWrite>) {
    let (core, state) = guarded.state();
    state.0.read(core);
    guarded.value.read();
    assert!(state.0.unlock_read(core));
}

fn write_once(guarded: &Guarded<ReadWrite>) {
    let (core, state) = guarded.state();
    state.0.write(core);
    guarded.value.add(1);
    assert!(state.0.unlock_write(core));
}

fn write_twice(guarded: &Guarded<ReadWrite>) {
    write_once(guarded);
    write_once(guarded);
}

fn read_twice(guarded: &Guarded<ReadWrite>) {
    read_once(guarded);
    read_once(guarded);
}

fn nobody_at_the_end(guarded: &Guarded<ReadWrite>, written: u32) {
    assert_eq!(guarded.value.read(), written);
    let (core, state) = guarded.state();
    assert!(state.0.try_write(), "free, and nobody waits");
    assert!(state.0.unlock_write(core));
}

#[test]
fn rwlock_of_a_writer_and_two_readers() {
    check(2, 1_000, || {
        let guarded = Guarded::new();
        run(&guarded, &[write_once, read_once, read_once]);
        nobody_at_the_end(&guarded, 1);
    });
}

#[test]
fn rwlock_of_two_writers_and_a_reader() {
    check(3, 100, || {
        let guarded = Guarded::new();
        run(&guarded, &[write_once, write_once, read_once]);
        nobody_at_the_end(&guarded, 2);
    });
}

#[test]
fn rwlock_of_a_writer_and_a_reader() {
    check(3, 1_000, || {
        let guarded = Guarded::new();
        run(&guarded, &[write_twice, read_twice]);
        nobody_at_the_end(&guarded, 2);
    });
}
