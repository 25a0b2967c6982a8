//! Wait groups, conditions, semaphores and onces that somebody alive will satisfy.

use std::sync::Arc;

use greenprof_runtime::sync::{self, Condvar, Mutex, OnceCell, WaitGroup};

use super::{play_with_holder, sound};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!("wait_group", "A sleeping task has a clone of the wait group.", "It is done when it wakes.", group, WAITER),
    sound!(
        "wait_group_shared",
        "Both sides use one wait group through an `Arc`: there is a single handle.",
        "The sleeping side is done when it wakes.",
        group_shared,
        WAITER
    ),
    sound!(
        "condvar",
        "A sleeping task shares the condition variable.",
        "It notifies when it wakes.",
        condvar,
        CONDITION
    ),
    sound!(
        "condvar_many",
        "Three wait on one condition variable, each of which notifies the next.",
        "A sleeper notifies the first.",
        condvar_many,
        &[Site("waiter", CondvarWait, 3)]
    ),
    sound!("permit", "A sleeping task has the permit.", "It drops it.", permit, ACQUIRER),
    sound!("permits", "A sleeping task reaches a semaphore without permits.", "It adds one.", permits, ACQUIRER),
    sound!("once", "The body of the once sleeps.", "It ends.", once, &[Site("caller", Once, 3)]),
    sound!("once_cell", "Who makes the value sleeps.", "It ends.", cell, &[Site("caller", Once, 1)]),
];

const WAITER: &[Site] = &[Site("waiter", WaitGroupWait, 1)];
const CONDITION: &[Site] = &[Site("waiter", CondvarWait, 1)];
const ACQUIRER: &[Site] = &[Site("acquirer", Semaphore, 1)];

fn group(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let group = WaitGroup::new();
        group.add(1);
        let theirs = group.clone();
        scene.spawn("waiter", move || theirs.wait());
        scene.spawn("holder", move || {
            gate.pass();
            group.done();
        });
    }
    play_with_holder(scene, start);
}

fn group_shared(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let group = Arc::new(WaitGroup::new());
        group.add(1);
        let theirs = group.clone();
        scene.spawn("waiter", move || theirs.wait());
        scene.spawn("holder", move || {
            gate.pass();
            group.done();
        });
    }
    play_with_holder(scene, start);
}

type Ready = Arc<(Mutex<bool>, Condvar)>;

fn spawn_waiter(scene: &Scene, ready: &Ready) {
    let ready = ready.clone();
    scene.spawn("waiter", move || {
        drop(ready.1.wait_while(ready.0.lock(), |ready| !*ready));
        ready.1.notify_one();
    });
}

fn notify_later(scene: &Scene, ready: Ready, gate: Gate) {
    scene.spawn("holder", move || {
        gate.pass();
        *ready.0.lock() = true;
        ready.1.notify_one();
    });
}

fn condvar(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let ready = Ready::default();
        spawn_waiter(scene, &ready);
        notify_later(scene, ready, gate);
    }
    play_with_holder(scene, start);
}

fn condvar_many(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let ready = Ready::default();
        (0..3).for_each(|_| spawn_waiter(scene, &ready));
        notify_later(scene, ready, gate);
    }
    play_with_holder(scene, start);
}

fn permit(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let slots = sync::Semaphore::new(1);
        let permit = slots.acquire();
        scene.spawn("acquirer", move || drop(slots.acquire()));
        scene.spawn("holder", move || {
            gate.pass();
            drop(permit);
        });
    }
    play_with_holder(scene, start);
}

fn permits(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let slots = Arc::new(sync::Semaphore::new(0));
        let theirs = slots.clone();
        scene.spawn("acquirer", move || drop(theirs.acquire()));
        scene.spawn("holder", move || {
            gate.pass();
            slots.add_permits(1);
        });
    }
    play_with_holder(scene, start);
}

fn once(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (once, begun) = (Arc::new(sync::Once::new()), Gate::closed());
        let (theirs, has_begun) = (once.clone(), begun.clone());
        scene.spawn("holder", move || {
            theirs.call_once(|| {
                has_begun.open();
                gate.pass();
            });
        });
        begun.pass();
        for _ in 0..3 {
            let once = once.clone();
            scene.spawn("caller", move || once.call_once(|| {}));
        }
    }
    play_with_holder(scene, start);
}

fn cell(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (cell, begun) = (Arc::new(OnceCell::new()), Gate::closed());
        let (theirs, has_begun) = (cell.clone(), begun.clone());
        scene.spawn("holder", move || {
            theirs.get_or_init(|| {
                has_begun.open();
                gate.pass();
                7
            });
        });
        begun.pass();
        scene.spawn("caller", move || *cell.get_or_init(|| 8));
    }
    play_with_holder(scene, start);
}
