//! The global run queue: for tasks made runnable outside the runtime's workers, and for what overflows a local ring.
//!
//! It consists of *batches*: chains of tasks linked through their control blocks, so queueing never allocates, and
//! whoever moves a batch holds the lock for a few stores only. There are three queues of them:
//!
//! - *Timed*: tasks that a timer has woken. They go before the others, because being late is what their waiting would
//!   add to, and each has waited already. First in, first out.
//! - *Started*: tasks that were woken or spawned outside the workers, or that have run before and overflowed a ring.
//!   First in, first out.
//! - *Fresh*: tasks that overflowed a ring and have never run. The newest batch goes first: so a program that spawns a
//!   tree of tasks walks it depth first, with some thousand stacks instead of one for each node, and under overload
//!   those that have just come are served soon instead of all being served late.
//!
//! Nobody starves: the timed leave the others one take of eight, the started and the fresh have turns, and the oldest
//! fresh task is taken once a tick of the coarse clock (4 ms at 250 Hz) however many newer ones there are.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use crate::{
    sys::{clock, memory},
    task::{
        chain::{Batch, Queue},
        control::Control,
    },
};

pub(crate) struct Injector {
    /// Tasks in all queues, to be looked at without the lock. Changes with the queues, under it.
    length: AtomicUsize,
    /// Guards the queues and the links of the tasks in them.
    queues: Mutex<Queues>,
}

/// How many takes in a row are from the timed while there are others.
const TIMED_CAP: u32 = 7;

struct Queues {
    timed: Queue,
    started: Queue,
    fresh: Queue,
    /// Takes from the timed since one from the others.
    timed_runs: u32,
    /// Whether the last take that could be from the started or the fresh was from the fresh.
    fresh_was_last: bool,
    /// When the oldest fresh task was taken last, by the coarse clock.
    oldest_taken: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Timed,
    Started,
    Fresh,
}

impl Queues {
    /// Whose turn it is. Not that of an empty queue, unless all are.
    fn turn(&mut self) -> Turn {
        let others = self.started.length() + self.fresh.length() > 0;
        if self.timed.length() > 0 && (!others || self.timed_runs < TIMED_CAP) {
            self.timed_runs += 1;
            return Turn::Timed;
        }
        self.timed_runs = 0;
        self.fresh_was_last = self.fresh.length() > 0 && (self.started.length() == 0 || !self.fresh_was_last);
        if self.fresh_was_last { Turn::Fresh } else { Turn::Started }
    }

    /// One task. `now` is the coarse clock's time.
    fn pop(&mut self, now: u64) -> Option<NonNull<Control>> {
        if self.fresh.length() > 0 && now != self.oldest_taken {
            self.oldest_taken = now;
            return self.fresh.pop_oldest_block();
        }
        match self.turn() {
            Turn::Timed => self.timed.pop_oldest_block(),
            _ => self.started.pop_oldest_block(),
        }
    }

    /// Batches of one queue: the newest if they are fresh, else the oldest, of as many tasks as are one of `parts` equal
    /// parts of the queue, but at most `most` and part of a batch more.
    fn take(&mut self, parts: usize, most: usize) -> Option<Batch> {
        let queue = match self.turn() {
            Turn::Fresh => return self.fresh.pop_newest(),
            Turn::Timed => &mut self.timed,
            Turn::Started => &mut self.started,
        };
        let share = (queue.length() / parts + 1).min(most);
        let mut taken = queue.pop_oldest()?;
        while taken.length() < share
            && let Some(batch) = queue.pop_oldest()
        {
            taken = taken.followed_by(batch);
        }
        Some(taken)
    }
}

impl Injector {
    pub(crate) fn new() -> Self {
        let queues = Queues {
            timed: Queue::new(),
            started: Queue::new(),
            fresh: Queue::new(),
            timed_runs: 0,
            fresh_was_last: false,
            oldest_taken: 0,
        };
        Self { length: AtomicUsize::new(0), queues: Mutex::new(queues) }
    }

    /// An instant's answer.
    pub(crate) fn is_empty(&self) -> bool {
        // SeqCst: part of the last look of a worker before it sleeps; pairs with the fence in `Idle::notify`.
        self.length.load(Ordering::SeqCst) == 0
    }

    /// How many tasks are queued, roughly.
    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Queues tasks that have been woken or spawned outside the workers, or that have run before.
    pub(crate) fn push_started(&self, batch: Batch) {
        let mut queues = self.queues.lock();
        queues.started.push_newest(batch);
        // Relaxed, here and below: `notify` has a fence after every push.
        self.length.fetch_add(batch.length(), Ordering::Relaxed);
    }

    /// Queues tasks that a timer has woken.
    pub(crate) fn push_timed(&self, batch: Batch) {
        let mut queues = self.queues.lock();
        queues.timed.push_newest(batch);
        self.length.fetch_add(batch.length(), Ordering::Relaxed);
    }

    /// Queues what a ring had no room for.
    pub(crate) fn push_spilled(&self, tasks: &[*mut Control]) {
        let mut order = [NonNull::dangling(); super::queue::CAPACITY / 2];
        let (mut fresh, mut started) = (0, order.len());
        // One pass: the fresh to the front, the started to the back, in reverse.
        for task in tasks.iter().copied().filter_map(NonNull::new) {
            // SAFETY: control blocks are never unmapped.
            if unsafe { task.as_ref() }.is_fresh() {
                order[fresh] = task;
                fresh += 1;
            } else {
                started -= 1;
                order[started] = task;
            }
        }
        let fresh = Batch::link(order[..fresh].iter().copied());
        let started = Batch::link(order[started..].iter().rev().copied());
        let mut queues = self.queues.lock();
        if let Some(batch) = fresh {
            queues.fresh.push_newest(batch);
        }
        if let Some(batch) = started {
            queues.started.push_newest(batch);
        }
        let count = [fresh, started].iter().flatten().map(|batch| batch.length()).sum();
        self.length.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes one task, of those that have waited longest.
    pub(crate) fn pop(&self) -> Option<NonNull<Control>> {
        if self.is_empty() {
            return None;
        }
        let mut queues = self.queues.lock();
        let task = queues.pop(clock::coarse())?;
        self.length.fetch_sub(1, Ordering::Relaxed);
        Some(task)
    }

    /// Takes a batch, or several that are one of `parts` equal parts of what waits, `most` tasks and a batch at the most.
    /// The first task is returned, the others are given to `more`.
    pub(crate) fn take(
        &self,
        parts: usize,
        most: usize,
        mut more: impl FnMut(NonNull<Control>),
    ) -> Option<NonNull<Control>> {
        if self.is_empty() {
            return None;
        }
        let mut queues = self.queues.lock();
        let batch = queues.take(parts, most)?;
        self.length.fetch_sub(batch.length(), Ordering::Relaxed);
        drop(queues);
        let (first, rest) = batch.split();
        for task in rest.into_iter().flatten() {
            // SAFETY: control blocks are never unmapped.
            let block = unsafe { task.as_ref() };
            // Where the task continues, which it will do soon. Its block has been fetched by who walks the chain.
            memory::prefetch(block.sp.load(Ordering::Relaxed));
            more(task);
        }
        Some(first)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::{mem::MaybeUninit, ptr};

    struct Blocks {
        memory: *mut [MaybeUninit<Control>],
        tasks: Vec<NonNull<Control>>,
    }

    impl Drop for Blocks {
        fn drop(&mut self) {
            // SAFETY: made from a box, and nobody has the tasks any more.
            drop(unsafe { Box::from_raw(self.memory) });
        }
    }

    /// Blocks of tasks that have never run, but for the first `started`.
    fn blocks(count: usize, started: usize) -> Blocks {
        let memory = Box::into_raw(Box::new_uninit_slice(count));
        let task = |i: usize| {
            // SAFETY: inside the memory just made, which is known to nobody else and of the right size and alignment.
            unsafe {
                let at = NonNull::new_unchecked(memory.cast::<Control>().add(i));
                Control::init(at, 0, 0);
                at.as_ref().entry.store(ptr::dangling_mut(), Ordering::Relaxed);
                if i < started {
                    at.as_ref().take_entry();
                }
                at
            }
        };
        Blocks { memory, tasks: (0..count).map(task).collect() }
    }

    fn spill(injector: &Injector, tasks: &[NonNull<Control>]) {
        injector.push_spilled(&tasks.iter().map(|task| task.as_ptr()).collect::<Vec<_>>());
    }

    fn take(injector: &Injector) -> Vec<NonNull<Control>> {
        let mut rest = Vec::new();
        let first = injector.take(1, 128, |task| rest.push(task));
        first.into_iter().chain(rest).collect()
    }

    #[test]
    fn woken_by_timers_come_first_and_starve_nobody() {
        let blocks = blocks(40, 40);
        let (outside, timed) = blocks.tasks.split_at(10);
        let injector = Injector::new();
        outside.iter().for_each(|task| injector.push_started(Batch::link([*task]).unwrap()));
        injector.push_timed(Batch::link(timed.iter().copied()).unwrap());
        let order: Vec<_> = std::iter::from_fn(|| injector.pop()).collect();
        assert!(injector.is_empty());
        assert_eq!(order.len(), 40);
        assert_eq!(order[..7], timed[..7], "the woken are first");
        assert_eq!(order[7], outside[0], "but not all of them");
        let place = |task| order.iter().position(|t| *t == task).unwrap();
        assert!([outside, timed].iter().all(|queue| queue.is_sorted_by_key(|t| place(*t))), "first in, first out");
    }

    #[test]
    fn of_fresh_tasks_the_newest_batch_goes_first_and_singly_the_oldest() {
        let blocks = blocks(40, 0);
        let injector = Injector::new();
        let batches: Vec<_> = blocks.tasks.chunks(10).collect();
        batches.iter().for_each(|batch| spill(&injector, batch));
        assert_eq!(take(&injector), batches[3]);
        let mut queues = injector.queues.lock();
        assert_eq!(queues.pop(7), Some(batches[0][0]));
        assert_eq!(queues.pop(7), None, "once a tick");
        assert_eq!(queues.pop(8), Some(batches[0][1]));
        drop(queues);
        assert_eq!(take(&injector), batches[2]);
        assert_eq!(take(&injector), batches[1]);
        assert_eq!(take(&injector), batches[0][2..]);
        assert!(take(&injector).is_empty() && !injector.is_empty(), "the length is the caller's of `Queues::pop`");
    }

    #[test]
    fn started_and_fresh_have_turns_and_nobody_is_lost() {
        let blocks = blocks(60, 20);
        let (started, fresh) = blocks.tasks.split_at(20);
        let injector = Injector::new();
        let mixed: Vec<_> = (0..20).flat_map(|i| [started[i], fresh[2 * i], fresh[2 * i + 1]]).collect();
        mixed.chunks(15).for_each(|batch| spill(&injector, batch));
        let mut takes = Vec::new();
        while !injector.is_empty() {
            takes.push(take(&injector));
        }
        assert!(takes[0].iter().all(|task| fresh.contains(task)));
        assert_eq!(takes[1], started, "all there are, in their order");
        let mut all = takes.concat();
        all.sort_unstable();
        let mut expected = blocks.tasks.clone();
        expected.sort_unstable();
        assert_eq!(all, expected);
    }
}
