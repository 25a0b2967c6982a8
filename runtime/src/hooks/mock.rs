//! The instrumentation points of a build without hooks: nothing.

use super::{InstallError, Instrument, Interest, WorkerThread};
use crate::{
    scheduler::Departure,
    task::{WaitReason, control::TaskRef, parker::Parker},
};

/// An instrument that is installed; never, in this build.
#[must_use]
pub struct Installed(std::convert::Infallible);

/// Installs an instrument for the whole process; in this build it cannot.
///
/// # Errors
/// [`InstallError::Disabled`].
pub fn install(_: &'static dyn Instrument, _: Interest) -> Result<Installed, InstallError> {
    Err(InstallError::Disabled)
}

#[inline(always)]
pub(crate) fn task_spawned(_: TaskRef) {}
#[inline(always)]
pub(crate) fn task_resumed(_: impl Fn() -> TaskRef) {}
#[inline(always)]
pub(crate) fn task_left(_: impl Fn() -> TaskRef, _: Departure) {}
#[inline(always)]
pub(crate) fn task_woken(_: TaskRef) {}
#[inline(always)]
pub(crate) fn wait_begin(_: Parker, _: WaitReason) -> Option<u64> {
    None
}
#[inline(always)]
pub(crate) fn wait_end(_: Option<u64>, _: WaitReason) {}
#[inline(always)]
pub(crate) fn lock_clock(_: u64) -> u64 {
    0
}
#[inline(always)]
pub(crate) fn unlocked(_: Option<u64>) {}

#[inline(always)]
pub(crate) fn all_of(_: impl Iterator<Item = u64>) -> Option<u64> {
    None
}

/// What a lock's waiters have waited: nobody asks.
#[derive(Default)]
pub(crate) struct Delays {}

impl Delays {
    #[inline(always)]
    pub(crate) fn entered(&mut self, _: u64) {}
    #[inline(always)]
    pub(crate) fn left(&mut self, _: u64) {}
    #[inline(always)]
    pub(crate) fn charge(&mut self) -> Option<u64> {
        None
    }
}

#[inline(always)]
pub(crate) fn worker_started(_: &'static WorkerThread) {}
#[inline(always)]
pub(crate) fn worker_stopping(_: &'static WorkerThread) {}
#[inline(always)]
pub(crate) fn worker_searching(_: &'static WorkerThread) {}
#[inline(always)]
pub(crate) fn worker_sleeping(_: &'static WorkerThread) {}
#[inline(always)]
pub(crate) fn worker_woke(_: &'static WorkerThread) {}
#[inline(always)]
pub(crate) fn blocking_began(_: impl Fn() -> Option<TaskRef>) {}
#[inline(always)]
pub(crate) fn blocking_ended(_: impl Fn() -> Option<TaskRef>) {}
#[inline(always)]
pub(crate) fn labels_changed(_: TaskRef) {}
#[inline(always)]
pub(crate) fn world_stopping() {}
#[inline(always)]
pub(crate) fn world_released() {}
