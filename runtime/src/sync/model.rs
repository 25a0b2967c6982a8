//! Models of the primitives that stand on queues and locks, of the real code but for the kernel.

use loom::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{Condvar, Mutex, Once, OnceCell, RwLock, Semaphore, WaitGroup};
use crate::sys::model::{Checked, check};

fn spawn<T: Sync + Send + 'static>(with: &Arc<T>, body: fn(&T)) -> JoinHandle<()> {
    let with = with.clone();
    thread::spawn(move || body(&with))
}

#[test]
fn mutex_with_guards() {
    check(3, 20, || {
        let value = Arc::new(Mutex::new(Checked::default()));
        // Both may be the first, who makes the core.
        let other = spawn(&value, |value| value.lock().add(1));
        value.lock().add(1);
        other.join().unwrap();
        assert_eq!(value.lock().read(), 2);
    });
}

#[test]
fn rwlock_with_guards() {
    check(3, 20, || {
        let value = Arc::new(RwLock::new(Checked::default()));
        let other = spawn(&value, |value| value.write().add(1));
        assert!(value.read().read() <= 1);
        other.join().unwrap();
        assert_eq!(value.read().read(), 1);
    });
}

#[test]
fn condvar_between_the_look_and_the_wait() {
    check(3, 20, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let setter = spawn(&shared, |(ready, changed)| {
            *ready.lock() = true;
            changed.notify_one();
        });
        let (ready, changed) = &*shared;
        assert!(*changed.wait_while(ready.lock(), |ready| !*ready));
        setter.join().unwrap();
    });
}

#[test]
fn condvar_notifies_all() {
    check(2, 50, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        // Made here: who makes them is modelled elsewhere.
        drop(shared.0.lock());
        shared.1.notify_all();
        let wait: fn(&(Mutex<bool>, Condvar)) =
            |(ready, changed)| assert!(*changed.wait_while(ready.lock(), |ready| !*ready));
        let waiter = spawn(&shared, wait);
        let setter = spawn(&shared, |(ready, changed)| {
            *ready.lock() = true;
            changed.notify_all();
        });
        wait(&shared);
        waiter.join().unwrap();
        setter.join().unwrap();
    });
}

#[test]
fn wait_group_of_two_things_and_two_waiters() {
    check(2, 1_000, || {
        let group = WaitGroup::new();
        let values = Arc::new([Checked::default(), Checked::default()]);
        group.add(2);
        let doers = [0, 1].map(|n| {
            let (group, values) = (group.clone(), values.clone());
            thread::spawn(move || {
                values[n].add(1);
                group.done();
            })
        });
        group.wait();
        assert_eq!(values[0].read() + values[1].read(), 2);
        doers.into_iter().for_each(|doer| doer.join().unwrap());
    });
}

#[test]
fn semaphore_of_one_permit() {
    check(1, 50, || {
        let semaphore = Semaphore::new(1);
        let value = Arc::new(Checked::default());
        let others = [(); 2].map(|()| {
            let (semaphore, value) = (semaphore.clone(), value.clone());
            thread::spawn(move || {
                let _permit = semaphore.acquire();
                value.add(1);
            })
        });
        {
            let _permit = semaphore.acquire();
            value.add(1);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(semaphore.available(), 1);
        assert_eq!(value.read(), 3);
    });
}

#[test]
fn once_is_done_when_it_returns() {
    check(3, 20, || {
        let shared = Arc::new((Once::new(), Checked::default()));
        let call: fn(&(Once, Checked)) = |(once, value)| {
            once.call_once(|| value.add(1));
            assert_eq!(value.read(), 1);
        };
        let other = spawn(&shared, call);
        call(&shared);
        other.join().unwrap();
    });
}

/// A `set` that meets a `get_or_init`: one value, the same for both.
#[test]
fn once_cell_has_one_value() {
    check(3, 20, || {
        let cell = Arc::new(OnceCell::new());
        let setter = {
            let cell = cell.clone();
            thread::spawn(move || cell.set(1).is_ok())
        };
        let value = *cell.get_or_init(|| 2);
        assert_eq!(value, if setter.join().unwrap() { 1 } else { 2 });
        assert_eq!(cell.get(), Some(&value));
    });
}
