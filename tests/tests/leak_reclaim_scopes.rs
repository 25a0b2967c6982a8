//! Tasks of scopes are reclaimed in the order that borrowing allows: who has lent something is left alone.
//!
//! A process of its own: what other tests leave in memory hides the tasks that wait for a scope's end.

use std::hint::black_box;

use greenprof_profiler::leak::{
    Leak,
    reclaim::{Outcome, Refusal},
};
use greenprof_runtime::{JoinHandle, heap::Heap, sync::Chan, task};
use greenprof_tests::leaks::{alone, go, made, reclaim_all, report, runtime, settle};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Several, because a stale word may hide one or another.
const SEVERAL: usize = 8;

/// A scope waits for a task that borrows from it, whatever happens: it is not unwound, but ends when that task has been.
#[test]
fn who_lends_is_left_alone() {
    let _alone = alone();
    (0..3).for_each(|_| reclaim_borrowers());
}

fn reclaim_borrowers() {
    let runtime = runtime();
    let parents: Vec<_> = made(&runtime, || {
        let parent = |_| {
            go("parent", || {
                let numbers = [1, 2, 3];
                task::scope(|scope| {
                    scope.spawn(|| {
                        Chan::<u8>::new().recv();
                        black_box(numbers.len());
                    });
                });
            })
        };
        (0..SEVERAL).map(parent).collect()
    });
    settle(&runtime, 2 * SEVERAL);
    let report = report(&runtime);
    let reclamation = reclaim_all(&report);
    let is_parent = |id| parents.iter().any(|parent| parent.id() == id);
    let reported: Vec<_> = report.leaked().iter().map(Leak::id).filter(|id| is_parent(*id)).collect();
    for id in &reported {
        assert_eq!(reclamation.outcome(*id), Some(&Outcome::Refused(Refusal::Lends)));
    }
    let children = report.leaked().len() - reported.len();
    assert_eq!(reclamation.reclaimed(), children, "the others");
    if children == SEVERAL {
        for parent in parents {
            let payload = parent.join().expect_err("a panic");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"a scoped task has panicked"));
        }
    }
}

#[test]
fn who_is_referred_to_is_left_alone_until_nobody_does() {
    let _alone = alone();
    let runtime = runtime();
    made(&runtime, || {
        for _ in 0..SEVERAL {
            let _: JoinHandle<()> = go("parent", || {
                let numbers = [1, 2, 3];
                let numbers = black_box(&numbers);
                task::scope(|scope| {
                    scope.spawn(move || {
                        Chan::<u8>::new().recv();
                        black_box(numbers);
                    });
                    Chan::<u8>::new().recv();
                });
            });
        }
    });
    settle(&runtime, 2 * SEVERAL);
    let first = report(&runtime);
    let reclamation = reclaim_all(&first);
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(Refusal::Referenced(_)));
    let left = reclamation.tasks.iter().filter(|(_, outcome)| refused(outcome)).count();
    assert!(left > 0, "{reclamation:?}");
    assert_eq!(reclamation.reclaimed() + left, first.leaked().len(), "{reclamation:?}");
    let second = report(&runtime);
    let again = reclaim_all(&second);
    let parents = second.leaked().iter().filter(|leak| leak.task.name.is_some());
    let freed = parents.filter(|leak| again.outcome(leak.id()) == Some(&Outcome::Reclaimed)).count();
    assert!(freed > 0, "{again:?}");
}
