//! The handle is in memory that is there for the whole process, or in a thread-local.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ptr,
    sync::{
        LazyLock, Mutex as StdMutex, OnceLock,
        atomic::{AtomicPtr, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::{
    sync::{self, Chan, Condvar, Mutex, MutexGuard, RawMutex, RwLock, WaitGroup},
    task::Builder,
};

use super::{RECEIVER, play, play_with_holder, receiver, sound, wake};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!("static", "A static holds the channel.", "Anybody could send.", in_static, RECEIVER),
    sound!("static_map", "A static map of trait objects holds it.", "As in a static.", in_map, RECEIVER),
    sound!("static_pointer", "A static pointer leads to it.", "As in a static.", by_pointer, RECEIVER),
    sound!("static_address", "A static number is its address.", "As in a static.", by_address, RECEIVER),
    sound!(
        "static_interior",
        "A static points into the middle of a leaked vector.",
        "As in a static.",
        interior,
        RECEIVER
    ),
    sound!(
        "static_raw_lock",
        "A raw lock in a static was left locked by a task that has ended.",
        "Anybody may unlock a raw lock.",
        raw_lock,
        &[Site("locker", MutexLock, 1)]
    ),
    sound!(
        "static_guard",
        "The guard of a lock lies in a static.",
        "Anybody could take the guard and drop it.",
        guard,
        &[Site("locker", MutexLock, 1)]
    ),
    sound!(
        "static_condvar",
        "A condition variable in a static.",
        "Anybody could notify.",
        condvar,
        &[Site("waiter", CondvarWait, 1)]
    ),
    sound!(
        "static_wait_group",
        "A wait group in a static.",
        "Anybody could be done.",
        wait_group,
        &[Site("waiter", WaitGroupWait, 1)]
    ),
    sound!(
        "static_rwlock_guard",
        "A read guard lies in a static; a writer and a reader queue.",
        "Anybody could drop the guard.",
        read_guard,
        &[Site("writer", RwLockWrite, 1), Site("reader", RwLockRead, 1)]
    ),
    sound!(
        "thread_local",
        "A thread-local of a worker holds the channel.",
        "Another task on that worker could send.",
        worker_local,
        RECEIVER
    ),
    sound!(
        "thread_local_elsewhere",
        "A thread-local of a thread that runs no tasks holds the channel.",
        "That thread could send.",
        thread_local,
        RECEIVER
    ),
    sound!(
        "leaked_box",
        "A sleeping task has a reference to a leaked box with the channel.",
        "It sends when it wakes.",
        leaked_box,
        RECEIVER
    ),
];

static SLOT: StdMutex<Option<Chan<()>>> = StdMutex::new(None);

fn in_static(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        *SLOT.lock().expect("nobody panics") = Some(receiver(scene));
    }
    play(scene, start);
    wake(SLOT.lock().expect("nobody panics").as_ref().expect("it is there"));
}

trait Wake: Send {
    fn wake(&self);
}

impl Wake for Vec<Chan<()>> {
    fn wake(&self) {
        self.iter().for_each(wake);
    }
}

static REGISTRY: StdMutex<BTreeMap<String, Box<dyn Wake>>> = StdMutex::new(BTreeMap::new());

fn in_map(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let mut registry = REGISTRY.lock().expect("nobody panics");
        (0..100).for_each(|at| _ = registry.insert(format!("nobody {at}"), Box::new(Vec::new())));
        registry.insert("somebody".to_owned(), Box::new(vec![receiver(scene)]));
    }
    play(scene, start);
    REGISTRY.lock().expect("nobody panics").values().for_each(|entry| entry.wake());
}

static POINTER: AtomicPtr<Chan<()>> = AtomicPtr::new(ptr::null_mut());

fn by_pointer(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        POINTER.store(Box::into_raw(Box::new(receiver(scene))), Ordering::SeqCst);
    }
    play(scene, start);
    // SAFETY: from `Box::into_raw`, and taken back once.
    wake(&unsafe { *Box::from_raw(POINTER.swap(ptr::null_mut(), Ordering::SeqCst)) });
}

static ADDRESS: AtomicUsize = AtomicUsize::new(0);

fn by_address(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        ADDRESS.store(Box::into_raw(Box::new(receiver(scene))).expose_provenance(), Ordering::SeqCst);
    }
    play(scene, start);
    let pointer = ptr::with_exposed_provenance_mut::<Chan<()>>(ADDRESS.swap(0, Ordering::SeqCst));
    // SAFETY: from `Box::into_raw`, its provenance exposed, and taken back once.
    wake(&unsafe { *Box::from_raw(pointer) });
}

static MIDDLE: OnceLock<&'static Chan<()>> = OnceLock::new();

fn interior(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let mut all: Vec<Chan<()>> = (0..99).map(|_| Chan::nil()).collect();
        all[50] = receiver(scene);
        MIDDLE.set(&all.leak()[50]).expect("it is set once");
    }
    play(scene, start);
    wake(MIDDLE.get().expect("it is set"));
}

static TURN: RawMutex = RawMutex::new();

fn raw_lock(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        scene.spawn("first", || TURN.lock()).join().expect("it does not panic");
        scene.spawn("locker", || TURN.lock());
    }
    play(scene, start);
    TURN.unlock();
}

static COUNT: Mutex<u32> = Mutex::new(0);
static GUARD: StdMutex<Option<MutexGuard<'static, u32>>> = StdMutex::new(None);

fn guard(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        *GUARD.lock().expect("nobody panics") = Some(COUNT.lock());
        scene.spawn("locker", || *COUNT.lock() += 1);
    }
    play(scene, start);
    drop(GUARD.lock().expect("nobody panics").take());
}

static READY: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn condvar(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        scene.spawn("waiter", || drop(READY.1.wait_while(READY.0.lock(), |ready| !*ready)));
    }
    play(scene, start);
    *READY.0.lock() = true;
    READY.1.notify_all();
}

static GROUP: LazyLock<WaitGroup> = LazyLock::new(WaitGroup::new);

fn wait_group(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        GROUP.add(1);
        scene.spawn("waiter", || GROUP.wait());
    }
    play(scene, start);
    GROUP.done();
}

static PRICES: RwLock<u32> = RwLock::new(0);
static READING: StdMutex<Option<sync::RwLockReadGuard<'static, u32>>> = StdMutex::new(None);

fn read_guard(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        *READING.lock().expect("nobody panics") = Some(PRICES.read());
        scene.spawn("writer", || *PRICES.write() += 1);
        scene.until("writer", RwLockWrite, 1);
        scene.spawn("reader", || *PRICES.read());
    }
    play(scene, start);
    drop(READING.lock().expect("nobody panics").take());
}

thread_local! {
    static LOCAL: RefCell<Option<Chan<()>>> = const { RefCell::new(None) };
}

fn worker_local(scene: &Scene) {
    fn start(scene: &Scene, _: Gate) {
        let signal = receiver(scene);
        let keeper = Builder::new().name("keeper").pinned(0);
        let kept = keeper.spawn(move || LOCAL.set(Some(signal))).expect("there is memory for a stack");
        kept.join().expect("it does not panic");
    }
    play(scene, start);
    let waker = Builder::new().name("waker").pinned(0);
    let woken = waker.spawn(|| wake(&LOCAL.take().expect("it is there"))).expect("there is memory for a stack");
    woken.join().expect("it does not panic");
}

fn thread_local(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let (signal, kept) = (receiver(scene), Gate::closed());
        let has_kept = kept.clone();
        thread::spawn(move || {
            LOCAL.set(Some(signal));
            has_kept.open();
            while !gate.is_open() {
                thread::sleep(Duration::from_millis(1));
            }
            wake(&LOCAL.take().expect("it is there"));
        });
        kept.pass();
    }
    play(scene, start);
}

fn leaked_box(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let signal: &'static Chan<()> = Box::leak(Box::new(receiver(scene)));
        scene.spawn("holder", move || {
            gate.pass();
            wake(signal);
        });
    }
    play_with_holder(scene, start);
}
