//! Where the calling code stands: its stack, walked outwards, and its labels. For instruments that are called by the
//! code they watch, such as the hooks of [`heap::sampling`](crate::heap::sampling).
//!
//! Nothing here allocates in the program's heap, locks, or needs a thread-local with a destructor, so it may be called
//! anywhere, also while a thread ends.

use std::{
    cell::Cell,
    ops::{ControlFlow, Range},
};

use super::unwind::{self, WalkEnd};
use crate::{
    labels::{self, LabelSet},
    scheduler::current_worker,
    sys::{errno, thread},
};

/// Whose code it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The labels of the task, or of a thread that runs none.
    pub labels: LabelSet,
    /// Whether the walk came to the outermost frame.
    pub end: WalkEnd,
}

/// Gives the return addresses of the calling function's callers to `emit`, innermost first; the calling function itself
/// is not among them if this is inlined into it, as it is meant to be. Reads only inside the bounds of the stack that
/// the caller is on: that of its task, or the thread's own. On any other stack, as that of a signal handler, there are
/// no addresses.
///
/// Costs some 10 ns and 1 to 2 ns a frame; the first call on a thread that is no worker asks the system for its stack,
/// which takes some microseconds.
///
/// ```
/// use std::ops::ControlFlow;
/// use greenprof_runtime::{labels, world::caller};
///
/// let mut addresses = Vec::new();
/// let caller = labels::with(&[("tenant", "acme")], || {
///     caller::walk(|address| {
///         addresses.push(address);
///         ControlFlow::Continue(())
///     })
/// });
/// assert_eq!(caller.labels.labels().get("tenant"), Some("acme"));
/// ```
#[inline(always)]
pub fn walk(emit: impl FnMut(usize) -> ControlFlow<()>) -> Caller {
    let frame_pointer = unwind::frame_pointer();
    let (bounds, labels) = place(frame_pointer);
    // SAFETY: the bounds are those of the stack that this runs on, from here up.
    let end = unsafe { unwind::walk(frame_pointer, &bounds, emit) };
    Caller { labels, end }
}

/// The part of the stack that contains `at`, from there up, and the labels of what runs on it. Never inlined: it reads
/// thread-locals, whose addresses must not be kept across a switch.
#[inline(never)]
fn place(at: usize) -> (Range<usize>, LabelSet) {
    let Some(worker) = current_worker() else {
        return (from(at, own_stack()), labels::current_set());
    };
    let worker = worker.thread();
    match worker.task() {
        Some(task) if task.stack.contains(&at) => (from(at, task.stack), task.labels),
        _ => (from(at, worker.stack()), LabelSet::default()),
    }
}

fn from(at: usize, stack: Range<usize>) -> Range<usize> {
    if stack.contains(&at) { at..stack.end } else { 0..0 }
}

/// The stack of a thread that is no worker, asked for once.
fn own_stack() -> Range<usize> {
    thread_local! {
        static OWN: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
    }
    let (start, end) = OWN.get().unwrap_or_else(|| {
        let bounds = errno::preserved(thread::stack_bounds);
        OWN.set(Some((bounds.start, bounds.end)));
        (bounds.start, bounds.end)
    });
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn stack() -> (Vec<usize>, Caller) {
        let mut found = Vec::new();
        let caller = walk(|address| {
            found.push(address);
            if found.len() < 64 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        (found, caller)
    }

    #[test]
    fn a_thread_and_a_task_know_their_callers_and_labels() {
        let here = a_thread_and_a_task_know_their_callers_and_labels as fn() as usize;
        let near = |stack: &[usize]| stack.iter().take(3).any(|address| (here..here + 65_536).contains(address));
        let (found, caller) = labels::with(&[("caller", "thread")], stack);
        assert!(found.len() > 2 && near(&found), "{found:x?}");
        assert_eq!(caller.labels.labels().get("caller"), Some("thread"));

        let runtime = crate::Runtime::builder().workers(1).build().unwrap();
        let (found, caller) = runtime.run(|| labels::with(&[("caller", "task")], stack));
        assert!(!found.is_empty());
        assert_eq!(caller.end, WalkEnd::Root, "{found:x?}");
        assert_eq!(caller.labels.labels().get("caller"), Some("task"));
    }
}
