//! Multisets of blocked tasks, by name and by what they wait for.

use std::{collections::BTreeMap, fmt};

use greenprof_runtime::{task::WaitReason, world::TaskState};
use serde::{Deserialize, Serialize};

use super::program::Site;

/// How many tasks of each name wait for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites(BTreeMap<(String, String), u32>);

/// A site as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    task: String,
    waits_for: String,
    count: u32,
}

/// The words for a wait reason. Those of a once are its own here: the programs tell it from a mutex.
pub fn words(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Once => "once",
        reason => reason.as_str(),
    }
}

impl Sites {
    /// The sites of so many instances.
    pub fn of(sites: &[Site], instances: u32) -> Self {
        let mut all = Self::default();
        for Site(task, waits_for, count) in sites {
            all.add((*task).to_owned(), words(*waits_for).to_owned(), count * instances);
        }
        all
    }

    fn add(&mut self, task: String, waits_for: String, count: u32) {
        if count > 0 {
            *self.0.entry((task, waits_for)).or_default() += count;
        }
    }

    /// How many tasks.
    pub fn total(&self) -> u32 {
        self.0.values().sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a task runs, will run, or sleeps.
    pub fn is_busy(&self) -> bool {
        let busy = ["runnable", "running", WaitReason::Sleep.as_str()];
        self.0.keys().any(|(_, state)| busy.contains(&state.as_str()))
    }

    fn zip(&self, other: &Self, count: impl Fn(u32, u32) -> u32) -> Self {
        let mut result = Self::default();
        for (key, &mine) in &self.0 {
            let theirs = other.0.get(key).copied().unwrap_or(0);
            result.add(key.0.clone(), key.1.clone(), count(mine, theirs));
        }
        result
    }

    /// What is here and not there.
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, u32::saturating_sub)
    }

    /// What is in both.
    pub fn common(&self, other: &Self) -> Self {
        self.zip(other, u32::min)
    }

    /// What is in either, counts added.
    pub fn plus(mut self, other: Self) -> Self {
        for ((task, waits_for), count) in other.0 {
            self.add(task, waits_for, count);
        }
        self
    }

    /// Whether all of it is in the other.
    pub fn within(&self, other: &Self) -> bool {
        self.minus(other).is_empty()
    }

    /// As it is written.
    pub fn counted(&self) -> Vec<Counted> {
        let counted = |((task, waits_for), &count): (&(String, String), &u32)| Counted {
            task: task.clone(),
            waits_for: waits_for.clone(),
            count,
        };
        self.0.iter().map(counted).collect()
    }
}

impl FromIterator<(String, TaskState)> for Sites {
    fn from_iter<I: IntoIterator<Item = (String, TaskState)>>(tasks: I) -> Self {
        let mut all = Self::default();
        for (task, state) in tasks {
            let state = match state {
                TaskState::Waiting(reason) => words(reason),
                TaskState::Runnable => "runnable",
                TaskState::Running => "running",
            };
            all.add(task, state.to_owned(), 1);
        }
        all
    }
}

impl FromIterator<Counted> for Sites {
    fn from_iter<I: IntoIterator<Item = Counted>>(sites: I) -> Self {
        let mut all = Self::default();
        for Counted { task, waits_for, count } in sites {
            all.add(task, waits_for, count);
        }
        all
    }
}

impl fmt::Display for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (at, ((task, waits_for), count)) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let name = if task.is_empty() { "(no name)" } else { task };
            match count {
                1 => write!(f, "{comma}{name}: {waits_for}")?,
                count => write!(f, "{comma}{count} x {name}: {waits_for}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[Site] = &[Site("a", WaitReason::ChanSend, 2), Site("b", WaitReason::Once, 1)];

    #[test]
    fn what_is_common_and_what_is_not() {
        let (all, part) = (Sites::of(TWO, 2), Sites::of(TWO, 1));
        assert_eq!((all.total(), all.to_string().as_str()), (6, "4 x a: chan send, 2 x b: once"));
        assert!(part.within(&all) && !all.within(&part));
        assert_eq!(all.minus(&part), part);
        assert_eq!(all.common(&part), part);
        assert_eq!(part.clone().plus(part), all);
        assert_eq!(Sites::default().to_string(), "none");
    }

    #[test]
    fn written_and_read_again() {
        let all = Sites::of(TWO, 3);
        assert_eq!(all.counted().into_iter().collect::<Sites>(), all);
    }
}
