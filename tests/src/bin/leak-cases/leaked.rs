//! Situations in which tasks are leaked.

use std::{collections::HashMap, mem, sync::Arc, thread, time::Duration};

use greenprof_runtime::{
    context::Context,
    select, sleep, spawn,
    sync::{Chan, Condvar, Mutex, Once, RawMutex, RwLock, Semaphore, Shared, WaitGroup, channel},
    task, time,
};

use crate::{
    Case,
    lab::{Lab, go},
};

macro_rules! cases {
    ($($name:ident: $leaked:expr,)*) => {
        pub const CASES: &[Case] = &[
            $(
                Case { name: stringify!($name), leaked: &$leaked, run: |lab| {
                    // The frame that made the leak is alive.
                    $name(lab, true);
                } },
                Case { name: concat!(stringify!($name), "_returned"), leaked: &$leaked, run: |lab| {
                    $name(lab, false);
                    lab.detect();
                } },
            )*
        ];
    };
}

cases! {
    abandoned_receiver: ["leak"],
    abandoned_sender: ["leak"],
    self_sender: ["leak"],
    disconnected_never: ["leak"],
    two_wait_for_each_other: ["a", "b"],
    range_over_channel: ["leak"],
    full_buffer: ["leak"],
    channel_in_arc: ["leak"],
    channel_in_shared: ["leak"],
    channel_in_map: ["leak"],
    channel_in_box_dyn: ["leak"],
    select_on_abandoned: ["leak"],
    nil_channel: ["leak", "send"],
    empty_select: ["leak"],
    double_lock: ["leak"],
    forgotten_guard: ["leak"],
    ab_ba: ["a", "b"],
    ab_ba_main_holds: ["a", "b"],
    lock_behind_leak: ["holder", "waiter"],
    double_read_write: ["leak"],
    raw_double_lock: ["leak"],
    wait_group_never_done: ["leak"],
    wait_group_of_leaked: ["child", "leak"],
    condvar_never_notified: ["leak"],
    once_reentry: ["leak"],
    join_cycle: ["a", "b"],
    join_leaked: ["child", "leak"],
    semaphore_forgotten: ["leak"],
    stopped_timer: ["leak"],
    context_without_cancel: ["leak"],
    scope_of_leaked: ["? (chan receive)", "leak"],
    chain: ["leak", "leak", "leak", "leak", "leak", "leak", "leak", "leak", "leak", "leak"],
    message_in_leaked_buffer: ["leak", "other"],
}

/// Looks if the frame is to be alive.
fn look(lab: &Lab, here: bool) {
    if here {
        lab.detect();
    }
}

#[inline(never)]
fn abandoned_receiver(lab: &Lab, here: bool) {
    let chan = Chan::<u32>::new();
    go("leak", move || chan.recv());
    look(lab, here);
}

#[inline(never)]
fn abandoned_sender(lab: &Lab, here: bool) {
    let chan = Chan::new();
    let clone = chan.clone();
    go("leak", move || clone.send(1));
    sleep(Duration::from_millis(1));
    drop(chan);
    look(lab, here);
}

#[inline(never)]
fn self_sender(lab: &Lab, here: bool) {
    let (sender, receiver) = channel::rendezvous::<u32>();
    go("leak", move || {
        let result = receiver.recv();
        drop(sender);
        result
    });
    look(lab, here);
}

#[inline(never)]
fn disconnected_never(lab: &Lab, here: bool) {
    let (sender, receiver) = channel::bounded::<u32>(1);
    let keeps = sender.clone();
    drop(sender);
    go("leak", move || {
        for value in receiver.iter() {
            keeps.send(value + 1).expect("open");
        }
    });
    look(lab, here);
}

#[inline(never)]
fn two_wait_for_each_other(lab: &Lab, here: bool) {
    let (first, second) = (Chan::<u32>::new(), Chan::<u32>::new());
    let (to_first, to_second) = (first.clone(), second.clone());
    go("a", move || {
        let value = first.recv();
        to_second.send(value.unwrap_or(0))
    });
    go("b", move || {
        let value = second.recv();
        to_first.send(value.unwrap_or(0))
    });
    look(lab, here);
}

#[inline(never)]
fn range_over_channel(lab: &Lab, here: bool) {
    let chan = Chan::with_capacity(4);
    let consumer = chan.clone();
    go("leak", move || consumer.iter().sum::<u32>());
    for n in 0..10 {
        chan.send(n).expect("open");
    }
    drop(chan);
    look(lab, here);
}

#[inline(never)]
fn full_buffer(lab: &Lab, here: bool) {
    let chan = Chan::with_capacity(2);
    go("leak", move || (0..3).try_for_each(|n| chan.send(n)));
    look(lab, here);
}

struct Service {
    requests: Chan<u32>,
    _name: String,
}

#[inline(never)]
fn channel_in_arc(lab: &Lab, here: bool) {
    let service = Arc::new(Service { requests: Chan::new(), _name: "service".to_owned() });
    let other = service.clone();
    go("leak", move || other.requests.recv());
    sleep(Duration::from_millis(1));
    drop(service);
    look(lab, here);
}

#[inline(never)]
fn channel_in_shared(lab: &Lab, here: bool) {
    let service = Shared::new(Service { requests: Chan::new(), _name: "service".to_owned() });
    let other = service.clone();
    go("leak", move || other.requests.recv());
    sleep(Duration::from_millis(1));
    drop(service);
    look(lab, here);
}

#[inline(never)]
fn channel_in_map(lab: &Lab, here: bool) {
    let mut map = HashMap::new();
    map.insert("one", Chan::<u32>::new());
    map.insert("two", Chan::<u32>::new());
    go("leak", move || map["one"].recv());
    look(lab, here);
}

trait Source: Send {
    fn next(&self) -> Option<u32>;
}

impl Source for Service {
    fn next(&self) -> Option<u32> {
        self.requests.recv()
    }
}

#[inline(never)]
fn channel_in_box_dyn(lab: &Lab, here: bool) {
    let source: Box<dyn Source> = Box::new(Service { requests: Chan::new(), _name: "boxed".to_owned() });
    go("leak", move || source.next());
    look(lab, here);
}

#[inline(never)]
fn select_on_abandoned(lab: &Lab, here: bool) {
    let (first, second) = (Chan::<u32>::new(), Chan::<u32>::new());
    go("leak", move || {
        select! {
            recv(first) -> value => value,
            recv(second) -> value => value,
        }
    });
    look(lab, here);
}

#[inline(never)]
fn nil_channel(lab: &Lab, here: bool) {
    go("leak", || Chan::<u32>::nil().recv());
    go("send", || Chan::<u32>::nil().send(1));
    look(lab, here);
}

#[inline(never)]
fn empty_select(lab: &Lab, here: bool) {
    go("leak", || {
        select! {}
    });
    look(lab, here);
}

#[inline(never)]
fn double_lock(lab: &Lab, here: bool) {
    let lock = Arc::new(Mutex::new(1));
    let other = lock.clone();
    go("leak", move || {
        let first = other.lock();
        let second = other.lock();
        *first + *second
    });
    look(lab, here);
    drop(lock);
}

#[inline(never)]
fn forgotten_guard(lab: &Lab, here: bool) {
    let lock = Arc::new(Mutex::new(1));
    mem::forget(lock.lock());
    let other = lock.clone();
    go("leak", move || *other.lock());
    look(lab, here);
    drop(lock);
}

fn lock_both(first: &Mutex<u32>, second: &Mutex<u32>) -> u32 {
    let held = first.lock();
    sleep(Duration::from_millis(20));
    let other = second.lock();
    *held + *other
}

#[inline(never)]
fn ab_ba(lab: &Lab, here: bool) {
    let locks = Arc::new((Mutex::new(1), Mutex::new(2)));
    let other = locks.clone();
    go("a", move || lock_both(&locks.0, &locks.1));
    go("b", move || lock_both(&other.1, &other.0));
    sleep(Duration::from_millis(60));
    look(lab, here);
}

#[inline(never)]
fn ab_ba_main_holds(lab: &Lab, here: bool) {
    let locks = Arc::new((Mutex::new(1), Mutex::new(2)));
    let (one, other) = (locks.clone(), locks.clone());
    go("a", move || lock_both(&one.0, &one.1));
    go("b", move || lock_both(&other.1, &other.0));
    sleep(Duration::from_millis(60));
    look(lab, here);
    assert!(locks.0.try_lock().is_none());
}

#[inline(never)]
fn lock_behind_leak(lab: &Lab, here: bool) {
    let lock = Arc::new(Mutex::new(1));
    let other = lock.clone();
    let chan = Chan::<u32>::new();
    go("holder", move || {
        let mut guard = other.lock();
        *guard = chan.recv().unwrap_or(0);
    });
    sleep(Duration::from_millis(20));
    go("waiter", move || *lock.lock());
    look(lab, here);
}

#[inline(never)]
fn double_read_write(lab: &Lab, here: bool) {
    let lock = Arc::new(RwLock::new(1));
    let other = lock.clone();
    go("leak", move || {
        let read = other.read();
        *other.write() = *read;
    });
    look(lab, here);
    drop(lock);
}

#[inline(never)]
fn raw_double_lock(lab: &Lab, here: bool) {
    let lock = Arc::new(RawMutex::new());
    go("leak", move || {
        lock.lock();
        lock.lock();
    });
    look(lab, here);
}

#[inline(never)]
fn wait_group_never_done(lab: &Lab, here: bool) {
    let group = WaitGroup::new();
    group.add(2);
    let other = group.clone();
    spawn(move || other.done());
    go("leak", move || group.wait());
    look(lab, here);
}

#[inline(never)]
fn wait_group_of_leaked(lab: &Lab, here: bool) {
    let group = WaitGroup::new();
    group.add(1);
    let other = group.clone();
    let chan = Chan::<u32>::new();
    go("child", move || {
        chan.recv();
        other.done();
    });
    go("leak", move || group.wait());
    look(lab, here);
}

#[inline(never)]
fn condvar_never_notified(lab: &Lab, here: bool) {
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    go("leak", move || {
        let mut ready = pair.0.lock();
        while !*ready {
            ready = pair.1.wait(ready);
        }
    });
    look(lab, here);
}

#[inline(never)]
fn once_reentry(lab: &Lab, here: bool) {
    let once = Arc::new(Once::new());
    go("leak", move || once.call_once(|| once.call_once(|| ())));
    look(lab, here);
}

#[inline(never)]
fn join_cycle(lab: &Lab, here: bool) {
    let chan = Chan::with_capacity(1);
    let other = chan.clone();
    let first = go("a", move || {
        let second: task::JoinHandle<()> = chan.recv().expect("sent below");
        second.join().expect("no panic");
    });
    let second = go("b", move || {
        sleep(Duration::from_millis(5));
        first.join().expect("no panic");
    });
    other.send(second).expect("open");
    drop(other);
    sleep(Duration::from_millis(20));
    look(lab, here);
}

#[inline(never)]
fn join_leaked(lab: &Lab, here: bool) {
    let chan = Chan::<u32>::new();
    let child = go("child", move || chan.recv());
    go("leak", move || child.join().expect("no panic"));
    look(lab, here);
}

#[inline(never)]
fn semaphore_forgotten(lab: &Lab, here: bool) {
    let semaphore = Semaphore::new(1);
    semaphore.acquire().forget();
    go("leak", move || drop(semaphore.acquire()));
    look(lab, here);
}

#[inline(never)]
fn stopped_timer(lab: &Lab, here: bool) {
    let timer = time::Timer::new(Duration::from_secs(3600));
    timer.stop();
    go("leak", move || timer.chan().recv());
    look(lab, here);
}

#[inline(never)]
fn context_without_cancel(lab: &Lab, here: bool) {
    let (context, cancel) = Context::background().with_cancel();
    drop(cancel);
    go("leak", move || context.done().recv());
    look(lab, here);
}

#[inline(never)]
fn scope_of_leaked(lab: &Lab, here: bool) {
    go("leak", || {
        let chan = Chan::<u32>::new();
        task::scope(|scope| {
            scope.spawn(|| chan.recv());
        });
    });
    look(lab, here);
}

/// Each waits for the next, the last for nobody.
#[inline(never)]
fn chain(lab: &Lab, here: bool) {
    let mut next = Chan::<u32>::new();
    for _ in 0..10 {
        let mine = Chan::new();
        let to_me = mine.clone();
        let from = mem::replace(&mut next, to_me);
        go("leak", move || mine.send(from.recv().unwrap_or(0)));
    }
    drop(next);
    look(lab, here);
}

#[inline(never)]
fn message_in_leaked_buffer(lab: &Lab, here: bool) {
    let inner = Chan::<u32>::new();
    let outer = Chan::with_capacity(1);
    outer.send(inner.clone()).expect("open");
    go("other", move || inner.recv());
    let wait = Chan::<u32>::new();
    go("leak", move || {
        wait.recv();
        outer.recv()
    });
    look(lab, here);
    thread::yield_now();
}
