//! Who sleeps and who searches: the protocol by which runnable tasks find workers and no wake-up is lost.
//!
//! A worker without work *searches* (looks at all queues), and then *sleeps*. Both numbers are in one word.
//!
//! 1. Whoever queues a task calls [`Idle::notify`] afterwards. If nobody searches and somebody sleeps, one sleeper is
//!    woken, and counts as searching from that moment: a burst of tasks wakes one worker, not all.
//! 2. A searcher that finds work and was the last one calls `notify` too: there may be more. So a burst wakes workers
//!    one after the other, as long as each finds something.
//! 3. A worker enters the list of sleepers *first* and looks at all queues once more *afterwards*.
//!
//! A task that only one worker may run is queued at that worker, which is woken if it is in the list
//! ([`Idle::notify_worker`]); it looks at that queue as well in step 3.
//!
//! Why nothing is lost: 1 is "queue, fence, look at the word"; 3 is "change the word, fence, look at the queues". In any
//! order of the two fences one of them sees the other: the queuer sees the sleeper and wakes it, or the sleeper sees the
//! task and stays up. A queuer that sees a searcher instead relies on it: the searcher has not made its step 3 yet.
//!
//! # Next slots
//!
//! A task in a worker's next slot is run by that worker, as soon as the task that runs there waits. That is mostly at once, and to wake
//! another worker for it would cost more than both tasks do. So while others work, a worker that has found nothing *naps* a few times
//! before it sleeps: it looks at the next slots after each nap, and nobody wakes it for them meanwhile. If it naps when the task is
//! put there, it looks later; if it has ended its nap, and said so in the order of sequentially consistent operations, the
//! queuer wakes somebody. Whoever does not nap because another does relies on that one in the same way.
//!
//! A task is put into a next slot by an exchange, which costs as much as a fence and makes it unneeded ([`Idle::notify_of_next`]): the
//! exchange, the look at the word after it, and the change of the word in 3 are sequentially consistent, so they have one order
//! that everybody agrees on. If the exchange comes before the change, it comes before the fence behind that, and the sleeper sees the
//! task; otherwise the queuer's look comes after the change.

use std::time::Duration;

use super::sysmon::Dormancy;
use crate::sys::{
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, full_fence},
    futex,
    lock::Mutex,
};

const SEARCHING: u64 = 1;
const SLEEPING: u64 = 1 << 32;

pub(crate) struct Idle {
    /// `sleeping << 32 | searching`.
    counts: AtomicU64,
    /// Indices of the workers that sleep; the last one in is the first to be woken. Guards the SLEEPING count as well.
    sleepers: Mutex<Vec<usize>>,
    beds: Box<[Bed]>,
    /// Whether a worker naps. SeqCst, all uses: see above.
    napping: AtomicBool,
    /// The number of ordinary workers.
    workers: usize,
    dormancy: Dormancy,
}

/// Where a worker sleeps.
struct Bed {
    /// 1 when a waker has taken the worker off the list and it has not noticed yet.
    woken: AtomicU32,
}

fn searching(counts: u64) -> u64 {
    counts % SLEEPING
}

/// Whether nobody searches, and somebody sleeps who could.
fn wants_one(counts: u64) -> bool {
    searching(counts) == 0 && counts >= SLEEPING
}

impl Idle {
    /// For so many ordinary workers, and so many threads at the most.
    pub(crate) fn new(workers: usize, most_threads: usize) -> Self {
        Self {
            counts: AtomicU64::new(0),
            sleepers: Mutex::new(Vec::with_capacity(workers)),
            beds: (0..most_threads.max(workers)).map(|_| Bed { woken: AtomicU32::new(0) }).collect(),
            napping: AtomicBool::new(false),
            workers,
            dormancy: Dormancy::new(),
        }
    }

    /// To be called after a task has been queued.
    #[inline]
    pub(crate) fn notify(&self) {
        // SeqCst fence: between the queueing and the look at the word; pairs with the fence in `enter`.
        full_fence();
        // Relaxed: behind the fence.
        if wants_one(self.counts.load(Ordering::Relaxed)) {
            self.wake_one();
        }
    }

    /// To be called after a task was put into an empty next slot by a SeqCst exchange.
    #[inline]
    pub(crate) fn notify_of_next(&self) {
        // Loom's SeqCst operations are weaker than the language's.
        if cfg!(loom) {
            full_fence();
        }
        // SeqCst: after the exchange, in the order of all.
        if wants_one(self.counts.load(Ordering::SeqCst)) && !self.napping.load(Ordering::SeqCst) {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        let worker = {
            let mut sleepers = self.sleepers.lock();
            if searching(self.counts.load(Ordering::Relaxed)) > 0 {
                return;
            }
            let Some(worker) = sleepers.pop() else { return };
            self.counts.fetch_sub(SLEEPING - SEARCHING, Ordering::SeqCst);
            worker
        };
        self.beds[worker].wake();
        self.dormancy.end();
    }

    /// To be called after a task has been queued that only `worker` may run.
    pub(crate) fn notify_worker(&self, worker: usize) {
        // SeqCst fence: as in `notify`.
        full_fence();
        if self.counts.load(Ordering::Relaxed) >= SLEEPING {
            self.wake(worker);
        }
    }

    /// Wakes a worker if it sleeps, or is about to.
    #[cold]
    fn wake(&self, worker: usize) {
        {
            let mut sleepers = self.sleepers.lock();
            let Some(at) = sleepers.iter().position(|w| *w == worker) else { return };
            sleepers.remove(at);
            self.counts.fetch_sub(SLEEPING - SEARCHING, Ordering::SeqCst);
        }
        self.beds[worker].wake();
        self.dormancy.end();
    }

    /// The sleep of the monitor that watches over the workers.
    pub(crate) fn dormancy(&self) -> &Dormancy {
        &self.dormancy
    }

    /// Wakes everybody, for the shutdown.
    pub(crate) fn wake_all(&self) {
        let sleepers = {
            let mut sleepers = self.sleepers.lock();
            let all = std::mem::take(&mut *sleepers);
            self.counts.fetch_sub((SLEEPING - SEARCHING) * all.len() as u64, Ordering::SeqCst);
            all
        };
        sleepers.into_iter().for_each(|worker| self.beds[worker].wake());
    }

    /// Whether the calling worker may search; at most half of the workers do at the same time.
    pub(crate) fn begin_search(&self) -> bool {
        let workers = self.workers as u64;
        if 2 * searching(self.counts.load(Ordering::Relaxed)) >= workers {
            return false;
        }
        self.counts.fetch_add(SEARCHING, Ordering::SeqCst);
        true
    }

    /// The worker has found a task.
    pub(crate) fn end_search(&self) {
        let before = self.counts.fetch_sub(SEARCHING, Ordering::SeqCst);
        if searching(before) == 1 {
            self.notify();
        }
    }

    /// The worker enters the list of sleepers. It must look at all queues afterwards, and then call `sleep` or `leave`.
    pub(crate) fn enter(&self, worker: usize, was_searching: bool) {
        let mut sleepers = self.sleepers.lock();
        sleepers.push(worker);
        let delta = if was_searching { SLEEPING - SEARCHING } else { SLEEPING };
        self.counts.fetch_add(delta, Ordering::SeqCst);
        drop(sleepers);
        // SeqCst fence: between the change of the word and the look at the queues; pairs with the fence in `notify`.
        full_fence();
    }

    /// Leaves the list of sleepers for work that was seen. The worker counts as searching afterwards.
    pub(crate) fn leave(&self, worker: usize) {
        let mut sleepers = self.sleepers.lock();
        if let Some(at) = sleepers.iter().position(|w| *w == worker) {
            sleepers.remove(at);
            self.counts.fetch_sub(SLEEPING - SEARCHING, Ordering::SeqCst);
        } else {
            drop(sleepers);
            // A waker has taken it off and counted it; the token it leaves must not end the next sleep.
            self.beds[worker].wait(None);
        }
        self.dormancy.end();
    }

    /// Sleeps until woken, or for `timeout`. The worker counts as searching afterwards.
    pub(crate) fn sleep(&self, worker: usize, timeout: Option<Duration>) {
        if !self.beds[worker].wait(timeout) {
            self.leave(worker);
        }
    }

    /// Whether some worker has a task, as far as the caller, which is in the list, can tell.
    pub(crate) fn is_somebody_at_work(&self) -> bool {
        // Relaxed: a hint.
        let counts = self.counts.load(Ordering::Relaxed);
        counts / SLEEPING + searching(counts) < self.workers as u64
    }

    /// Sleeps until woken, for `time` at the most; after that the caller must look at the next slots. Only one worker does so: for
    /// the others it is a sleep without an end. The worker counts as searching afterwards.
    pub(crate) fn nap(&self, worker: usize, time: Duration) {
        if self.napping.swap(true, Ordering::SeqCst) {
            return self.sleep(worker, None);
        }
        self.sleep(worker, Some(time));
        // A swap and not a store for the sake of the model, as in `Bed::wake`.
        self.napping.swap(false, Ordering::SeqCst);
    }

    /// Workers asleep at the moment.
    pub(crate) fn sleeping(&self) -> usize {
        // SeqCst: part of the monitor's look before it goes dormant; pairs with `Dormancy::end`.
        (self.counts.load(Ordering::SeqCst) / SLEEPING) as usize
    }
}

impl Bed {
    fn wake(&self) {
        // Release: pairs with the Acquire in `wait`. A swap and not a store for the sake of the model: loom may put a store
        // before a swap of another thread that has not read it.
        self.woken.swap(1, Ordering::Release);
        futex::wake_one(&raw const self.woken);
    }

    /// Returns whether it was woken, which is certain without a timeout.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        loop {
            // Acquire: pairs with the Release in `wake`.
            if self.woken.swap(0, Ordering::Acquire) == 1 {
                return true;
            }
            futex::wait(&self.woken, 0, timeout);
            if timeout.is_some() {
                return self.woken.swap(0, Ordering::Acquire) == 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_wakes_one_worker_and_the_wakened_count_as_searching() {
        let idle = Idle::new(3, 3);
        idle.enter(0, false);
        idle.enter(1, false);
        assert_eq!(idle.sleeping(), 2);
        idle.notify();
        idle.notify();
        assert_eq!(idle.sleeping(), 1, "the second notification relies on the searcher");
        idle.sleep(1, None);
        idle.end_search();
        assert_eq!(idle.sleeping(), 0, "the last searcher wakes the next worker");
        idle.sleep(0, None);
    }

    #[test]
    fn leaving_while_being_woken_takes_the_token() {
        let idle = Idle::new(1, 1);
        idle.enter(0, false);
        idle.notify();
        idle.leave(0);
        idle.enter(0, true);
        idle.sleep(0, Some(Duration::from_millis(1)));
        assert_eq!(idle.sleeping(), 0);
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::{
        scheduler::queue::Ring,
        sys::{clock, model::check},
        task::control::Control,
    };
    use loom::{sync::Arc, thread};
    use std::ptr::NonNull;

    /// The workers' half of the scheduler, with a ring that somebody else fills.
    struct Pool {
        idle: Idle,
        ring: Ring,
        shutdown: AtomicBool,
    }

    impl Pool {
        fn new(workers: usize) -> Arc<Self> {
            Arc::new(Self { idle: Idle::new(workers, workers), ring: Ring::new(), shutdown: AtomicBool::new(false) })
        }

        fn queue(&self) {
            self.ring.push(NonNull::<Control>::dangling(), |_| unreachable!("the ring is large enough"));
            self.idle.notify();
        }

        /// As `Worker::find`. Returns whether it has found a task; the other reason to return is the shutdown.
        fn find(&self, worker: usize) -> bool {
            let mut searching = self.idle.begin_search();
            loop {
                if searching && self.ring.steal_into(&Ring::new()).is_some() {
                    self.idle.end_search();
                    return true;
                }
                self.idle.enter(worker, searching);
                searching = true;
                if self.shutdown.load(Ordering::SeqCst) {
                    self.idle.leave(worker);
                    self.idle.end_search();
                    return false;
                }
                if self.ring.is_empty() {
                    self.idle.sleep(worker, None);
                } else {
                    self.idle.leave(worker);
                }
            }
        }
    }

    /// Two tasks, one worker: each is found, however the queueing meets the way to bed.
    #[test]
    fn a_task_queued_while_the_worker_goes_to_sleep() {
        check(3, 100, || {
            let pool = Pool::new(1);
            let worker = {
                let pool = pool.clone();
                thread::spawn(move || assert!(pool.find(0) && pool.find(0)))
            };
            pool.queue();
            pool.queue();
            worker.join().unwrap();
            assert_eq!(pool.idle.sleeping(), 0);
            assert_eq!(searching(pool.idle.counts.load(Ordering::SeqCst)), 0);
        });
    }

    /// Two tasks, two workers, each of which runs one task for ever. The second may be woken only because the first wakes
    /// it at the end of its search.
    #[test]
    fn a_burst_wakes_one_worker_after_the_other() {
        check(2, 1_000, || {
            let pool = Pool::new(2);
            let workers = [0, 1].map(|index| {
                let pool = pool.clone();
                // It runs one task, which never ends.
                thread::spawn(move || assert!(pool.find(index)))
            });
            pool.queue();
            pool.queue();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            assert_eq!(pool.idle.counts.load(Ordering::SeqCst), 0);
        });
    }

    /// A task is put into the next slot of a worker that never gets to it. One of the others finds it, on its way to bed or from nap
    /// to nap; who finds it shuts down.
    #[test]
    fn a_task_in_a_next_slot_while_others_nap() {
        struct Naps {
            idle: Idle,
            next: AtomicU32,
            shutdown: AtomicBool,
        }

        impl Naps {
            /// As `Worker::find`.
            fn find(&self, worker: usize) {
                let (mut seen, mut naps) = (0, 0);
                let mut searching = self.idle.begin_search();
                loop {
                    if searching
                        && seen != 0
                        && self.next.compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
                    {
                        self.idle.end_search();
                        self.shutdown.store(true, Ordering::SeqCst);
                        return self.idle.wake_all();
                    }
                    self.idle.enter(worker, searching);
                    searching = true;
                    if self.shutdown.load(Ordering::SeqCst) {
                        self.idle.leave(worker);
                        return self.idle.end_search();
                    }
                    seen = self.next.load(Ordering::SeqCst);
                    if seen != 0 || naps == 0 {
                        self.idle.nap(worker, Duration::from_micros(50));
                        naps += 1;
                    } else {
                        self.idle.sleep(worker, None);
                        naps = 0;
                    }
                }
            }
        }

        check(2, 1_000, || {
            clock::set(1, 1_000); // a nap ends at once
            let (idle, next, shutdown) = (Idle::new(3, 3), AtomicU32::new(0), AtomicBool::new(false));
            let naps = Arc::new(Naps { idle, next, shutdown });
            let others = [1, 2].map(|worker| {
                let naps = naps.clone();
                thread::spawn(move || naps.find(worker))
            });
            assert_eq!(naps.next.swap(1, Ordering::SeqCst), 0);
            naps.idle.notify_of_next();
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!((naps.idle.counts.load(Ordering::SeqCst), naps.next.load(Ordering::SeqCst)), (0, 0));
        });
    }

    /// The shutdown reaches a worker that is on its way to bed.
    #[test]
    fn shutdown_while_the_workers_go_to_sleep() {
        check(3, 1_000, || {
            let pool = Pool::new(2);
            let workers = [0, 1].map(|index| {
                let pool = pool.clone();
                thread::spawn(move || assert!(!pool.find(index)))
            });
            pool.shutdown.store(true, Ordering::SeqCst);
            pool.idle.wake_all();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            assert_eq!(pool.idle.counts.load(Ordering::SeqCst), 0);
        });
    }
}
