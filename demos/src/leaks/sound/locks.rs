//! Somebody who can be woken, or needs no waking, holds the lock.

use std::{sync::Arc, thread, time::Duration};

use greenprof_runtime::sync::{Mutex, RawMutex, RawRwLock, RwLock};

use super::{play, play_with_holder, sound};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!("guard", "A sleeping task has the guard.", "It drops it.", guard, LOCKER),
    sound!(
        "guards",
        "A sleeping task has guards of many locks in a vector.",
        "It drops them.",
        guards,
        &[Site("locker", MutexLock, 20)]
    ),
    sound!("guard_boxed", "The guard is in a box behind a trait object.", "A sleeper drops it.", boxed, LOCKER),
    sound!("guard_of_thread", "A thread that runs no tasks has the guard.", "It drops it.", of_thread, LOCKER),
    sound!(
        "guard_chain",
        "Who has the guard waits for another lock, whose guard a sleeping task has.",
        "It drops it, and so do the others.",
        chain,
        &[Site("middle", MutexLock, 1), Site("locker", MutexLock, 1)]
    ),
    sound!("elect", "The lock was released; the next owner has not run yet.", "It will, and unlocks.", elect, LOCKER),
    sound!(
        "queue",
        "Many wait for one lock.",
        "Each that gets it unlocks it for the next.",
        queue,
        &[Site("locker", MutexLock, 50)]
    ),
    sound!("raw_lock", "A sleeping task reaches a raw lock that another left locked.", "It unlocks it.", raw, LOCKER),
    sound!(
        "read_guard",
        "A sleeping task has a read guard.",
        "It drops it.",
        read_guard,
        &[Site("writer", RwLockWrite, 1)]
    ),
    sound!(
        "write_guard",
        "A sleeping task has the write guard.",
        "It drops it.",
        write_guard,
        &[Site("reader", RwLockRead, 2), Site("writer", RwLockWrite, 1)]
    ),
    sound!(
        "reader_behind_writer",
        "A reader waits behind a writer that waits for a sleeping reader.",
        "The sleeper drops its guard, the writer then its own.",
        behind_writer,
        &[Site("writer", RwLockWrite, 1), Site("reader", RwLockRead, 1)]
    ),
    sound!(
        "raw_rwlock",
        "A sleeping task reaches a raw reader-writer lock.",
        "It unlocks it.",
        raw_rwlock,
        &[Site("writer", RwLockWrite, 1)]
    ),
    sound!(
        "guard_moved",
        "The guard was made by a task that has ended, and sent on.",
        "Who has it drops it.",
        moved,
        LOCKER
    ),
];

const LOCKER: &[Site] = &[Site("locker", MutexLock, 1)];

type Count = Arc<Mutex<u32>>;

/// Spawns a task that locks and counts.
fn locker(scene: &Scene, count: &Count) {
    let count = count.clone();
    scene.spawn("locker", move || *count.lock() += 1);
}

/// Spawns a task that has locked when this returns, and unlocks when the gate opens.
fn sleeper(scene: &Scene, count: &Count, gate: Gate) {
    let (theirs, locked) = (count.clone(), Gate::closed());
    let has_locked = locked.clone();
    scene.spawn("holder", move || {
        let _guard = theirs.lock();
        has_locked.open();
        gate.pass();
    });
    locked.pass();
}

fn guard(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let count = Count::default();
        sleeper(scene, &count, gate);
        locker(scene, &count);
    }
    play_with_holder(scene, start);
}

fn guards(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let counts: Vec<Count> = (0..20).map(|_| Count::default()).collect();
        let (theirs, locked) = (counts.clone(), Gate::closed());
        let has_locked = locked.clone();
        scene.spawn("holder", move || {
            let mut guards: Vec<_> = theirs.iter().map(|count| count.lock()).collect();
            guards.reverse();
            has_locked.open();
            gate.pass();
        });
        locked.pass();
        counts.iter().for_each(|count| locker(scene, count));
    }
    play_with_holder(scene, start);
}

fn boxed(scene: &Scene) {
    trait Held {}
    impl<T> Held for T {}
    fn start(scene: &Scene, gate: Gate) {
        let count: &'static Count = Box::leak(Box::default());
        let held: Box<dyn Held + Send> = Box::new(Some(count.lock()));
        scene.spawn("holder", move || {
            gate.pass();
            drop(held);
        });
        locker(scene, count);
    }
    play_with_holder(scene, start);
}

fn of_thread(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (count, locked) = (Count::default(), Gate::closed());
        let (theirs, has_locked) = (count.clone(), locked.clone());
        thread::spawn(move || {
            let _guard = theirs.lock();
            has_locked.open();
            while !gate.is_open() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        locked.pass();
        locker(scene, &count);
    }
    play(scene, start);
}

fn chain(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (first, second) = (Count::default(), Count::default());
        sleeper(scene, &first, gate);
        let (its_first, its_second) = (first.clone(), second.clone());
        scene.spawn("middle", move || {
            let _second = its_second.lock();
            *its_first.lock() += 1;
        });
        scene.until("middle", MutexLock, 1);
        locker(scene, &second);
    }
    play_with_holder(scene, start);
}

/// Looks between the release and the next owner's first step, as far as there is one worker; elsewhere that may be over.
fn elect(scene: &Scene) {
    let (gate, count) = (scene.gate(), Count::default());
    sleeper(scene, &count, gate.clone());
    locker(scene, &count);
    scene.settled();
    gate.open();
    // From now on the lock changes hands: look at each step.
    let waiting = (0..10).map(|_| locker(scene, &count)).count();
    drop(count);
    for _ in 0..waiting {
        scene.look_aside();
        greenprof_runtime::yield_now();
    }
}

fn queue(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let count = Count::default();
        sleeper(scene, &count, gate);
        (0..50).for_each(|_| locker(scene, &count));
    }
    play_with_holder(scene, start);
}

fn raw(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let turn = Arc::new(RawMutex::new());
        let (first, second) = (turn.clone(), turn.clone());
        scene.spawn("first", move || first.lock()).join().expect("it does not panic");
        scene.spawn("locker", move || second.lock());
        scene.spawn("holder", move || {
            gate.pass();
            turn.unlock();
        });
    }
    play_with_holder(scene, start);
}

type Prices = Arc<RwLock<u32>>;

fn read_guard(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (prices, locked) = (Prices::default(), Gate::closed());
        let (theirs, has_locked) = (prices.clone(), locked.clone());
        scene.spawn("holder", move || {
            let _guard = theirs.read();
            has_locked.open();
            gate.pass();
        });
        locked.pass();
        scene.spawn("writer", move || *prices.write() += 1);
    }
    play_with_holder(scene, start);
}

fn write_guard(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (prices, locked) = (Prices::default(), Gate::closed());
        let (theirs, has_locked) = (prices.clone(), locked.clone());
        scene.spawn("holder", move || {
            let _guard = theirs.write();
            has_locked.open();
            gate.pass();
        });
        locked.pass();
        for _ in 0..2 {
            let prices = prices.clone();
            scene.spawn("reader", move || *prices.read());
        }
        scene.spawn("writer", move || *prices.write() += 1);
    }
    play_with_holder(scene, start);
}

fn behind_writer(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (prices, locked) = (Prices::default(), Gate::closed());
        let (theirs, has_locked, writers) = (prices.clone(), locked.clone(), prices.clone());
        scene.spawn("holder", move || {
            let _guard = theirs.read();
            has_locked.open();
            gate.pass();
        });
        locked.pass();
        scene.spawn("writer", move || *writers.write() += 1);
        scene.until("writer", RwLockWrite, 1);
        scene.spawn("reader", move || *prices.read());
    }
    play_with_holder(scene, start);
}

fn raw_rwlock(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let lock = Arc::new(RawRwLock::new());
        lock.read_lock();
        let theirs = lock.clone();
        scene.spawn("writer", move || theirs.write_lock());
        scene.spawn("holder", move || {
            gate.pass();
            lock.read_unlock();
        });
    }
    play_with_holder(scene, start);
}

fn moved(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let count: &'static Count = Box::leak(Box::default());
        let locked = scene.spawn("maker", || count.lock());
        let guard = locked.join().expect("it does not panic");
        scene.spawn("holder", move || {
            gate.pass();
            drop(guard);
        });
        locker(scene, count);
    }
    play_with_holder(scene, start);
}
