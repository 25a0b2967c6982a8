//! Task-locals, from the outside.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use greenprof_runtime::{
    Runtime, sleep, spawn,
    task::{self, AccessError},
    task_local, yield_now,
};

task_local! {
    static COUNT: Cell<u32> = const { Cell::new(10) };
    /// Not Send: only the task has it, whichever thread it runs on.
    static SHARED: RefCell<Vec<Rc<u32>>> = RefCell::default();
    static OUTER: u32 = INNER.with(|inner| inner + 1);
    static INNER: u32 = 1;
    static RECURSIVE: u32 = RECURSIVE_DEPTH.with(|depth| {
        depth.set(depth.get() + 1);
        if depth.get() < 3 { RECURSIVE.with(|inner| inner + 1) } else { 0 }
    });
    static RECURSIVE_DEPTH: Cell<u32> = const { Cell::new(0) };
}

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("threads")
}

#[test]
fn each_task_has_its_own_and_keeps_it_across_waits() {
    runtime(2).run(|| {
        let tasks: Vec<_> = (0..200_u32)
            .map(|n| {
                spawn(move || {
                    COUNT.with(|count| count.set(count.get() + n));
                    SHARED.with_borrow_mut_push(n);
                    for _ in 0..5 {
                        yield_now();
                        sleep(Duration::from_micros(u64::from(n)));
                    }
                    let kept = SHARED.with(|shared| shared.borrow().iter().map(|n| **n).collect::<Vec<_>>());
                    (COUNT.with(Cell::get), kept)
                })
            })
            .collect();
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.join().unwrap(), (10 + n, vec![n, n]));
        }
        assert_eq!(COUNT.with(Cell::get), 10);
    });
}

trait Push {
    fn with_borrow_mut_push(&'static self, value: u32);
}

impl Push for task::LocalKey<RefCell<Vec<Rc<u32>>>> {
    fn with_borrow_mut_push(&'static self, value: u32) {
        self.with(|shared| {
            let value = Rc::new(value);
            shared.borrow_mut().extend([value.clone(), value]);
        });
    }
}

#[test]
fn threads_have_theirs_too() {
    COUNT.with(|count| count.set(1));
    thread::spawn(|| assert_eq!(COUNT.with(Cell::get), 10)).join().unwrap();
    runtime(1).run(|| assert_eq!(COUNT.with(Cell::get), 10));
    assert_eq!(COUNT.with(Cell::get), 1);
}

#[test]
fn initialisers_may_use_others_and_even_themselves() {
    let test = || {
        assert_eq!(OUTER.with(|outer| *outer), 2);
        assert_eq!(RECURSIVE.with(|value| *value), 0, "the innermost was first");
        assert_eq!(RECURSIVE.with(|value| *value), 0);
    };
    test();
    runtime(1).run(test);
}

/// What was destroyed, and in which task.
type Log = Arc<Mutex<Vec<(&'static str, Option<task::TaskId>)>>>;

/// Writes its destruction down.
struct Witness(Log, &'static str);

impl Drop for Witness {
    fn drop(&mut self) {
        sleep(Duration::from_micros(10)); // destructors may wait
        self.0.lock().unwrap().push((self.1, task::current_id()));
        if self.1 == "second" {
            // Made before it, so still there; and no new ones any more.
            assert!(FIRST.try_with(|first| first.borrow().is_some()).unwrap());
            assert_eq!(SECOND.try_with(|_| ()), Err(AccessError));
            assert_eq!(NEVER_MADE.try_with(|_| ()), Err(AccessError));
        }
    }
}

task_local! {
    static FIRST: RefCell<Option<Witness>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<Witness>> = const { RefCell::new(None) };
    static NEVER_MADE: u32 = 0;
}

#[test]
fn values_are_destroyed_by_the_task_before_it_is_joined() {
    for panics in [false, true] {
        runtime(2).run(|| {
            let log = Log::default();
            let witnesses = [Witness(log.clone(), "first"), Witness(log.clone(), "second")];
            let task = spawn(move || {
                let [first, second] = witnesses;
                FIRST.with(|slot| slot.replace(Some(first)));
                SECOND.with(|slot| slot.replace(Some(second)));
                if panics {
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
            });
            let id = Some(task.id());
            assert_eq!(task.join().is_err(), panics);
            assert_eq!(*log.lock().unwrap(), [("second", id), ("first", id)]);
        });
    }
}

#[test]
fn values_of_a_thread_end_with_it() {
    let log = Log::default();
    let witness = Witness(log.clone(), "first");
    thread::spawn(move || FIRST.with(|slot| drop(slot.replace(Some(witness))))).join().unwrap();
    assert_eq!(*log.lock().unwrap(), [("first", None)]);
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("bomb"));
    }
}

task_local! {
    static BOMB: Bomb = Bomb;
    static BOMB_TOO: Bomb = Bomb;
}

#[test]
fn a_panic_in_a_destructor_ends_the_task_after_the_other_destructors() {
    runtime(1).run(|| {
        let log = Log::default();
        let witness = Witness(log.clone(), "first");
        let task = spawn(move || {
            FIRST.with(|slot| slot.replace(Some(witness)));
            BOMB.with(|_| ());
            BOMB_TOO.with(|_| ());
            3
        });
        assert_eq!(*task.join().unwrap_err().downcast::<&str>().unwrap(), "bomb");
        assert_eq!(log.lock().unwrap().len(), 1);
        let task = spawn(|| -> u32 {
            BOMB.with(|_| ());
            std::panic::resume_unwind(Box::new("body"))
        });
        assert_eq!(*task.join().unwrap_err().downcast::<&str>().unwrap(), "body", "the first panic counts");
    });
}

#[test]
fn the_next_task_on_the_same_stack_starts_afresh() {
    runtime(1).run(|| {
        for n in 0..100 {
            assert_eq!(spawn(move || COUNT.with(|count| count.replace(n))).join().unwrap(), 10);
        }
    });
}
