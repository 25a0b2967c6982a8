//! The run queue of the tasks that are pinned to a worker. Any thread appends, the worker alone takes.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use crate::task::{
    chain::{Batch, Queue},
    control::Control,
};

pub(crate) struct Pinned {
    /// To be looked at without the lock.
    length: AtomicUsize,
    /// Guards the queue and the links of the tasks in it.
    queue: Mutex<Queue>,
}

impl Pinned {
    pub(crate) const fn new() -> Self {
        Self { length: AtomicUsize::new(0), queue: Mutex::new(Queue::new()) }
    }

    pub(crate) fn push(&self, task: NonNull<Control>) {
        let mut queue = self.queue.lock();
        Batch::link([task]).into_iter().for_each(|batch| queue.push_newest(batch));
        // Relaxed: `Idle::notify_worker` has a fence after every push.
        self.length.store(queue.length(), Ordering::Relaxed);
    }

    pub(crate) fn pop(&self) -> Option<NonNull<Control>> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.queue.lock();
        let task = queue.pop_oldest_block();
        self.length.store(queue.length(), Ordering::Relaxed);
        task
    }

    /// An instant's answer. Before the worker sleeps it comes after the fence in `Idle::enter`, which pairs with that in
    /// `Idle::notify_worker`.
    pub(crate) fn is_empty(&self) -> bool {
        self.length() == 0
    }

    /// How many tasks are queued.
    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }
}
