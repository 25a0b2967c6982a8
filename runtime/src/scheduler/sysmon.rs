//! The monitor: a thread that sees which workers are stuck in a task, and calls surplus workers for them.
//!
//! It looks every 10 ms while anybody works. When all workers sleep it sleeps as well, without a timeout, and the first
//! worker that is woken wakes it ([`Dormancy`]), so an idle runtime uses no CPU.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::Shared;
use crate::sys::futex;

/// Between two looks. A worker that is in the same task at two of them is stuck.
const PERIOD: Duration = Duration::from_millis(10);

/// Whether the monitor sleeps until somebody works.
pub(crate) struct Dormancy(AtomicU32);

const AWAKE: u32 = 0;
const DORMANT: u32 = 1;

impl Dormancy {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(AWAKE))
    }

    /// To be called after a worker has left the list of sleepers.
    pub(crate) fn end(&self) {
        // SeqCst: pairs with the store in `monitor`: the monitor sees the worker, or the worker the dormant monitor.
        if self.0.load(Ordering::SeqCst) == DORMANT {
            self.wake();
        }
    }

    /// Wakes the monitor, whatever it waits for.
    pub(crate) fn wake(&self) {
        self.0.store(AWAKE, Ordering::SeqCst);
        futex::wake_one(self.0.as_ptr());
    }
}

/// The monitor's thread.
pub(crate) fn monitor(shared: &Arc<Shared>) {
    let dormancy = shared.idle.dormancy();
    let mut seen: Vec<Option<u32>> = Vec::new();
    while !shared.shutdown.load(Ordering::SeqCst) {
        look(shared, &mut seen);
        dormancy.0.store(DORMANT, Ordering::SeqCst);
        if everybody_sleeps(shared) {
            futex::wait(&dormancy.0, DORMANT, None);
        } else {
            // Not dormant, or every worker that wakes would wake this thread as well.
            dormancy.0.store(AWAKE, Ordering::SeqCst);
            futex::wait(&dormancy.0, AWAKE, Some(PERIOD));
        }
        dormancy.0.store(AWAKE, Ordering::SeqCst);
    }
}

/// Counts the workers that have been in one task since the last look.
fn look(shared: &Arc<Shared>, seen: &mut Vec<Option<u32>>) {
    seen.resize(shared.processors.len(), None);
    let mut stuck = 0;
    for (processor, seen) in shared.processors.iter().zip(seen) {
        // Relaxed: a moment's answer; what is wrong now is right at the next look.
        let running = processor.runs_a_task() && !processor.blocking.load(Ordering::Relaxed);
        let now = running.then(|| processor.ticks.load(Ordering::Relaxed));
        stuck += usize::from(now.is_some() && now == *seen);
        *seen = now;
    }
    // SeqCst: pairs with the look at `allowed` before a retirement.
    shared.surplus.stuck.store(stuck, Ordering::SeqCst);
    if shared.surplus.allowed() > 0 && (shared.has_work() || shared.has_next()) {
        shared.call_surplus();
    }
}

fn everybody_sleeps(shared: &Shared) -> bool {
    // SeqCst: as in `Dormancy::end`.
    let retired = shared.processors.iter().filter(|p| p.retired.load(Ordering::SeqCst) == 1).count();
    !shared.shutdown.load(Ordering::SeqCst) && shared.idle.sleeping() + retired == shared.processors.len()
}
