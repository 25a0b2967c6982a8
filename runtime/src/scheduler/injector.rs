//! The global run queue: for tasks made runnable outside the runtime's workers, and for what overflows a local ring.
//!
//! Lists through the control blocks themselves, so queueing never allocates. There are two: tasks that a timer has woken
//! go before the others, because being late is what their waiting would add to, and each has waited already. So that a
//! program which sleeps all the time still starts new tasks, every so often it is the others' turn.

use std::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use crate::task::control::Control;

pub(crate) struct Injector {
    /// The length of both lists, to be looked at without the lock.
    length: AtomicUsize,
    /// Guards the lists and the links of the tasks in them.
    lists: Mutex<Lists>,
}

/// How many tasks in a row are taken from the first list while there are others: they get at least a share of 1 in 8.
const FIRST_CAP: u32 = 7;

struct Lists {
    first: List,
    others: List,
    /// Tasks taken from the first list since one was taken from the others.
    first_runs: u32,
}

impl Lists {
    fn pop(&mut self) -> Option<NonNull<Control>> {
        if self.first_runs < FIRST_CAP
            && let Some(task) = self.first.pop()
        {
            self.first_runs += 1;
            return Some(task);
        }
        self.first_runs = 0;
        self.others.pop().or_else(|| self.first.pop())
    }
}

/// The first and the last of a list linked through `Control::next`.
struct List {
    head: *mut Control,
    tail: *mut Control,
}

// SAFETY: only reached through the mutex; control blocks are never unmapped.
unsafe impl Send for List {}

impl List {
    const fn new() -> Self {
        Self { head: ptr::null_mut(), tail: ptr::null_mut() }
    }

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
        let lists = Lists { first: List::new(), others: List::new(), first_runs: 0 };
        Self { length: AtomicUsize::new(0), lists: Mutex::new(lists) }
    }

    /// An instant's answer.
    pub(crate) fn is_empty(&self) -> bool {
        // SeqCst: part of the last look of a worker before it sleeps; pairs with the fence in `Idle::notify`.
        self.length.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = NonNull<Control>>) {
        self.append(&mut self.lists.lock().others, tasks);
    }

    /// Queues tasks before those of `push`.
    pub(crate) fn push_first(&self, tasks: impl IntoIterator<Item = NonNull<Control>>) {
        self.append(&mut self.lists.lock().first, tasks);
    }

    fn append(&self, list: &mut List, tasks: impl IntoIterator<Item = NonNull<Control>>) {
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
        let mut lists = self.lists.lock();
        let first = lists.pop()?;
        let mut count = 1;
        while count < most
            && let Some(task) = lists.pop()
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn woken_by_timers_come_first_and_starve_nobody() {
        let mut blocks: Vec<Box<std::mem::MaybeUninit<Control>>> = (0..40).map(|_| Box::new_uninit()).collect();
        let tasks: Vec<NonNull<Control>> = blocks
            .iter_mut()
            .map(|block| {
                let at = NonNull::from(&mut **block).cast();
                // SAFETY: fresh memory of the right size and alignment.
                unsafe { Control::init(at, 0, 0) };
                at
            })
            .collect();
        let injector = Injector::new();
        injector.push(tasks[..10].iter().copied());
        injector.push_first(tasks[10..].iter().copied());
        let mut order = vec![injector.pop(3, |_| {}).unwrap()];
        assert_eq!(injector.length(), 37);
        assert_eq!(order[0], tasks[10]);
        order.extend(std::iter::from_fn(|| injector.pop(1, |_| {})));
        assert!(injector.is_empty());
        let place = |task| order.iter().position(|t| *t == task).unwrap();
        assert!(place(tasks[0]) > place(tasks[13]), "the woken are first");
        assert!(place(tasks[0]) < place(tasks[20]), "but not all of them");
        assert!(tasks[..10].is_sorted_by_key(|t| place(*t)), "each list is first in, first out");
    }
}
