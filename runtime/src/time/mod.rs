//! Waiting for time to pass.

mod timers;

use std::time::Duration;

pub(crate) use timers::Timers;

use crate::{
    hooks,
    scheduler::current_worker,
    sys::clock,
    task::{WaitReason, parker::Parker},
};

/// Waits for at least `duration`. A task leaves its worker to others meanwhile; a plain OS thread blocks.
///
/// A task that is woken has to wait for a worker like any other, so the wait is longer on a busy runtime.
pub fn sleep(duration: Duration) {
    let worker = current_worker().filter(|worker| worker.task().is_some());
    let Some(worker) = worker else {
        return std::thread::sleep(duration);
    };
    if duration.is_zero() {
        return;
    }
    let parker = Parker::current();
    let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let deadline = clock::now().saturating_add(nanoseconds);
    worker.shared().timers.add(worker.shared_arc(), deadline, parker);
    let wait = hooks::wait_begin();
    while clock::now() < deadline {
        parker.park(WaitReason::Sleep);
    }
    hooks::wait_end(wait, WaitReason::Sleep);
}
