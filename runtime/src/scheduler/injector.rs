//! The global run queue: for tasks made runnable outside the runtime's workers, and for what overflows a local ring.
//!
//! A list through the control blocks themselves, so queueing never allocates.

use std::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use crate::task::control::Control;

pub(crate) struct Injector {
    /// The length of `list`, to be looked at without the lock.
    length: AtomicUsize,
    list: Mutex<List>,
}

/// The first and the last of a list linked through `Control::next`.
struct List {
    head: *mut Control,
    tail: *mut Control,
}

// SAFETY: only reached through the mutex; control blocks are never unmapped.
unsafe impl Send for List {}

impl List {
    fn append(&mut self, task: NonNull<Control>) {
        // SAFETY: a runnable task's block; whoever made it runnable owns the link. Relaxed: the mutex orders it.
        unsafe { task.as_ref() }.next.store(ptr::null_mut(), Ordering::Relaxed);
        match NonNull::new(self.tail) {
            // SAFETY: the block is in the list, so its link belongs to the list.
            Some(tail) => unsafe { tail.as_ref() }.next.store(task.as_ptr(), Ordering::Relaxed),
            None => self.head = task.as_ptr(),
        }
        self.tail = task.as_ptr();
    }

    fn pop(&mut self) -> Option<NonNull<Control>> {
        let task = NonNull::new(self.head)?;
        // SAFETY: as in `append`.
        self.head = unsafe { task.as_ref() }.next.load(Ordering::Relaxed);
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        Some(task)
    }
}

impl Injector {
    pub(crate) fn new() -> Self {
        let list = List { head: ptr::null_mut(), tail: ptr::null_mut() };
        Self { length: AtomicUsize::new(0), list: Mutex::new(list) }
    }

    /// An instant's answer.
    pub(crate) fn is_empty(&self) -> bool {
        // SeqCst: part of the last look of a worker before it sleeps; pairs with the fence in `Idle::notify`.
        self.length.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = NonNull<Control>>) {
        let mut list = self.list.lock();
        let mut count = 0;
        for task in tasks {
            list.append(task);
            count += 1;
        }
        // Relaxed: `notify` has a fence after every push.
        self.length.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes up to `most` tasks: the first is returned, the others are given to `more`, all under one lock.
    pub(crate) fn pop(&self, most: usize, mut more: impl FnMut(NonNull<Control>)) -> Option<NonNull<Control>> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.list.lock();
        let first = list.pop()?;
        let mut count = 1;
        while count < most
            && let Some(task) = list.pop()
        {
            more(task);
            count += 1;
        }
        self.length.fetch_sub(count, Ordering::Relaxed);
        Some(first)
    }

    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }
}
