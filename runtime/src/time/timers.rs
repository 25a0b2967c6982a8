//! The timers of a runtime: a heap of deadlines, and a thread that sleeps until the earliest.
//!
//! The thread is started with the first timer. It is not a worker, so timers fire while all workers are busy, and wakes
//! tasks through the injector.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    scheduler::Shared,
    sys::{clock, futex},
    task::parker::Parker,
};

pub(crate) struct Timers {
    /// Guards the heap and the thread's start and stop.
    state: Mutex<State>,
    /// Changes when the thread has to look at the heap again.
    changes: AtomicU32,
}

#[derive(Default)]
struct State {
    heap: BinaryHeap<Reverse<Entry>>,
    thread: Option<thread::JoinHandle<()>>,
    stopped: bool,
}

struct Entry {
    deadline: u64,
    parker: Parker,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.deadline.cmp(&other.deadline)
    }
}

/// Timers that are fired between two looks at the lock, so that a burst does not keep others from adding theirs.
const BATCH: usize = 64;

impl Timers {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::default()), changes: AtomicU32::new(0) }
    }

    /// Unparks `parker` at `deadline`, in nanoseconds of the monotonic clock.
    ///
    /// # Panics
    /// If the system has no thread for the timers.
    pub(crate) fn add(&self, shared: &Arc<Shared>, deadline: u64, parker: Parker) {
        let mut state = self.state.lock();
        if state.stopped {
            return; // the task is abandoned in its wait, like all others at a shutdown
        }
        let earliest = state.heap.peek().is_none_or(|Reverse(first)| deadline < first.deadline);
        state.heap.push(Reverse(Entry { deadline, parker }));
        if state.thread.is_none() {
            let shared = shared.clone();
            let thread = thread::Builder::new().name("greenprof-timer".into()).spawn(move || shared.timers.work());
            match thread {
                Ok(thread) => state.thread = Some(thread),
                Err(error) => {
                    drop(state);
                    panic!("no thread for the timers of this runtime: {error}");
                }
            }
        } else if earliest {
            drop(state);
            self.wake_thread();
        }
    }

    /// Ends the thread and waits for it. Timers that have not fired never will.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.heap.clear();
            state.thread.take()
        };
        self.wake_thread();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn wake_thread(&self) {
        // Release: pairs with the Acquire in `work`.
        self.changes.fetch_add(1, Ordering::Release);
        futex::wake_one(self.changes.as_ptr());
    }

    fn work(&self) {
        let mut due = Vec::with_capacity(BATCH);
        loop {
            // Acquire: pairs with the Release in `wake_thread`. Read before the heap: a timer added after the look at the
            // heap has changed it, and the futex does not sleep.
            let changes = self.changes.load(Ordering::Acquire);
            let now = clock::now();
            let mut state = self.state.lock();
            if state.stopped {
                return;
            }
            while due.len() < BATCH
                && state.heap.peek().is_some_and(|Reverse(first)| first.deadline <= now)
                && let Some(Reverse(entry)) = state.heap.pop()
            {
                due.push(entry.parker);
            }
            let next = state.heap.peek().map(|Reverse(first)| first.deadline);
            drop(state);
            let more = due.len() == BATCH;
            due.drain(..).for_each(Parker::unpark);
            if more {
                continue;
            }
            match next {
                Some(deadline) => {
                    let wait = deadline.saturating_sub(clock::now());
                    futex::wait(&self.changes, changes, Some(Duration::from_nanos(wait)));
                }
                None => futex::wait(&self.changes, changes, None),
            }
        }
    }
}
