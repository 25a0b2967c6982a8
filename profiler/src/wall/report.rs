//! From collected stacks to a profile.

use std::{fmt, time::Duration};

use super::{Capture, collector::Collected};
use crate::{
    profile::{LabelValue, Profile, ValueType},
    self_test,
};

/// What a wall-clock profile comes from. The same facts stand in the profile's comments.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Time between two looks that was asked for.
    pub period: Duration,
    /// How often the tasks were looked at.
    pub looks: u64,
    /// Periods in which nobody looked, because the thread got no processor. They are not in the profile.
    pub missed: u64,
    /// Tasks that were seen, in all looks together.
    pub seen: u64,
    /// Of these, running ones that did not tell their stack in time.
    pub without_stack: u64,
    /// How many they stand for.
    pub weight: u64,
    /// Of this, what has no stack because there were too many different ones.
    pub overflowed: u64,
}

impl Summary {
    fn lines(&self) -> [String; 3] {
        let tasks = self.weight as f64 / self.looks.max(1) as f64;
        [
            format!(
                "wall: {} looks {} ms apart, {} missed; {tasks:.1} tasks on average",
                self.looks,
                self.period.as_millis(),
                self.missed
            ),
            format!("samples: {} tasks seen, which stand for {}", self.seen, self.weight),
            format!("lost: {} running without a stack, {} beyond the table", self.without_stack, self.overflowed),
        ]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

fn text(key: &str, value: &str) -> (String, LabelValue) {
    (key.to_owned(), LabelValue::Str(value.to_owned()))
}

pub(super) fn build(collected: Collected) -> Capture {
    let period = i64::try_from(collected.period.as_nanos()).unwrap_or(i64::MAX);
    let types = vec![ValueType::new("samples", "count"), ValueType::new("wall", "nanoseconds")];
    let mut profile = Profile::new(types, ValueType::new("wall", "nanoseconds"), period);
    profile.time_nanos = collected.time_nanos;
    profile.duration_nanos = i64::try_from(collected.duration.as_nanos()).ok();
    let values = |weight: u64| {
        let weight = i64::try_from(weight).unwrap_or(i64::MAX);
        vec![weight, weight.saturating_mul(period)]
    };
    let mut weight = collected.overflowed;
    for (key, sum) in collected.stacks {
        weight += sum;
        let own = key.labels.labels();
        let mut labels: Vec<_> = own.iter().map(|(key, value)| text(key, value)).collect();
        let facts = [("state", Some(key.state)), ("wait_reason", key.wait_reason)];
        for (name, value) in facts.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            // A task's own label goes before a fact of the same name.
            if own.get(name).is_none() {
                labels.push(text(name, value));
            }
        }
        labels.sort();
        profile.push(key.stack, values(sum), labels);
    }
    profile.merge_equal();
    // The order of a hash table is nobody's business.
    profile.samples.sort_by(|a, b| b.values.cmp(&a.values).then_with(|| a.stack.cmp(&b.stack)));
    if collected.overflowed > 0 {
        profile.push(Vec::new(), values(collected.overflowed), vec![text("greenprof", "lost stacks")]);
    }
    let summary = Summary {
        period: collected.period,
        looks: collected.looks,
        missed: collected.missed,
        seen: collected.seen,
        without_stack: collected.without_stack,
        weight,
        overflowed: collected.overflowed,
    };
    let advice = self_test::missing_frame_pointers().map(str::to_owned);
    profile.comments = summary.lines().into_iter().chain(advice).map(|line| format!("greenprof {line}")).collect();
    Capture { profile, summary }
}
