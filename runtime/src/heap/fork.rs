//! Forking while other threads allocate.
//!
//! `fork` copies one thread and all locks. A lock that another thread holds at that moment is never released in the child,
//! so the forking thread takes all of them first, and both copies release them. A `Command` that has a `pre_exec` closure
//! forks, and the closure may allocate; without one, std uses `posix_spawn`, whose child does not allocate. Who calls
//! `vfork` or `clone` directly is not helped, as with any other allocator.
//!
//! The child's copies of the other threads' caches are nobody's: their blocks stay unused there.

use super::{cache::REGISTRY, central::central, pages::PAGE_HEAP, span::KINDS};

/// Has the system call us around every fork. Called once. (It takes memory from the C library, not from us.)
pub(super) fn register() {
    // SAFETY: three functions that live as long as the program. Without memory for it forking is as unsafe as without us.
    unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
}

/// The order is that of [`before`]: no thread that holds one of these takes an earlier one.
fn locks() -> impl Iterator<Item = &'static super::lock::RawLock> {
    [REGISTRY.raw()].into_iter().chain((0..KINDS).map(|kind| central(kind).raw())).chain([PAGE_HEAP.raw()])
}

extern "C" fn before() {
    locks().for_each(|lock| lock.lock());
}

extern "C" fn after() {
    locks().for_each(|lock| lock.unlock());
}
