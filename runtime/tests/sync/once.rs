//! `Once` and `OnceCell`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use greenprof_runtime::{
    spawn,
    sync::{Chan, Once, OnceCell},
    task::WaitReason,
    yield_now,
};

use crate::{everywhere, join_all, panic_text, run, spawn_waiters, until_waiting, waiting};

#[test]
fn the_body_runs_once_and_has_ended_for_everybody() {
    struct Round {
        once: Once,
        cell: OnceCell<usize>,
        ran: AtomicUsize,
    }
    let new = || Round { once: Once::new(), cell: OnceCell::new(), ran: AtomicUsize::new(0) };
    // Four crowds, which use rounds of their own.
    let rounds: Arc<Vec<Round>> = Arc::new((0..4 * 200).map(|_| new()).collect());
    let (shared, calls) = (rounds.clone(), Arc::new([const { AtomicUsize::new(0) }; 8]));
    everywhere(move |n| {
        let crowd = calls[n].fetch_add(1, Ordering::Relaxed);
        for round in &shared[crowd * 200..][..200] {
            round.once.call_once(|| {
                if n % 2 == 0 {
                    std::thread::yield_now();
                }
                round.ran.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(round.ran.load(Ordering::Relaxed), 1);
            assert!(round.once.is_completed());
            let value = *round.cell.get_or_init(|| n);
            assert_eq!(round.cell.get(), Some(&value));
            assert_eq!(round.cell.set(100), Err(100));
        }
    });
    assert!(rounds.iter().all(|round| round.ran.load(Ordering::Relaxed) == 1 && round.cell.get().is_some()));
}

#[test]
fn who_asks_while_the_body_runs_waits_for_its_end() {
    run(1, || {
        let once = Arc::new(Once::new());
        let (go, order) = (Chan::new(), Chan::with_capacity(10));
        let (shared, gate) = (once.clone(), go.clone());
        let runner = spawn(move || shared.call_once(|| gate.recv().unwrap()));
        until_waiting(1, WaitReason::ChanReceive);
        let (shared, log) = (once.clone(), order.clone());
        let tasks = spawn_waiters(4, WaitReason::Once, move |n| {
            shared.call_once(|| unreachable!());
            log.send(n).unwrap();
        });
        assert!(!once.is_completed());
        go.send(()).unwrap();
        runner.join().unwrap();
        join_all(tasks);
        order.close();
        assert!(order.iter().eq(0..4), "all at once, in the order in which they came");
    });
}

#[test]
fn a_body_that_panics_counts_as_done() {
    run(2, || {
        let once = Arc::new(Once::new());
        let go = Chan::new();
        let (shared, gate) = (once.clone(), go.clone());
        let runner = spawn(move || {
            shared.call_once(|| {
                let () = gate.recv().unwrap();
                panic!("on purpose");
            });
        });
        until_waiting(1, WaitReason::ChanReceive);
        let shared = once.clone();
        let tasks = spawn_waiters(2, WaitReason::Once, move |_| shared.call_once(|| unreachable!()));
        go.send(()).unwrap();
        assert!(runner.join().is_err());
        join_all(tasks);
        assert!(once.is_completed());
        once.call_once(|| unreachable!());
    });
}

#[test]
fn a_value_that_was_not_made_is_made_by_the_first_who_waits() {
    run(2, || {
        let cell = Arc::new(OnceCell::new());
        let go = Chan::new();
        let (shared, gate) = (cell.clone(), go.clone());
        let runner = spawn(move || {
            shared.get_or_init(|| -> usize {
                let () = gate.recv().unwrap();
                panic!("on purpose");
            });
        });
        until_waiting(1, WaitReason::ChanReceive);
        let shared = cell.clone();
        let tasks = spawn_waiters(3, WaitReason::Once, move |n| {
            if n == 0 { *shared.get_or_init(|| panic!("so does this")) } else { *shared.get_or_init(|| n) }
        });
        let shared = cell.clone();
        let setters = spawn(move || {
            assert_eq!(shared.set(77), Err(77));
        });
        until_waiting(4, WaitReason::Once);
        go.send(()).unwrap();
        assert!(runner.join().is_err());
        let mut results = tasks.into_iter().map(|task| task.join());
        assert!(results.next().unwrap().is_err());
        assert!(results.all(|result| result.unwrap() == 1));
        setters.join().unwrap();
        assert_eq!(cell.get(), Some(&1));
    });
}

#[test]
fn a_cell_that_failed_alone_is_empty_and_can_be_filled() {
    let cell = OnceCell::<String>::new();
    let failed = || {
        cell.get_or_init(|| panic!("on purpose"));
    };
    assert_eq!(panic_text(failed), "on purpose");
    assert_eq!(cell.get(), None);
    assert_eq!(format!("{cell:?}"), "OnceCell(<empty>)");
    assert_eq!(cell.set("a".to_owned()), Ok(()));
    assert_eq!(cell.get_or_init(|| unreachable!()), "a");
    assert_eq!(format!("{cell:?}"), r#"OnceCell("a")"#);
}

#[test]
fn values_are_dropped_once() {
    let value = Arc::new(());
    let cell = OnceCell::from(value.clone());
    assert_eq!(Arc::strong_count(&value), 2);
    assert!(cell.set(value.clone()).is_err());
    assert_eq!(Arc::strong_count(&value), 2);
    let mut cell = Box::new(cell);
    assert!(cell.get_mut().is_some());
    assert!(cell.take().is_some() && cell.take().is_none() && cell.get().is_none());
    assert_eq!(Arc::strong_count(&value), 1);
    cell.set(value.clone()).unwrap();
    drop(cell);
    assert_eq!(Arc::strong_count(&value), 1);
    drop(OnceCell::<Arc<()>>::new());
    assert!(OnceCell::from(value).into_inner().is_some());
}

#[test]
fn a_body_that_asks_for_itself_waits_for_ever() {
    // The task is abandoned with its runtime.
    run(1, || {
        spawn(|| {
            let once = Once::new();
            once.call_once(|| once.call_once(|| ()));
        });
        until_waiting(1, WaitReason::Once);
        for _ in 0..10 {
            yield_now();
        }
        assert_eq!(waiting(WaitReason::Once), 1);
    });
}
