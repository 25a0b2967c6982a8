//! Pointers from the stack of one leaked task to that of another.
//!
//! Nothing live has a pointer to a leaked task's stack: it would have made the task live. Another leaked task may, if it borrows
//! what lies there. Code that lends what is on its stack has to see to it that a panic does not take it away, and scopes do;
//! whether other code does cannot be told from outside, so such a stack is left alone while whoever borrows is there.
//!
//! Words are taken conservatively: what looks like a pointer is one.

use std::{collections::HashMap, ops::Range};

use greenprof_runtime::task::TaskId;

/// For each task whose stack another one of them points to: one of those. The stacks must be held still.
pub(super) fn find(stacks: &[(TaskId, Range<usize>)]) -> HashMap<TaskId, TaskId> {
    let mut sorted: Vec<(Range<usize>, TaskId)> = stacks.iter().map(|(id, range)| (range.clone(), *id)).collect();
    sorted.sort_unstable_by_key(|(range, _)| range.start);
    let (Some(low), Some(high)) = (sorted.first().map(|(r, _)| r.start), sorted.last().map(|(r, _)| r.end)) else {
        return HashMap::new();
    };
    let mut found = HashMap::new();
    for (from, range) in stacks {
        let first = range.start.next_multiple_of(size_of::<usize>());
        for at in (first..range.end.saturating_sub(size_of::<usize>() - 1)).step_by(size_of::<usize>()) {
            // SAFETY: inside of the used part of the stack of a task that is held still.
            let word = unsafe { (at as *const usize).read_volatile() };
            if !(low..high).contains(&word) {
                continue;
            }
            let after = sorted.partition_point(|(range, _)| range.start <= word);
            if let Some((range, to)) = after.checked_sub(1).map(|at| &sorted[at])
                && range.contains(&word)
                && to != from
            {
                found.insert(*to, *from);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use greenprof_runtime::Runtime;

    use super::*;

    /// Numbers of tasks cannot be made up.
    fn ids() -> [TaskId; 2] {
        let runtime = Runtime::builder().workers(1).build().expect("a runtime");
        [(); 2].map(|()| runtime.handle().spawn(|| ()).expect("a task").id())
    }

    #[test]
    fn a_pointer_to_another_stack_is_found_and_one_to_the_own_is_not() {
        let [one, other] = ids();
        let (mut first, second) = (vec![0_usize; 16], vec![0_usize; 16]);
        let range = |words: &[usize]| words.as_ptr() as usize..words.as_ptr() as usize + size_of_val(words);
        let stacks = [(one, range(&first)), (other, range(&second))];
        assert!(find(&stacks).is_empty());
        first[3] = range(&first).start;
        assert!(find(&stacks).is_empty(), "its own");
        first[5] = range(&second).end;
        assert!(find(&stacks).is_empty(), "behind the end");
        first[15] = range(&second).start + 12;
        assert_eq!(find(&stacks), HashMap::from([(other, one)]));
    }
}
