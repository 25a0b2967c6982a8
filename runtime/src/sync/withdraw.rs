//! Taking a waiter out of its queue on behalf of its task, which is held still and will unwind (`task/reclaim.rs`).
//!
//! It is what a wait with a timeout does for itself when its time is over, done by somebody else: under the primitive's lock, and
//! only if no waker has taken the waiter out before. A waker and a withdrawal so exclude each other, as two wakers do.
//!
//! Locks have to be put in order afterwards ([`settle`]): who unlocks looks at a bit that says whether somebody waits, and
//! readers may have waited only because a writer did. That is a step of its own, so that of several tasks that are
//! reclaimed together all are out of their queues before anybody is let in.

use super::{
    core::{self, Core, Kind},
    lock::{ExclusiveLock, SharedLock},
    mutex, raw, rwlock,
    waiter::Waiter,
};

/// A core that must be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unsettled(u32);

/// How a withdrawal has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// The waiter is in no queue, or, if it is one of a select, in no queue that anybody takes it from.
    Done(Option<Unsettled>),
    /// A waker was faster, and goes on to wake the task.
    Late,
}

/// Takes a waiter out.
///
/// # Safety
/// Its task must be seized, and wait on it.
pub(crate) unsafe fn withdraw(waiter: &Waiter) -> Withdrawal {
    if let Some(race) = waiter.race() {
        // Whoever meets its waiters from now on passes over them, and the task takes them out when it unwinds.
        return if race.win() { Withdrawal::Done(None) } else { Withdrawal::Late };
    }
    let queue = waiter.queue();
    let Some(index) = core::index_at(queue as usize) else { return Withdrawal::Late };
    let core = core::core(index);
    core.lock();
    let kind = core.kind();
    // The waiter is on a stack that nobody runs on, so it is alive; but a waker may have taken it out before the lock was
    // ours. Where all are woken at once it is still told to be there, so the queue is searched.
    let queued = !queue.is_null()
        && waiter.queue() == queue
        && match kind {
            // SAFETY: the queue lies in the core, whose lock guards it.
            Some(Kind::WaitGroup | Kind::Condvar | Kind::Once) => unsafe { (*queue).contains(waiter) },
            Some(Kind::RwLock | Kind::RawRwLock) => shared(core, kind).is_some_and(|lock| lock.has_queued(waiter)),
            Some(_) => true,
            None => false,
        };
    if queued {
        if let Some(lock) = exclusive(core, kind) {
            lock.forgo(waiter);
        }
        if let Some(lock) = shared(core, kind) {
            lock.forgo(waiter);
        }
        // SAFETY: as above.
        unsafe { (*queue).remove(waiter) };
    }
    // SAFETY: locked above.
    unsafe { core.unlock() };
    if !queued {
        return Withdrawal::Late;
    }
    let is_lock = exclusive(core, kind).is_some() || shared(core, kind).is_some();
    Withdrawal::Done(is_lock.then_some(Unsettled(index)))
}

/// Puts a lock in order from which waiters were withdrawn. It must still exist: the tasks that waited for it have not run yet.
pub(crate) fn settle(Unsettled(index): Unsettled) {
    let core = core::core(index);
    core.lock();
    let kind = core.kind();
    if let Some(lock) = shared(core, kind) {
        return lock.settle(core);
    }
    if let Some(lock) = exclusive(core, kind) {
        lock.settle();
    }
    // SAFETY: locked above.
    unsafe { core.unlock() };
}

fn exclusive(core: &Core, kind: Option<Kind>) -> Option<&ExclusiveLock> {
    match kind? {
        // SAFETY: the core is in use, and of this kind; the state is shared through atomics and the core's lock.
        Kind::Mutex => Some(unsafe { &*core.body::<mutex::State>() }.lock()),
        // SAFETY: as above.
        Kind::RawMutex => Some(unsafe { &*core.body::<raw::Mutual>() }.lock()),
        _ => None,
    }
}

fn shared(core: &Core, kind: Option<Kind>) -> Option<&SharedLock> {
    match kind? {
        // SAFETY: as above.
        Kind::RwLock => Some(unsafe { &*core.body::<rwlock::State>() }.lock()),
        // SAFETY: as above.
        Kind::RawRwLock => Some(unsafe { &*core.body::<raw::ReadWrite>() }.lock()),
        _ => None,
    }
}
