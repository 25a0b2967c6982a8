//! Several detections, and what all of them say.
//!
//! Each report alone is a claim that holds for ever, so nothing is gained if the detector is right. It is for those who want to
//! see that it is: a task that one pass reports and the next does not is a fault of the detector.

use std::collections::HashSet;

use greenprof_runtime::{heap, task::TaskId};

use super::{Options, deadlock, report::Report};

/// More than anybody needs.
pub(super) const MOST: u32 = 100;

/// The number of passes that the options ask for.
pub(super) fn count(options: &Options) -> u32 {
    options.passes.clamp(1, MOST)
}

/// Keeps of a report what an earlier one has, too.
pub(super) fn agree(earlier: &Report, later: &mut Report) {
    heap::untracked(|| keep_common(earlier, later));
}

fn keep_common(earlier: &Report, later: &mut Report) {
    let known: HashSet<TaskId> = earlier.tasks.iter().map(super::Leak::id).collect();
    let before = later.tasks.len();
    later.tasks.retain(|leak| known.contains(&leak.id()));
    if later.tasks.len() < before {
        // Who was left out may have been part of a circle.
        later.deadlocks = deadlock::find(&mut later.tasks);
    }
    later.passes = earlier.passes + 1;
    // If one pass was not certain, what they agree on is not either.
    later.incomplete = earlier.incomplete.clone().or(later.incomplete.take());
}
