//! The monitor: a thread that sees which workers are stuck in a task, and calls surplus workers for them.
//!
//! A worker is stuck when its thread has used 10 ms of CPU in one task, or sleeps in the kernel during it. That it has been in
//! the task for long is not enough: a thread that the system does not let run looks the same, and a stand-in for it would
//! only keep others from running.
//!
//! It looks every 10 ms while anybody works, and gives back the pages of stacks and of the heap that are not needed. When all
//! workers sleep it sleeps as well, without a timeout once no pages are left to be given back, and the first worker that is woken wakes
//! it ([`Dormancy`]): an idle runtime uses no CPU.

use std::{sync::Arc, time::Duration};

use super::Shared;
use crate::{
    heap,
    sys::{
        atomic::{AtomicU32, Ordering},
        clock, futex, thread,
    },
    task::stack::pool,
};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(10);

/// Between two looks at free stacks and free memory while everybody sleeps and there is more than need be kept.
const PATIENCE: Duration = Duration::from_millis(100);

/// CPU time in one task after which a worker is stuck.
const LONG: u64 = PERIOD.as_nanos() as u64;

/// A worker that ran a task at the last look.
#[derive(Clone, Copy)]
struct Seen {
    ticks: u64,
    /// CPU time of its thread when it was first seen in the task.
    cpu: u64,
}

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
        futex::wake_one(&raw const self.0);
    }
}

/// The monitor's thread.
pub(crate) fn monitor(shared: &Arc<Shared>) {
    let dormancy = shared.idle.dormancy();
    let mut seen = Vec::new();
    while !shared.shutdown.load(Ordering::SeqCst) {
        look(shared, &mut seen);
        pool::tend();
        heap::tend();
        dormancy.0.store(DORMANT, Ordering::SeqCst);
        if everybody_sleeps(shared) {
            let patience = (pool::has_excess() || heap::has_excess()).then_some(PATIENCE);
            futex::wait(&dormancy.0, DORMANT, patience);
        } else {
            // Not dormant, or every worker that wakes would wake this thread as well.
            dormancy.0.store(AWAKE, Ordering::SeqCst);
            futex::wait(&dormancy.0, AWAKE, Some(PERIOD));
        }
        dormancy.0.store(AWAKE, Ordering::SeqCst);
    }
}

/// Counts the workers that are stuck, and calls surplus workers if there is something for them to do.
fn look(shared: &Arc<Shared>, seen: &mut Vec<Option<Seen>>) {
    seen.resize(shared.processors.len(), None);
    let mut stuck = 0;
    for (processor, seen) in shared.processors.iter().zip(seen) {
        // Relaxed: a moment's answer; what is wrong now is right at the next look.
        let blocking = processor.blocking.load(Ordering::Relaxed);
        let thread = processor.thread_in_task().filter(|_| !blocking);
        let now = thread.and_then(|thread| {
            Some((thread, Seen { ticks: processor.ticks.load(Ordering::Relaxed), cpu: clock::thread_cpu(thread)? }))
        });
        *seen = match (now, *seen) {
            (Some((thread, now)), Some(before)) if now.ticks == before.ticks => {
                stuck += usize::from(now.cpu - before.cpu >= LONG || thread::sleeps(thread));
                Some(before)
            }
            (now, _) => now.map(|(_, now)| now),
        };
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
