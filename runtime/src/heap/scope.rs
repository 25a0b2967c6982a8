//! The untracked arena's scopes.
//!
//! The runtime and the profilers allocate memory of their own, which is not the program's: it is not counted, not sampled,
//! and no word of it keeps anything alive in a leak scan. Such memory comes from spans of its own. Whether a thread
//! allocates there is a flag of the *thread*, so a scope must not contain anything that waits: the task might continue on
//! a thread whose flag is different. Freeing needs no scope; a block knows where it belongs, and `realloc` leaves it there.

use std::marker::PhantomData;

use super::{cache::current_arena, local::local, span::Arena};

/// The calling thread allocates in another arena until this is dropped.
pub(super) struct Entered {
    before: Arena,
    /// Belongs to the thread.
    thread: PhantomData<*mut ()>,
}

impl Entered {
    pub(super) fn new(arena: Arena) -> Self {
        let before = current_arena();
        set(arena);
        Self { before, thread: PhantomData }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        set(self.before);
    }
}

fn set(arena: Arena) {
    let local = local();
    local.untracked.set(arena == Arena::Untracked);
    local.half.set(local.cache.get().half(arena));
}

/// Runs `work` with its allocations in the untracked arena. Scopes can be nested; a panic leaves them properly. Costs about
/// two nanoseconds.
///
/// `work` must not wait on anything of this crate, and must not call code of the program except through [`tracked`]: a
/// value of the program that lies in the untracked arena is invisible to a leak scan.
///
/// ```
/// use greenprof_runtime::heap;
///
/// let table = heap::untracked(|| Vec::<u64>::with_capacity(100));
/// drop(table); // anywhere
/// ```
pub fn untracked<R>(work: impl FnOnce() -> R) -> R {
    let _entered = Entered::new(Arena::Untracked);
    work()
}

/// Runs `work` with its allocations in the program's arena again, inside of an [`untracked`] scope; the same as calling it
/// outside of one. For calling the program's code.
///
/// ```
/// use greenprof_runtime::heap;
///
/// let made_by_the_program = || vec![1, 2, 3];
/// let length = heap::untracked(|| {
///     assert!(heap::in_untracked());
///     heap::tracked(|| made_by_the_program().len())
/// });
/// assert_eq!(length, 3);
/// ```
pub fn tracked<R>(work: impl FnOnce() -> R) -> R {
    let _entered = Entered::new(Arena::Tracked);
    work()
}

/// Whether the caller is inside of an [`untracked`] scope. A scheduler asserts that it is not when a task waits.
pub fn in_untracked() -> bool {
    local().untracked.get()
}
