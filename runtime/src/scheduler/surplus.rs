//! Surplus workers: stand-ins for workers whose thread is not theirs at the moment.
//!
//! A worker can be lost to the others in two ways. Its task says that it blocks the thread ([`blocking`]), or it just does
//! not leave: an endless loop, or a system call that takes long; `sysmon` notices that after 10 to 20 ms of CPU or of sleep. For each worker
//! that is lost one surplus worker may run. It has a processor of its own, steals what the lost worker has queued (the ring
//! and the next slot; nobody pushes there but the owner), and *retires* at the end of a task when it is not needed any more:
//! it gives its queue away and sleeps until it is. So as many workers as the runtime was built with make progress, more
//! or less, and threads are used again.
//!
//! Surplus workers have ranks from 0; the one with rank `r` may run while more than `r` workers are lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use parking_lot::Mutex;

use super::{Shared, worker::current_worker};
use crate::{hooks, sys::futex, task::control::TaskRef};

pub(crate) struct Surplus {
    /// Workers that were seen in one task for too long. Written by `sysmon`.
    pub(super) stuck: AtomicUsize,
    /// Workers in a blocking section.
    blocking: AtomicUsize,
    /// The threads of surplus workers. Guards their making.
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// How often a surplus worker was needed and could not be had.
    starved: AtomicU64,
}

impl Surplus {
    pub(crate) fn new() -> Self {
        Self {
            stuck: AtomicUsize::new(0),
            blocking: AtomicUsize::new(0),
            threads: Mutex::new(Vec::new()),
            starved: AtomicU64::new(0),
        }
    }

    /// How many surplus workers may run.
    pub(crate) fn allowed(&self) -> usize {
        // SeqCst: part of the look before a retirement; pairs with the stores before `call`.
        self.stuck.load(Ordering::SeqCst) + self.blocking.load(Ordering::SeqCst)
    }

    /// How often a surplus worker was needed while the bound on threads was reached or the system gave none.
    pub(crate) fn starved(&self) -> u64 {
        self.starved.load(Ordering::Relaxed)
    }

    /// Returns when the worker that is being made has been made.
    pub(super) fn wait_until_made(&self) {
        drop(self.threads.lock());
    }

    /// The threads, to be joined at the shutdown. No others are made afterwards, for the flag has been set.
    pub(crate) fn take_threads(&self) -> Vec<thread::JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock())
    }
}

impl Shared {
    /// Lets as many surplus workers run as may: wakes those that have retired, makes those that are missing.
    pub(crate) fn call_surplus(self: &Arc<Self>) {
        let ordinary = self.processors.ordinary();
        let allowed = self.surplus.allowed();
        for rank in 0..allowed {
            let index = ordinary + rank;
            if index < self.processors.len() {
                self.wake_retired(index);
            } else if !self.make_surplus(index) {
                // Relaxed: a statistic.
                self.surplus.starved.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }

    fn make_surplus(self: &Arc<Self>, index: usize) -> bool {
        let mut threads = self.surplus.threads.lock();
        if index < self.processors.len() {
            return true; // somebody else was faster
        }
        if self.shutdown.load(Ordering::SeqCst) {
            return true; // nobody is needed any more
        }
        let Some(index) = self.processors.prepare() else { return false };
        // The system may refuse now and grant later: the processor counts only when it has a thread.
        let Ok(thread) = self.start_worker(index) else { return false };
        self.processors.add_prepared();
        threads.push(thread);
        true
    }

    /// Wakes a surplus worker that has retired.
    pub(crate) fn wake_retired(&self, index: usize) {
        let retired = &self.processors.get(index).retired;
        // SeqCst: pairs with the retirement; see `Worker::retire`.
        if retired.swap(0, Ordering::SeqCst) == 1 {
            futex::wake_one(retired);
        }
    }
}

/// Runs code that blocks its thread: a system call, a lock of another library, a long computation. The other tasks of the
/// worker go on meanwhile on another thread.
///
/// Without it they go on as well, after the 10 to 20 ms that it takes to notice. On a thread that runs no task it just
/// runs the code. The code should not wait on primitives of this crate: it may, but then it is not blocking.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{Runtime, spawn, task};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let other = spawn(|| 42);
///     // The only worker is blocked; another thread runs the other task meanwhile.
///     task::blocking(|| while !other.is_finished() { std::thread::sleep(Duration::from_millis(1)) });
///     assert_eq!(other.join().unwrap(), 42);
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn blocking<T>(code: impl FnOnce() -> T) -> T {
    /// Ends the section also when the code panics.
    struct Section {
        shared: Arc<Shared>,
        index: usize,
    }

    impl Drop for Section {
        fn drop(&mut self) {
            hooks::blocking_ended(current_task);
            // Relaxed: read by `sysmon`, whose answer is a moment's.
            self.shared.processors.get(self.index).blocking.store(false, Ordering::Relaxed);
            self.shared.surplus.blocking.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[inline(never)]
    fn enter() -> Option<Section> {
        let worker = current_worker().filter(|worker| worker.task().is_some())?;
        let section = Section { shared: worker.shared_arc().clone(), index: worker.index() };
        hooks::blocking_began(current_task);
        let shared = &section.shared;
        shared.processors.get(section.index).blocking.store(true, Ordering::Relaxed);
        shared.surplus.blocking.fetch_add(1, Ordering::SeqCst);
        // Somebody has to take over, unless there is nothing to do and others are there to do what comes.
        if shared.has_work() || shared.has_next() || shared.idle.sleeping() == 0 {
            shared.call_surplus();
        }
        Some(section)
    }

    fn current_task() -> Option<TaskRef> {
        current_worker().and_then(|worker| worker.task())
    }

    let _section = enter();
    code()
}
