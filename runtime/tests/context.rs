//! Trees of contexts, from the outside.

use std::{
    thread,
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime,
    context::{
        Cancel, Context,
        ContextError::{self, Canceled, DeadlineExceeded},
    },
    sleep, spawn,
    sync::TryRecvError,
};
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn runtime() -> Runtime {
    Runtime::builder().workers(2).build().expect("threads")
}

fn everywhere(test: fn()) {
    runtime().run(test);
    test();
}

#[test]
fn cancelling_closes_the_channel_of_all_below() {
    everywhere(|| {
        let background = Context::background();
        let (root, cancel) = background.with_cancel();
        let (child, cancel_child) = root.with_cancel();
        let (grandchild, _) = child.with_timeout(HOUR);
        let (sibling, _) = root.with_cancel();
        assert_eq!(grandchild.done().try_recv(), Err(TryRecvError::Empty));
        cancel_child.cancel();
        cancel_child.cancel();
        assert_eq!(grandchild.done().recv(), None);
        assert_eq!((child.err(), grandchild.err()), (Some(Canceled), Some(Canceled)));
        assert_eq!((root.err(), sibling.err()), (None, None));
        cancel.cancel();
        assert_eq!(sibling.done().recv(), None);
        assert_eq!(root.with_cancel().0.done().recv(), None, "born cancelled");
        assert_eq!(background.err(), None);
        assert_eq!(background.done().try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn tasks_and_threads_that_wait_are_woken() {
    let (context, cancel) = Context::background().with_cancel();
    let waiting = {
        let context = context.clone();
        thread::spawn(move || context.done().recv())
    };
    runtime().run(|| {
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let child = context.with_cancel().0;
                spawn(move || {
                    child.done().recv();
                    child.err()
                })
            })
            .collect();
        sleep(Duration::from_millis(1));
        cancel.cancel();
        assert!(tasks.into_iter().all(|task| task.join().unwrap() == Some(Canceled)));
    });
    assert_eq!(waiting.join().unwrap(), None);
}

#[test]
fn deadlines_pass_and_the_earlier_one_counts() {
    everywhere(|| {
        let start = Instant::now();
        let timeout = Duration::from_millis(5);
        let (context, _) = Context::background().with_timeout(timeout);
        let (child, cancel_child) = context.with_timeout(HOUR);
        assert_eq!(child.deadline(), context.deadline());
        assert_eq!(child.done().recv(), None);
        assert!(start.elapsed() >= timeout);
        assert_eq!((context.err(), child.err()), (Some(DeadlineExceeded), Some(DeadlineExceeded)));
        cancel_child.cancel();
        assert_eq!(child.err(), Some(DeadlineExceeded), "the first reason stays");

        let (late, _) = Context::background().with_deadline(start);
        assert_eq!(late.err(), Some(DeadlineExceeded));
        let (early, cancel) = Context::background().with_timeout(HOUR);
        let (earlier, _) = early.with_timeout(Duration::from_millis(1));
        assert_eq!(earlier.done().recv(), None);
        assert_eq!((early.err(), earlier.err()), (None, Some(DeadlineExceeded)));
        cancel.cancel();
        assert_eq!(early.err(), Some(Canceled));
        let (endless, _) = Context::background().with_timeout(Duration::MAX);
        assert_eq!((endless.deadline(), endless.err()), (None, None));
    });
}

#[test]
fn dropping_the_cancel_handle_does_not_cancel() {
    let (context, cancel) = Context::background().with_cancel();
    drop(cancel);
    assert_eq!(context.err(), None);
    let (context, cancel) = context.with_cancel();
    drop(context.clone());
    assert_eq!(context.err(), None);
    cancel.cancel();
    assert_eq!(context.err(), Some(Canceled));
}

#[test]
fn cancelling_from_all_sides_at_once() {
    for _ in 0..200 {
        let (root, cancel) = Context::background().with_cancel();
        let (child, cancel_child) = root.with_timeout(Duration::from_micros(50));
        thread::scope(|scope| {
            scope.spawn(|| cancel.cancel());
            scope.spawn(|| cancel_child.cancel());
            scope.spawn(|| child.with_cancel().0.done().recv());
            scope.spawn(|| drop(root.with_cancel()));
        });
        assert!(child.err().is_some());
        assert_eq!(root.err(), Some(Canceled));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Derive(usize),
    DeriveExpired(usize),
    Cancel(usize),
    Drop(usize),
    Listen(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<usize>();
    prop_oneof![
        4 => at.prop_map(Step::Derive),
        1 => at.prop_map(Step::DeriveExpired),
        1 => at.prop_map(Step::Cancel),
        1 => at.prop_map(Step::Drop),
        2 => at.prop_map(Step::Listen),
    ]
}

/// What a tree of contexts is, one after the other: each knows its parent and why it has ended.
#[derive(Default)]
struct Model(Vec<(usize, Option<ContextError>)>);

impl Model {
    fn derive(&mut self, parent: usize, own: Option<ContextError>) {
        let inherited = self.0.get(parent).and_then(|(_, error)| *error);
        self.0.push((parent, inherited.or(own)));
    }

    fn cancel(&mut self, root: usize) {
        if self.0[root].1.is_some() {
            return;
        }
        self.0[root].1 = Some(Canceled);
        // Children come after their parents.
        for index in root + 1..self.0.len() {
            let (parent, error) = self.0[index];
            let inherited = self.0.get(parent).and_then(|(_, error)| *error);
            self.0[index].1 = error.or(inherited);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_tree_behaves_like_its_model(steps in prop::collection::vec(step(), 1..80)) {
        let background = Context::background();
        let mut model = Model::default();
        let mut contexts: Vec<Option<(Context, Cancel)>> = Vec::new();
        let derive = |model: &mut Model, contexts: &mut Vec<Option<(Context, Cancel)>>, parent: usize, expired: bool| {
            // One beyond the last, or one whose handles are gone, stands for the background.
            let parent = parent % (contexts.len() + 1);
            let (index, context) = match contexts.get(parent) {
                Some(Some((context, _))) => (parent, context.clone()),
                _ => (usize::MAX, background.clone()),
            };
            let child = if expired { context.with_timeout(Duration::ZERO) } else { context.with_cancel() };
            contexts.push(Some(child));
            model.derive(index, expired.then_some(DeadlineExceeded));
        };
        for step in steps {
            match step {
                Step::Derive(parent) => derive(&mut model, &mut contexts, parent, false),
                Step::DeriveExpired(parent) => derive(&mut model, &mut contexts, parent, true),
                _ if contexts.is_empty() => {}
                Step::Cancel(at) => {
                    let at = at % contexts.len();
                    if let Some((_, cancel)) = &contexts[at] {
                        cancel.cancel();
                        model.cancel(at);
                    }
                }
                Step::Drop(at) => {
                    // Children go on, and hear of what happens to the ancestors.
                    let at = at % contexts.len();
                    contexts[at] = None;
                }
                Step::Listen(at) => {
                    let at = at % contexts.len();
                    if let Some((context, _)) = &contexts[at] {
                        let expected = if model.0[at].1.is_some() { TryRecvError::Closed } else { TryRecvError::Empty };
                        prop_assert_eq!(context.done().try_recv(), Err(expected));
                    }
                }
            }
            for (context, (_, error)) in contexts.iter().zip(&model.0) {
                if let Some((context, _)) = context {
                    prop_assert_eq!(context.err(), *error);
                }
            }
        }
    }
}
