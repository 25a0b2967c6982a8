//! The handle is inside of something that a sleeping task holds.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    hint::black_box,
    mem::{MaybeUninit, take},
    rc::Rc,
    sync::{Arc, Mutex as StdMutex, Weak},
};

use greenprof_runtime::sync::{Chan, Mutex};

use super::{RECEIVER, play_with_holder, receiver, sound, wake};
use crate::leaks::{prelude::*, scene::Gate};

pub const PROGRAMS: &[&Program] = &[
    sound!("arc", "In a struct behind an `Arc`.", "It sends when it wakes.", in_arc, RECEIVER),
    sound!(
        "trait_object",
        "In a closure behind a trait object, in another.",
        "It sends when it wakes.",
        in_object,
        RECEIVER
    ),
    sound!("hash_map", "In a hash map of shared trait objects.", "It sends when it wakes.", in_hash_map, RECEIVER),
    sound!("btree_map", "In a tree of some levels.", "It sends when it wakes.", in_btree, RECEIVER),
    sound!("list", "At the end of a list of a thousand boxes.", "It sends when it wakes.", in_list, RECEIVER),
    sound!("deque", "In a ring buffer that has wrapped.", "It sends when it wakes.", in_deque, RECEIVER),
    sound!("arc_slice", "In a shared slice.", "It sends when it wakes.", in_slice, RECEIVER),
    sound!(
        "iterator",
        "In a vector of which only an iterator is left, halfway through.",
        "It sends.",
        in_iterator,
        RECEIVER
    ),
    sound!(
        "weak",
        "Reached by a weak reference; the strong one is elsewhere.",
        "It upgrades and sends.",
        by_weak,
        RECEIVER
    ),
    sound!("rc", "In an `Rc<RefCell<Option<_>>>`.", "It sends when it wakes.", in_rc, RECEIVER),
    sound!("uninit", "In an array of which the rest is uninitialized.", "It sends when it wakes.", in_uninit, RECEIVER),
    sound!("enum", "In the payload of a nested enum.", "It sends when it wakes.", in_enum, RECEIVER),
    sound!(
        "grown",
        "In a vector that has moved with each growth since.",
        "It sends when it wakes.",
        in_grown,
        RECEIVER
    ),
    sound!("stale_enum", "An enum's other payload still has its bits.", "Who has it now sends.", stale_enum, RECEIVER),
    sound!("pool", "A shared pool handed it out, untouched.", "Who has it sends.", from_pool, RECEIVER),
    sound!(
        "pool_returned",
        "A shared pool handed it out and has it back.",
        "Who holds the pool sends.",
        in_pool,
        RECEIVER
    ),
    sound!("locked_value", "In the value of a lock of the runtime's own.", "It locks and sends.", in_mutex, RECEIVER),
    sound!("large_block", "Far inside a block of a megabyte.", "It sends when it wakes.", in_large, RECEIVER),
];

/// A task that makes what holds the handle, sleeps, and then wakes by it.
fn hold<H: 'static>(scene: &Scene, gate: Gate, make: fn(Chan<()>) -> H, open: fn(H)) {
    let signal = receiver(scene);
    scene.spawn("holder", move || {
        let held = make(signal);
        gate.pass();
        open(held);
    });
}

struct Entry {
    #[expect(dead_code, reason = "moves the handle away from the block's start")]
    name: String,
    signal: Chan<()>,
}

impl Entry {
    fn new(signal: Chan<()>) -> Self {
        Self { name: "entry".to_owned(), signal }
    }
}

trait Wake {
    fn wake(&self);
}

impl Wake for Entry {
    fn wake(&self) {
        wake(&self.signal);
    }
}

fn in_arc(scene: &Scene) {
    play_with_holder(scene, |scene, gate| hold(scene, gate, |signal| Arc::new(Entry::new(signal)), |held| held.wake()));
}

fn in_object(scene: &Scene) {
    fn make(signal: Chan<()>) -> Box<dyn FnOnce()> {
        let inner: Box<dyn Wake> = Box::new(Entry::new(signal));
        Box::new(move || inner.wake())
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, |held| held()));
}

fn in_hash_map(scene: &Scene) {
    fn make(signal: Chan<()>) -> HashMap<u64, Arc<dyn Wake>> {
        let mut map: HashMap<u64, Arc<dyn Wake>> = HashMap::new();
        map.insert(7, Arc::new(Entry::new(signal)));
        (100..200).for_each(|at| _ = map.insert(at, Arc::new(Entry::new(Chan::nil()))));
        map
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, |held| held[&7].wake()));
}

fn in_btree(scene: &Scene) {
    fn make(signal: Chan<()>) -> BTreeMap<u32, Entry> {
        let mut map: BTreeMap<u32, Entry> = (0..500).map(|at| (at * 2, Entry::new(Chan::nil()))).collect();
        map.insert(501, Entry::new(signal));
        map
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, |held| held[&501].wake()));
}

enum List {
    Link(Box<List>),
    End(Chan<()>),
}

fn in_list(scene: &Scene) {
    fn make(signal: Chan<()>) -> List {
        (0..1000).fold(List::End(signal), |list, _| List::Link(Box::new(list)))
    }
    fn open(mut list: List) {
        loop {
            match list {
                List::Link(next) => list = *next,
                List::End(signal) => return wake(&signal),
            }
        }
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, open));
}

fn in_deque(scene: &Scene) {
    fn make(signal: Chan<()>) -> VecDeque<Chan<()>> {
        let mut ring: VecDeque<_> = (0..8).map(|_| Chan::nil()).collect();
        (0..5).for_each(|_| ring.rotate_left(1));
        ring.pop_front();
        ring.push_back(signal);
        ring
    }
    play_with_holder(scene, |scene, gate| {
        hold(scene, gate, make, |held| held.iter().filter(|signal| !signal.is_nil()).for_each(wake));
    });
}

fn in_slice(scene: &Scene) {
    fn make(signal: Chan<()>) -> Arc<[Entry]> {
        [Chan::nil(), Chan::nil(), signal].map(Entry::new).into()
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, |held| held[2].wake()));
}

fn in_iterator(scene: &Scene) {
    fn make(signal: Chan<()>) -> std::vec::IntoIter<Chan<()>> {
        let mut all = vec![Chan::nil(), Chan::nil(), Chan::nil(), signal].into_iter();
        _ = (all.next(), all.next());
        all
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, |mut held| wake(&held.nth(1).expect("it is there"))));
}

fn by_weak(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let entry = Arc::new(Entry::new(receiver(scene)));
        let weak: Weak<Entry> = Arc::downgrade(&entry);
        let strong = gate.clone();
        scene.spawn("holder", move || {
            strong.pass();
            black_box(&entry);
            // Stays until the other has woken.
            linger();
        });
        scene.spawn("upgrader", move || {
            gate.pass();
            weak.upgrade().expect("the other holds it").wake();
        });
    }
    play_with_holder(scene, start);
}

/// Longer than the other needs to wake.
fn linger() {
    greenprof_runtime::sleep(std::time::Duration::from_millis(50));
}

fn in_rc(scene: &Scene) {
    play_with_holder(scene, |scene, gate| {
        hold(
            scene,
            gate,
            |signal| Rc::new(RefCell::new(Some(signal))),
            |held| wake(&held.take().expect("it is there")),
        );
    });
}

fn in_uninit(scene: &Scene) {
    fn make(signal: Chan<()>) -> [MaybeUninit<Chan<()>>; 4] {
        let mut places = [const { MaybeUninit::uninit() }; 4];
        places[2].write(signal);
        places
    }
    play_with_holder(scene, |scene, gate| {
        hold(scene, gate, make, |mut held| {
            // SAFETY: `make` has written it, and it is taken once.
            wake(&unsafe { std::mem::replace(&mut held[2], MaybeUninit::uninit()).assume_init() });
        });
    });
}

enum Outcome {
    Later(Result<Option<Chan<()>>, String>),
    #[expect(dead_code, reason = "the other shape of the enum")]
    Never([u64; 4]),
}

fn in_enum(scene: &Scene) {
    play_with_holder(scene, |scene, gate| {
        hold(
            scene,
            gate,
            |signal| Outcome::Later(Ok(Some(signal))),
            |held| match held {
                Outcome::Later(Ok(Some(signal))) => wake(&signal),
                _ => unreachable!("it was made so"),
            },
        );
    });
}

fn in_grown(scene: &Scene) {
    fn make(signal: Chan<()>) -> Vec<Chan<()>> {
        let mut all = vec![signal];
        (0..5000).for_each(|_| all.push(Chan::nil()));
        all
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, |held| wake(&held[0])));
}

enum Message {
    Signal(Chan<()>),
    Number(u64),
}

fn stale_enum(scene: &Scene) {
    fn make(signal: Chan<()>) -> (Chan<()>, Message) {
        let mut message = Message::Signal(signal);
        let Message::Signal(signal) = std::mem::replace(&mut message, Message::Number(7)) else {
            unreachable!("it was made so")
        };
        (signal, black_box(message))
    }
    play_with_holder(scene, |scene, gate| {
        hold(scene, gate, make, |(signal, message)| {
            if let Message::Number(7) = message {
                wake(&signal);
            }
        });
    });
}

type Pool = Arc<StdMutex<Vec<Chan<()>>>>;

fn from_pool(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let pool: Pool = Arc::default();
        let (signal, theirs) = (receiver(scene), pool.clone());
        let put = scene.spawn("putter", move || theirs.lock().expect("nobody panics").push(signal));
        put.join().expect("it does not panic");
        scene.spawn("holder", move || {
            let signal = pool.lock().expect("nobody panics").pop().expect("it is there");
            gate.pass();
            wake(&signal);
        });
    }
    play_with_holder(scene, start);
}

fn in_pool(scene: &Scene) {
    fn start(scene: &Scene, gate: Gate) {
        let pool: Pool = Arc::default();
        pool.lock().expect("nobody panics").push(receiver(scene));
        let theirs = pool.clone();
        let used = scene.spawn("user", move || {
            let signal = theirs.lock().expect("nobody panics").pop().expect("it is there");
            black_box(signal.len());
            theirs.lock().expect("nobody panics").push(signal);
        });
        used.join().expect("it does not panic");
        scene.spawn("holder", move || {
            gate.pass();
            take(&mut *pool.lock().expect("nobody panics")).iter().for_each(wake);
        });
    }
    play_with_holder(scene, start);
}

fn in_mutex(scene: &Scene) {
    play_with_holder(scene, |scene, gate| {
        hold(scene, gate, |signal| Arc::new(Mutex::new(signal)), |held| wake(&held.lock()));
    });
}

fn in_large(scene: &Scene) {
    fn make(signal: Chan<()>) -> Vec<Chan<()>> {
        let mut all: Vec<Chan<()>> = Vec::with_capacity(1 << 17);
        (0..100_000).for_each(|_| all.push(Chan::nil()));
        all.push(signal);
        all
    }
    play_with_holder(scene, |scene, gate| hold(scene, gate, make, |held| held.last().into_iter().for_each(wake)));
}
