//! The processors: what other threads see of each worker.
//!
//! The first ones belong to the runtime's ordinary workers and exist from the start. Further ones are made for surplus
//! workers, at most up to a bound, and stay: a table that only grows can be walked without a lock.

use std::{
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
};

use crossbeam_utils::CachePadded;

use super::{pinned::Pinned, queue::Ring};
use crate::{heap, sys::atomic, task::control::Control, world::WorkerThread};

/// The part of a worker that other threads see.
pub(crate) struct Processor {
    pub(crate) ring: Ring,
    /// The task woken last by the task that runs here: it runs next.
    pub(crate) next: AtomicPtr<Control>,
    /// Tasks that only this worker may run.
    pub(crate) pinned: Pinned,
    /// Grows with every task that is run. Written by the worker.
    pub(crate) ticks: AtomicU64,
    /// Written by the worker.
    pub(crate) spawned: AtomicU64,
    /// Written by the worker.
    pub(crate) finished: AtomicU64,
    /// Runs that ended because the task yielded. Written by the worker.
    pub(crate) yields: AtomicU64,
    /// How often tasks were taken from another worker. Written by the worker.
    pub(crate) steals: AtomicU64,
    /// Set while the task that runs here has said that it blocks its thread.
    pub(crate) blocking: AtomicBool,
    /// Of a surplus worker: 1 while it waits to be needed.
    pub(crate) retired: atomic::AtomicU32,
    /// The worker's thread, while there is one.
    thread: AtomicPtr<WorkerThread>,
}

impl Processor {
    fn new() -> Self {
        Self {
            ring: Ring::new(),
            next: AtomicPtr::new(ptr::null_mut()),
            pinned: Pinned::new(),
            ticks: AtomicU64::new(0),
            spawned: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            yields: AtomicU64::new(0),
            steals: AtomicU64::new(0),
            blocking: AtomicBool::new(false),
            retired: atomic::AtomicU32::new(0),
            thread: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(crate) fn set_thread(&self, thread: Option<&'static WorkerThread>) {
        // Relaxed: worker records are never freed, and what they say is a moment's answer.
        self.thread.store(thread.map_or(ptr::null_mut(), |t| ptr::from_ref(t).cast_mut()), Ordering::Relaxed);
    }

    /// The kernel's id of the worker's thread, if it has switched to a task.
    pub(crate) fn thread_in_task(&self) -> Option<i32> {
        // SAFETY: null, or a worker's record, which is never freed.
        let thread = unsafe { self.thread.load(Ordering::Relaxed).as_ref() }?;
        thread.task().map(|_| thread.thread_id())
    }
}

pub(crate) struct Processors {
    /// How many exist. They are made in the order of their indices.
    count: AtomicUsize,
    table: Box<[OnceLock<Box<CachePadded<Processor>>>]>,
    /// How many belong to ordinary workers.
    ordinary: usize,
}

impl Processors {
    /// `ordinary` processors, and room for `most` in all.
    pub(crate) fn new(ordinary: usize, most: usize) -> Self {
        let this = Self {
            count: AtomicUsize::new(0),
            table: (0..most.max(ordinary)).map(|_| OnceLock::new()).collect(),
            ordinary,
        };
        for _ in 0..ordinary {
            this.prepare();
            this.add_prepared();
        }
        this
    }

    /// Makes another one, which does not count yet, and gives its index. One caller at a time. Made once, however often
    /// it is prepared before it is added.
    pub(crate) fn prepare(&self) -> Option<usize> {
        let index = self.count.load(Ordering::Relaxed);
        self.table.get(index)?.get_or_init(|| heap::untracked(|| Box::new(CachePadded::new(Processor::new()))));
        Some(index)
    }

    /// Adds the one that was prepared last.
    pub(crate) fn add_prepared(&self) {
        // Release: pairs with the Acquire in `len`. One caller at a time, as above.
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn ordinary(&self) -> usize {
        self.ordinary
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, index: usize) -> &Processor {
        self.table[index].get().expect("a processor that exists")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Processor> {
        self.table[..self.len()].iter().filter_map(|slot| slot.get().map(|processor| &***processor))
    }
}
