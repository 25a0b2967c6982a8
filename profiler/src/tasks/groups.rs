//! Tasks that are alike, counted.
//!
//! A program has many tasks and few kinds of them. A task costs a hash of its stack and a comparison here; memory is taken
//! for the first of each kind only.

use std::{ops::Range, panic::Location};

use greenprof_runtime::{labels::LabelSet, world::TaskState};

use super::snapshot::{Snapshot, each};
use crate::records::{StackHash, index::Index};

/// What tasks of a group have in common. Sites are compared by where they are: two of one line are two groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// Nothing for a task that was running and did not tell.
    pub(super) stack: Option<&'a [usize]>,
    pub(super) labels: LabelSet,
    pub(super) state: TaskState,
    pub(super) site: Option<&'static Location<'static>>,
    pub(super) name: Option<&'a str>,
}

/// All tasks, by kind.
#[derive(Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    index: Index,
    /// The stacks of the groups, one after another.
    addresses: Vec<usize>,
}

struct Group {
    count: i64,
    stack: Option<Range<usize>>,
    labels: LabelSet,
    state: TaskState,
    site: Option<&'static Location<'static>>,
    name: Option<Box<str>>,
}

impl Groups {
    /// The tasks of all runtimes now. As for [`super::snapshot()`].
    pub(super) fn take() -> Self {
        let mut groups = Self::default();
        each(|task| {
            let (labels, state, site) = (task.labels, task.state, task.spawn_site);
            groups.add(Facts { stack: task.stack, labels, state, site, name: task.name });
        });
        groups
    }

    /// The tasks of a snapshot.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut groups = Self::default();
        snapshot.tasks.iter().for_each(|task| groups.add(task.facts()));
        groups
    }

    /// The groups and the number of tasks in each, in the order in which they were met.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Facts<'_>, i64)> {
        self.groups.iter().map(|group| (self.facts(group), group.count))
    }

    /// Tasks without a stack.
    pub(super) fn unavailable(&self) -> i64 {
        self.groups.iter().filter(|group| group.stack.is_none()).map(|group| group.count).sum()
    }

    fn add(&mut self, task: Facts<'_>) {
        let hash = task.hash();
        match self.index.find(hash, |at| self.facts(&self.groups[at]).is_like(&task)) {
            Some(at) => self.groups[at].count += 1,
            None => self.insert(hash, task),
        }
    }

    fn insert(&mut self, hash: u64, task: Facts<'_>) {
        let Facts { stack, labels, state, site, name } = task;
        let stack = stack.map(|stack| {
            let start = self.addresses.len();
            self.addresses.extend_from_slice(stack);
            start..self.addresses.len()
        });
        self.index.insert(hash, self.groups.len()).expect("memory for the groups");
        self.groups.push(Group { count: 1, stack, labels, state, site, name: name.map(Into::into) });
    }

    fn facts<'a>(&'a self, group: &'a Group) -> Facts<'a> {
        Facts {
            stack: group.stack.clone().map(|range| &self.addresses[range]),
            labels: group.labels,
            state: group.state,
            site: group.site,
            name: group.name.as_deref(),
        }
    }
}

impl Facts<'_> {
    fn site_address(&self) -> usize {
        self.site.map_or(0, |site| std::ptr::from_ref(site).addr())
    }

    fn is_like(&self, other: &Facts<'_>) -> bool {
        let facts = |of: &Facts<'_>| (of.labels, of.state, of.site_address());
        facts(self) == facts(other) && self.stack == other.stack && self.name == other.name
    }

    /// Of all but the state, which the stack decides, nearly.
    fn hash(&self) -> u64 {
        let mut hash = StackHash::EMPTY;
        self.stack.unwrap_or_default().iter().for_each(|address| hash.push(*address));
        hash.push(self.site_address());
        hash.push(self.labels.index() as usize);
        self.name.unwrap_or_default().bytes().for_each(|byte| hash.push(byte.into()));
        hash.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenprof_runtime::task::WaitReason;

    const RECEIVES: TaskState = TaskState::Waiting(WaitReason::ChanReceive);

    fn facts(stack: Option<&[usize]>) -> Facts<'_> {
        Facts { stack, labels: LabelSet::default(), state: RECEIVES, site: None, name: None }
    }

    #[test]
    fn whatever_differs_makes_another_group() {
        let elsewhere = Location::caller();
        let kinds = [
            facts(Some(&[1, 2])),
            facts(Some(&[2, 1])),
            facts(Some(&[1])),
            facts(Some(&[])),
            facts(None),
            Facts { labels: LabelSet::from_index(7), ..facts(Some(&[1, 2])) },
            Facts { state: TaskState::Runnable, ..facts(Some(&[1, 2])) },
            Facts { site: Some(elsewhere), ..facts(Some(&[1, 2])) },
            Facts { name: Some("a"), ..facts(Some(&[1, 2])) },
            Facts { name: Some("b"), ..facts(Some(&[1, 2])) },
        ];
        let mut groups = Groups::default();
        for round in 1..=3 {
            for (times, kind) in kinds.iter().enumerate() {
                (0..=times).for_each(|_| groups.add(*kind));
            }
            let counts: Vec<i64> = groups.iter().map(|(_, count)| count).collect();
            assert_eq!(counts, (1..=10).map(|times| times * round).collect::<Vec<i64>>());
        }
        assert!(groups.iter().zip(kinds).all(|((found, _), kind)| found.is_like(&kind)));
        assert_eq!(groups.unavailable(), 15);
    }

    #[test]
    fn many_kinds_are_kept_apart() {
        let mut groups = Groups::default();
        for turn in 0..30_000 {
            let stack = [turn % 10_000, 1, 2];
            groups.add(facts(Some(&stack)));
        }
        assert_eq!(groups.iter().count(), 10_000);
        for (place, (facts, count)) in groups.iter().enumerate() {
            assert_eq!((facts.stack, count), (Some([place, 1, 2].as_slice()), 3));
        }
    }
}
