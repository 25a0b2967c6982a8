//! The timers of a runtime: wheels of deadlines, and a thread that sleeps until the earliest.
//!
//! There is a wheel for each processor of the machine (up to [`MAX_SHARDS`]), each with a lock, so that tasks that arm
//! timers at the same time rarely meet. The thread is started with the first timer. It is not a worker, so timers fire
//! while all workers are busy; it wakes tasks through the injector, a batch at a time, ahead of what waits there.
//! Timers of threads that belong to no runtime have a set of wheels of their own, with a thread of its own
//! ([`Timers::current`]).
//!
//! # What runs on the timer thread
//!
//! (And in the loop of a worker that helps it, between two tasks.) Never the user's code, and nothing that waits but for locks that are held for moments. It unparks, or calls
//! [`Alarm::fire`], with no lock held. What an armed timer owns of the user's (the closure of `after_func`) is handed to
//! a task, or, when the runtime ends first, to whoever ends it ([`Timers::stop`]).
//!
//! # How the thread learns of an earlier deadline
//!
//! The thread (1) reads `changes`, (2) stores AWAKE into `sleeping_until`, (3) looks at all wheels, (4) stores the earliest
//! deadline into `sleeping_until`, (5) sleeps unless `changes` has changed since (1). Who arms a timer puts it into a wheel
//! and then looks at `sleeping_until`. If it finds a moment that is not after the new deadline, there is nothing to do. If
//! it finds AWAKE or a later moment, it changes `changes`, and then wakes the thread unless it is still AWAKE: then (5) is
//! yet to come and will see the change. The case between: the timer came into its wheel after (3) looked there, so the
//! look at `sleeping_until` comes after (2), and finds AWAKE or what (4) has stored.

use std::{
    sync::{Arc, LazyLock, Weak, atomic::compiler_fence},
    thread,
    time::Duration,
};

use crossbeam_utils::CachePadded;

use super::wheel::{Expired, Key, Wheel};
use crate::{
    heap,
    scheduler::{self, current_worker},
    sys::{
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        clock, futex,
        lock::Mutex,
        thread::processor,
    },
    task::parker::Parker,
    world::threads::WorkerThread,
};

/// Beyond so many processors several share a wheel. A wheel is 3 KiB and its timers.
const MAX_SHARDS: usize = 16;

/// Timers taken from a wheel under one lock: a few microseconds, for which others cannot arm theirs.
const BATCH: usize = 128;

/// In `sleeping_until`: the thread is up and will look at `changes` before it sleeps.
const AWAKE: u64 = 0;

/// The timers of threads outside any runtime. Its thread is started on demand and lives as long as the process.
static OUTSIDE: LazyLock<Arc<Timers>> = LazyLock::new(Timers::new);

pub(crate) struct Timers {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    /// The deadline that the thread sleeps for, u64::MAX if there is none, or AWAKE.
    sleeping_until: AtomicU64,
    /// Changes when the thread has to look at the wheels again.
    changes: AtomicU32,
    /// The thread's id; 0 while it has something of the program's that it took from a wheel.
    idle: AtomicU32,
    /// Whether the thread has been started, or never will be.
    started: AtomicBool,
    stopping: AtomicBool,
    /// Guards the start and the end of the thread.
    thread: Mutex<Thread>,
    /// What fired too late to be run, kept for [`Timers::stop`] to drop. Guards nothing else.
    abandoned: Mutex<Vec<Action>>,
}

/// Guarded by the mutex around it.
struct Shard {
    wheel: Wheel<Action>,
    closed: bool,
}

#[derive(Default)]
struct Thread {
    handle: Option<thread::JoinHandle<()>>,
    stopped: bool,
}

/// What happens at a deadline.
pub(crate) enum Action {
    Unpark(Parker),
    /// Keeps its owner alive while it is armed.
    Fire(Arc<dyn Alarm>),
    /// Does nothing if its owner is gone by then.
    FireIfAlive(Weak<dyn Alarm>),
}

/// Something that a timer sets off.
pub(crate) trait Alarm: Send + Sync {
    /// Called on the timer thread, or in a worker's loop, with no lock held, when the timer of `id` has come to its deadline. It may have been
    /// stopped or armed anew in this moment: the owner compares the id with what it has armed, under its own lock.
    ///
    /// Must not wait (other than for locks that are never held for long), run the user's code or drop the user's
    /// values.
    fn fire(self: Arc<Self>, id: TimerId, deadline: u64);
}

/// Names an armed timer; later, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    shard: u32,
    key: Key,
}

impl Timers {
    pub(crate) fn new() -> Arc<Self> {
        // A model has one: which processor it runs on would differ from execution to execution.
        let processors = if cfg!(loom) { 1 } else { thread::available_parallelism().map_or(1, std::num::NonZero::get) };
        let shard = |_| CachePadded::new(Mutex::new(Shard { wheel: Wheel::new(), closed: false }));
        let timers = Arc::new(Self {
            shards: (0..processors.min(MAX_SHARDS)).map(shard).collect(),
            sleeping_until: AtomicU64::new(u64::MAX),
            changes: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            thread: Mutex::new(Thread::default()),
            abandoned: Mutex::new(Vec::new()),
        });
        #[cfg(not(loom))]
        super::roll::enter(&timers);
        timers
    }

    /// Gives the address of what each armed timer keeps or leads to; for one who has stopped the world. `false`: somebody
    /// was stopped while changing a wheel, and it could not be read.
    #[cfg(not(loom))]
    pub(crate) fn armed(&self, mut owner: impl FnMut(usize)) -> bool {
        self.shards.iter().all(|shard| {
            let free = !shard.is_locked();
            if free {
                // SAFETY: nobody runs, and nobody holds the lock, so the shard is whole and does not change.
                unsafe { &*shard.data_ptr() }.wheel.values().for_each(|action| match action {
                    Action::Unpark(_) => {}
                    Action::Fire(alarm) => owner(Arc::as_ptr(alarm).cast::<()>() as usize),
                    Action::FireIfAlive(alarm) => owner(alarm.as_ptr().cast::<()>() as usize),
                });
            }
            free
        })
    }

    /// The timers of the calling task's runtime, or those of the threads outside.
    pub(crate) fn current() -> Arc<Self> {
        current_worker().map_or_else(|| OUTSIDE.clone(), |worker| worker.shared().timers.clone())
    }

    /// Arms a timer for `deadline`, in nanoseconds of the monotonic clock.
    ///
    /// # Errors
    /// The action, if the runtime has shut down. It may own values of the user's, so it must be dropped with no lock held.
    ///
    /// # Panics
    /// If the system has no thread for the timers.
    pub(crate) fn arm(self: &Arc<Self>, deadline: u64, action: Action) -> Result<TimerId, Action> {
        // Acquire: pairs with the Release in `start`; the thread is there before its first timer.
        if !self.started.load(Ordering::Acquire) {
            self.start();
        }
        let index = processor() % self.shards.len();
        let mut shard = self.shards[index].lock();
        if shard.closed {
            return Err(action);
        }
        let key = shard.wheel.insert(deadline, action);
        drop(shard);
        // SeqCst, all of them: see "How the thread learns of an earlier deadline".
        let until = self.sleeping_until.load(Ordering::SeqCst);
        if until == AWAKE || deadline < until {
            self.changes.fetch_add(1, Ordering::SeqCst);
            if self.sleeping_until.load(Ordering::SeqCst) != AWAKE {
                futex::wake_one(&raw const self.changes);
            }
        }
        Ok(TimerId { shard: index as u32, key })
    }

    /// Takes a timer out that has not fired. What is returned must be dropped with no lock held.
    pub(crate) fn disarm(&self, id: TimerId) -> Option<Action> {
        self.shards[id.shard as usize].lock().wheel.remove(id.key)
    }

    /// Keeps what could not be run because the runtime ends, so that it is not dropped on the timer thread.
    pub(super) fn abandon(&self, action: Action) {
        self.abandoned.lock().push(action);
    }

    #[cold]
    fn start(self: &Arc<Self>) {
        let mut thread = self.thread.lock();
        if thread.handle.is_none() && !thread.stopped {
            let timers = self.clone();
            let spawn = || thread::Builder::new().name("greenprof-timer".into()).spawn(move || timers.work());
            match heap::untracked(spawn) {
                Ok(handle) => thread.handle = Some(handle),
                Err(error) => {
                    drop(thread);
                    panic!("no thread for timers: {error}; raise the limit on threads (ulimit -u)");
                }
            }
        }
        // Release: pairs with the Acquire in `arm`.
        self.started.store(true, Ordering::Release);
    }

    /// Ends the thread and waits for it. Timers that have not fired never will; what they own is dropped here.
    pub(crate) fn stop(&self) {
        let handle = {
            let mut thread = self.thread.lock();
            thread.stopped = true;
            thread.handle.take()
        };
        self.stopping.store(true, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
        futex::wake_one(&raw const self.changes);
        if let Some(handle) = handle {
            let _ = handle.join();
        }
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.closed = true;
            let unfired = shard.wheel.drain();
            drop(shard);
            drop(unfired);
        }
        let abandoned = std::mem::take(&mut *self.abandoned.lock());
        drop(abandoned);
    }

    fn work(&self) {
        let id = crate::sys::thread::id() as u32;
        self.set_idle(id);
        loop {
            let changes = self.changes.load(Ordering::SeqCst);
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            self.sleeping_until.store(AWAKE, Ordering::SeqCst);
            let now = clock::now();
            let mut next = u64::MAX;
            // Not kept: what it held would lie in it until it is overwritten, and look like something held.
            let mut due = Vec::new();
            for (index, shard) in self.shards.iter().enumerate() {
                let mut shard = shard.lock();
                shard.expire(index, now, &mut due, || self.set_idle(0));
                next = next.min(shard.wheel.next().unwrap_or(u64::MAX));
            }
            if !due.is_empty() {
                fire(due);
                self.set_idle(id);
                continue; // that took time, in which others may have come due
            }
            self.sleeping_until.store(next, Ordering::SeqCst);
            let timeout = (next != u64::MAX).then(|| Duration::from_nanos(next.saturating_sub(now)));
            futex::wait(&self.changes, changes, timeout);
        }
    }

    fn set_idle(&self, id: u32) {
        // Relaxed: for one who has stopped this thread, and sees its stores in order.
        compiler_fence(Ordering::SeqCst);
        self.idle.store(id, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// Whether the thread with this id is that of these timers, and has nothing of the program's: its stack and its registers have
    /// only what is left of earlier timers. For one who has stopped the world, and found no wheel locked.
    #[cfg(not(loom))]
    pub(crate) fn is_idle_thread(&self, thread: i32) -> bool {
        self.idle.load(Ordering::Relaxed) == thread as u32
    }

    /// Fires what is due, from a worker's loop: when all processors are busy, the system does not run the timer thread at
    /// once. Costs a look at a word when nothing is armed, and one at the clock when nothing is due.
    pub(crate) fn help(&self, worker: Option<&WorkerThread>) {
        // Relaxed: a hint. AWAKE is before every moment: the thread may be up and not running.
        let until = self.sleeping_until.load(Ordering::Relaxed);
        if until == u64::MAX {
            return;
        }
        let now = clock::now();
        if until > now {
            return;
        }
        let mut due = Vec::new();
        for (index, shard) in self.shards.iter().enumerate() {
            // Who holds it is at it already.
            if let Some(mut shard) = shard.try_lock() {
                shard.expire(index, now, &mut due, || _ = worker.inspect(|worker| worker.set_fires(true)));
            }
        }
        fire(due);
        worker.inspect(|worker| worker.set_fires(false));
    }

    /// Timers that are armed at this moment, and places for timers.
    #[cfg(all(test, not(loom)))]
    pub(super) fn sizes(&self) -> (usize, usize) {
        self.shards
            .iter()
            .map(|shard| shard.lock())
            .fold((0, 0), |(armed, places), shard| (armed + shard.wheel.len(), places + shard.wheel.places()))
    }
}

#[cfg(not(loom))]
impl Drop for Timers {
    fn drop(&mut self) {
        super::roll::leave(self);
    }
}

impl Shard {
    /// Takes out a batch of what is due. `values` is called when that includes something of the program's: while the wheel is
    /// locked, so that one who stops the world before sees that.
    fn expire(&mut self, index: usize, now: u64, due: &mut Vec<Due>, mut values: impl FnMut()) {
        self.wheel.expire(now, BATCH, |Expired { key, deadline, value: action }| {
            if !matches!(action, Action::Unpark(_)) {
                values();
            }
            due.push(Due { id: TimerId { shard: index as u32, key }, deadline, action });
        });
    }
}

/// A timer that has come to its deadline.
struct Due {
    id: TimerId,
    deadline: u64,
    action: Action,
}

/// Sets off a batch: first the tasks to be woken, all at once, then the others one by one.
fn fire(mut due: Vec<Due>) {
    due.sort_by_key(|timer| timer.deadline);
    scheduler::wake_all(due.iter().filter_map(|timer| match timer.action {
        Action::Unpark(parker) => Some(parker),
        _ => None,
    }));
    for Due { id, deadline, action } in due {
        match action {
            Action::Unpark(_) => {}
            Action::Fire(alarm) => alarm.fire(id, deadline),
            Action::FireIfAlive(alarm) => {
                if let Some(alarm) = alarm.upgrade() {
                    alarm.fire(id, deadline);
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Instant;

    struct Bell(Mutex<Vec<(TimerId, u64)>>);

    impl Alarm for Bell {
        fn fire(self: Arc<Self>, id: TimerId, deadline: u64) {
            assert!(clock::now() >= deadline);
            self.0.lock().push((id, deadline));
        }
    }

    fn bell() -> Arc<Bell> {
        Arc::new(Bell(Mutex::default()))
    }

    fn wait_for(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what} has not happened");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_earlier_timer_wakes_the_thread_and_all_fire_once() {
        let timers = Timers::new();
        let bell = bell();
        let now = clock::now();
        let far = timers.arm(now + 3_600_000_000_000, Action::Fire(bell.clone())).ok().unwrap();
        for n in (0..500).rev() {
            timers.arm(now + n * 10_000, Action::Fire(bell.clone())).ok().unwrap();
        }
        wait_for("the last", || bell.0.lock().len() == 500);
        let mut deadlines: Vec<u64> = bell.0.lock().iter().map(|(_, deadline)| *deadline).collect();
        deadlines.sort_unstable();
        assert!(deadlines.into_iter().eq((0..500).map(|n| now + n * 10_000)));
        assert!(timers.disarm(far).is_some());
        assert!(timers.disarm(far).is_none());
        assert_eq!(timers.sizes().0, 0);
        timers.stop();
        assert!(timers.arm(0, Action::Fire(bell.clone())).is_err(), "stopped");
    }

    #[test]
    fn threads_that_arm_and_disarm_leave_nothing_behind() {
        let timers = Timers::new();
        let bell = bell();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..5_000 {
                        let action = Action::Fire(bell.clone());
                        let id = timers.arm(clock::now() + 3_600_000_000_000 + n, action).ok().unwrap();
                        drop(timers.disarm(id).expect("an hour is not over"));
                    }
                });
            }
        });
        let (armed, places) = timers.sizes();
        assert_eq!(armed, 0);
        assert!(places <= 4 * timers.shards.len(), "{places} places for four timers at a time");
        timers.stop();
        assert_eq!(Arc::strong_count(&bell), 1);
    }

    #[test]
    fn stop_drops_what_has_not_fired_and_weak_actions_keep_nothing() {
        let timers = Timers::new();
        let (strong, weak) = (bell(), bell());
        timers.arm(u64::MAX, Action::Fire(strong.clone())).ok().unwrap();
        let downgraded = Arc::downgrade(&weak);
        timers.arm(clock::now(), Action::FireIfAlive(downgraded.clone())).ok().unwrap();
        wait_for("the live one", || weak.0.lock().len() == 1);
        timers.arm(clock::now() + 1_000_000, Action::FireIfAlive(downgraded.clone())).ok().unwrap();
        drop(weak);
        wait_for("the end of the dead one", || timers.sizes().0 == 1);
        assert_eq!(Arc::strong_count(&strong), 2);
        timers.stop();
        assert_eq!(Arc::strong_count(&strong), 1);
        assert!(strong.0.lock().is_empty());
    }

    #[test]
    fn a_helper_fires_what_is_due() {
        let timers = Timers::new();
        timers.thread.lock().stopped = true; // no thread: what fires, the helper has fired
        let bell = bell();
        timers.arm(clock::now(), Action::Fire(bell.clone())).ok().unwrap();
        timers.arm(u64::MAX - 1, Action::Fire(bell.clone())).ok().unwrap();
        timers.sleeping_until.store(AWAKE, Ordering::SeqCst);
        timers.help(None);
        assert_eq!(bell.0.lock().len(), 1);
        timers.stop();
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::sys::model::{Checked, check};
    use loom::sync::Arc as LoomArc;

    /// Counts how often it fires, and wakes who waits for it.
    struct Bell(LoomArc<Checked>, Parker);

    impl Alarm for Bell {
        fn fire(self: Arc<Self>, _: TimerId, _: u64) {
            self.0.add(1);
            self.1.unpark();
        }
    }

    /// Timers whose thread is the model's.
    fn timers() -> Arc<Timers> {
        let timers = Timers::new();
        timers.started.store(true, Ordering::Relaxed);
        timers
    }

    fn spawn(timers: &Arc<Timers>, body: impl FnOnce(&Arc<Timers>) + 'static) -> loom::thread::JoinHandle<()> {
        let timers = timers.clone();
        loom::thread::spawn(move || body(&timers))
    }

    /// Arms a timer that is due at once and waits until it has fired. Time stands still, so the thread wakes up for nothing
    /// but a change.
    fn arm_and_wait(timers: &Arc<Timers>) {
        let fired = LoomArc::new(loom::sync::atomic::AtomicBool::new(false));
        struct Flag(LoomArc<loom::sync::atomic::AtomicBool>, Parker);
        impl Alarm for Flag {
            fn fire(self: Arc<Self>, _: TimerId, _: u64) {
                self.0.store(true, Ordering::Release);
                self.1.unpark();
            }
        }
        let parker = Parker::current();
        assert!(timers.arm(0, Action::Fire(Arc::new(Flag(fired.clone(), parker)))).is_ok());
        while !fired.load(Ordering::Acquire) {
            parker.park(crate::task::WaitReason::Sleep, crate::task::control::On::NOTHING);
        }
    }

    /// The thread goes to sleep, for ever or until a later timer, while an earlier one is armed.
    #[test]
    fn an_earlier_timer_wakes_the_thread() {
        check(3, 100, || {
            let timers = timers();
            let thread = spawn(&timers, |timers| timers.work());
            arm_and_wait(&timers);
            timers.stop();
            thread.join().unwrap();
        });
    }

    #[test]
    fn two_threads_arm_timers() {
        check(2, 100, || {
            let timers = timers();
            let count = LoomArc::new(Checked::default());
            let far = Action::Fire(Arc::new(Bell(count.clone(), Parker::current())));
            let thread = spawn(&timers, |timers| timers.work());
            let other = spawn(&timers, move |timers| {
                assert!(timers.arm(1_000, far).is_ok());
            });
            arm_and_wait(&timers);
            other.join().unwrap();
            timers.stop();
            thread.join().unwrap();
            assert_eq!(count.read(), 0, "an hour is not over");
        });
    }
}
