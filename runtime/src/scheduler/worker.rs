//! A worker: the OS thread that runs tasks, one after another.
//!
//! The worker's loop runs on the thread's own stack. It switches to a task; the task switches back when it waits,
//! yields or ends, and says so with a [`Departure`]. What has to happen after the task has left its stack (parking it,
//! queueing it, freeing its stack) happens in the loop, where the task's context is known to be saved.
//!
//! A task may continue on another worker, so nothing here may be remembered across a switch: code that runs on a task's
//! stack asks [`current_worker`] each time. That function is never inlined, because the compiler may keep the address
//! of a thread-local variable in a register, and after the switch it would be another thread's.

use std::{
    cell::{Cell, RefCell},
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    latency,
    processors::Processor,
    shared::{Shared, bump},
};
#[cfg(feature = "hooks")]
use crate::sys::ticks::Ticks;
use crate::{
    SpawnError, heap, hooks,
    sys::{clock, futex, thread::SignalStack},
    task::{
        control::{Control, TaskRef},
        stack::{Class, pool},
        switch,
    },
    world::threads::{self, Creation, WorkerThread},
};

/// Every so many tasks a worker looks into the injector first, so that a worker whose own tasks wake each other for ever
/// does not starve those outside. A prime, so that it does not fall in step with a program's own cycles (Go uses 61 too).
const INJECTOR_INTERVAL: u64 = 61;

/// How often in a row a worker runs the task in its next slot before the ring has its turn: two tasks that wake each
/// other must not starve the others.
const NEXT_SLOT_CAP: u32 = 3;

/// Rounds over all queues before a searching worker sleeps, and the pauses between them: a few microseconds, less than
/// going to sleep and being woken costs.
const SEARCH_ROUNDS: u32 = 6;
const SEARCH_PAUSES: u32 = 40;

/// How many tasks before its turn the memory of a queued task is fetched: many that are woken at once are in no cache.
const FETCHED_AHEAD: usize = 3;

/// Below so many tasks a ring is left to its owner until the last round of a search: a thief that takes each task as it is
/// pushed only moves its memory from one processor's caches to the other's.
const MIN_STEAL: usize = 32;

/// How long a worker naps when the only work in sight is in another's next slot. If it is still there afterwards, with
/// the same task running, it is taken.
const NAP: Duration = Duration::from_micros(50);
/// So often a worker that sees no work naps before it sleeps, if others have work, twice as long each time: as long as a task may lie
/// in the next slot of a worker that does not get to it.
const NAPS: u32 = 3;

/// Task ids that a worker takes at once.
const ID_BATCH: u64 = 64;
static NEXT_TASK: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static WORKER: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// Why a task has switched back to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Departure {
    Park,
    Yield,
    Exit,
}

impl Departure {
    /// What `leave` has passed through the switch.
    #[inline(always)]
    fn from_message(message: usize) -> Self {
        match message {
            m if m == Self::Park as usize => Self::Park,
            m if m == Self::Yield as usize => Self::Yield,
            _ => Self::Exit,
        }
    }
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    processor: NonNull<Processor>,
    /// The saved context of the worker's loop while a task runs.
    scheduler_sp: Cell<*mut u8>,
    task: Cell<Option<NonNull<Control>>>,
    thread: &'static WorkerThread,
    stacks: RefCell<pool::Cache>,
    ids: Cell<Range64>,
    next_slot_runs: Cell<u32>,
    /// Whether the next task that becomes runnable here is one whose latency is measured.
    times_next: Cell<bool>,
    /// State of the generator that chooses whom to steal from.
    random: Cell<u64>,
    /// When a task last began to wait here, and as the how-manieth that ran; nothing once the worker has looked for work elsewhere.
    #[cfg(feature = "hooks")]
    began_to_wait: Cell<Option<(Ticks, u64)>>,
}

#[derive(Clone, Copy)]
struct Range64 {
    start: u64,
    end: u64,
}

/// The worker that the caller runs on.
#[inline(never)]
pub(crate) fn current_worker<'a>() -> Option<&'a Worker> {
    // SAFETY: null, or the worker whose `run` is active on this thread. The reference must not be kept across a switch;
    // that is the rule of this module.
    WORKER.with(|worker| unsafe { worker.get().as_ref() })
}

/// Leaves the running task; returns when it is resumed, perhaps on another worker. Tasks only.
///
/// Not inlined: it holds the switch, and no caller's registers or thread-local addresses can live across it.
#[inline(never)]
pub(crate) fn leave(departure: Departure) {
    // The flag is the thread's: the task would take no scope along, and the next task here would be in one.
    debug_assert!(!heap::in_untracked(), "a task waits inside of heap::untracked");
    let worker = current_worker().expect("only a task leaves");
    let control = worker.task.get().expect("only a task leaves");
    // SAFETY: the worker's context was saved when it switched to this task, and it waits for this switch. The control
    // block outlives the task.
    unsafe {
        switch::switch(control.as_ref().sp.as_ptr(), worker.scheduler_sp.get(), departure as usize);
    }
}

/// A random number, for choices that should not favour anybody.
pub(crate) fn random() -> u64 {
    thread_local! {
        static OUTSIDE: Cell<u64> = const { Cell::new(0) };
    }

    #[inline(never)]
    fn outside() -> u64 {
        let seed = match OUTSIDE.get() {
            // A model repeats itself.
            _ if cfg!(loom) => 1,
            0 => clock::now() | 1,
            seed => seed,
        };
        OUTSIDE.set(xorshift(seed));
        seed
    }

    current_worker().map_or_else(outside, Worker::random)
}

/// The next state of a 64-bit xorshift generator.
fn xorshift(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ x << 17
}

/// An id for a task that is spawned outside any worker.
pub(crate) fn next_task_id() -> u64 {
    NEXT_TASK.fetch_add(1, Ordering::Relaxed)
}

impl Worker {
    /// The body of a worker thread: runs tasks until the shutdown.
    pub(crate) fn run(shared: Arc<Shared>, index: usize, creation: &Creation) {
        // Without it, handlers run on std's smaller stack.
        let _signals = SignalStack::install().ok();
        let thread = threads::register(shared.id, index, creation);
        let worker = Worker {
            stacks: RefCell::new(pool::Cache::new(shared.stack)),
            index,
            processor: NonNull::from(shared.processors.get(index)),
            scheduler_sp: Cell::new(ptr::null_mut()),
            task: Cell::new(None),
            thread: &thread,
            ids: Cell::new(Range64 { start: 0, end: 0 }),
            next_slot_runs: Cell::new(0),
            times_next: Cell::new(false),
            random: Cell::new(0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1).wrapping_mul(clock::now())),
            #[cfg(feature = "hooks")]
            began_to_wait: Cell::new(None),
            shared,
        };
        WORKER.set(&worker);
        worker.processor().set_thread(Some(worker.thread));
        hooks::worker_started(worker.thread);
        worker.work();
        hooks::worker_stopping(worker.thread);
        worker.processor().set_thread(None);
        WORKER.set(ptr::null());
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn shared_arc(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn task(&self) -> Option<TaskRef> {
        self.task.get().map(|control| {
            // SAFETY: control blocks are never unmapped.
            TaskRef { control, generation: unsafe { control.as_ref() }.park.generation() }
        })
    }

    /// The control block of the task that runs here.
    #[inline]
    pub(crate) fn control(&self) -> Option<&'static Control> {
        // SAFETY: control blocks are never unmapped.
        self.task.get().map(|control| unsafe { control.as_ref() })
    }

    /// How others see this worker.
    pub(crate) fn thread(&self) -> &'static WorkerThread {
        self.thread
    }

    fn processor(&self) -> &Processor {
        // SAFETY: processors are never removed, and the worker keeps the table that owns them.
        unsafe { self.processor.as_ref() }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    fn work(&self) {
        while !self.shared.shutdown.load(Ordering::Relaxed) {
            if self.is_unneeded() {
                self.retire();
            } else if let Some(task) = self.local().or_else(|| self.find()) {
                self.run_task(task);
            }
        }
    }

    /// Whether this is a surplus worker, and the one that it stood in for is back.
    fn is_unneeded(&self) -> bool {
        let ordinary = self.shared.processors.ordinary();
        self.index >= ordinary && self.index - ordinary >= self.shared.surplus.allowed()
    }

    /// Gives the queue away and sleeps until this worker is needed again, or the runtime shuts down.
    fn retire(&self) {
        let processor = self.processor();
        let next = processor.next.swap(ptr::null_mut(), Ordering::Acquire);
        let queued = std::iter::from_fn(|| processor.ring.pop());
        self.shared.inject(NonNull::new(next).into_iter().chain(queued));
        processor.retired.store(1, Ordering::SeqCst);
        // SeqCst: whoever calls this worker has changed what is allowed before it looks at `retired`.
        if !self.is_unneeded() || self.shared.shutdown.load(Ordering::SeqCst) {
            processor.retired.swap(0, Ordering::SeqCst);
            return;
        }
        hooks::worker_sleeping(self.thread);
        while processor.retired.load(Ordering::SeqCst) == 1 {
            futex::wait(&processor.retired, 1, None);
        }
        hooks::worker_woke(self.thread);
    }

    fn run_task(&self, task: NonNull<Control>) {
        // SAFETY: control blocks are never unmapped.
        let control = unsafe { task.as_ref() };
        let task_ref = || TaskRef { control: task, generation: control.park.generation() };
        let ticks = &self.processor().ticks;
        ticks.store(ticks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if control.is_timed() {
            latency::end(control);
        }
        loop {
            control.begin_run();
            self.task.set(Some(task));
            self.thread.set_task(task.as_ptr());
            hooks::task_resumed(task_ref);
            // SAFETY: the task was taken from a queue, so it has a saved context that nobody else continues.
            let departure =
                unsafe { switch::switch(self.scheduler_sp.as_ptr(), control.sp.load(Ordering::Relaxed), 0) };
            self.thread.set_task(ptr::null_mut());
            self.task.set(None);
            control.end_run();
            let departure = Departure::from_message(departure);
            hooks::task_left(task_ref, departure);
            if departure == Departure::Park {
                if control.park.commit_park() {
                    return;
                }
                hooks::task_woken(task_ref());
                continue;
            }
            if departure == Departure::Yield {
                bump(&self.processor().yields);
                // Nobody is woken for it: this worker looks at its queues next.
                return match control.pinned() {
                    Some(_) => self.processor().pinned.push(task),
                    None => self.push(task),
                };
            }
            control.park.finish();
            bump(&self.processor().finished);
            return self.stacks.borrow_mut().give(task);
        }
    }

    /// The calling task begins to wait.
    #[cfg(feature = "hooks")]
    pub(crate) fn begins_to_wait(&self, now: Ticks) {
        self.began_to_wait.set(Some((now, self.processor().ticks.load(Ordering::Relaxed))));
    }

    /// When the task before the calling one began to wait, if this worker has done nothing since but switch between the two: some
    /// twenty nanoseconds before now.
    #[cfg(feature = "hooks")]
    pub(crate) fn switched_at(&self) -> Option<Ticks> {
        let (time, ticks) = self.began_to_wait.get()?;
        let now = self.processor().ticks.load(Ordering::Relaxed);
        if now == ticks {
            // The caller's own wait, which has ended before the task had left: it goes on, and whatever it leaves for later
            // has not begun then.
            self.began_to_wait.set(None);
        }
        (now == ticks.wrapping_add(1)).then_some(time)
    }

    /// Whether the latency of a task that becomes runnable here is measured: one for every so many tasks that run.
    #[inline]
    pub(crate) fn times_next(&self) -> bool {
        self.times_next.get() && {
            self.times_next.set(false);
            true
        }
    }

    /// Queues a task that was woken here: it runs next, while what it was given is in the caches.
    pub(crate) fn queue_next(&self, task: NonNull<Control>) {
        // SeqCst: Release pairs with the Acquire of whoever takes the task, Acquire with the Release of who put the old, and it is
        // in the order of `notify_of_next`.
        let old = self.processor().next.swap(task.as_ptr(), Ordering::SeqCst);
        match NonNull::new(old) {
            None => self.shared.idle.notify_of_next(),
            Some(old) => self.queue_last(old),
        }
    }

    /// Queues a task behind the others here, for whoever is free first.
    pub(crate) fn queue_last(&self, task: NonNull<Control>) {
        self.push(task);
        self.shared.idle.notify();
    }

    fn push(&self, task: NonNull<Control>) {
        self.processor().ring.push(task, |spilled| {
            self.shared.injector.push_spilled(spilled);
            self.shared.idle.notify();
        });
    }

    /// The next task of this worker's own queues, or now and then of the injector.
    fn local(&self) -> Option<NonNull<Control>> {
        let processor = self.processor();
        let ticks = processor.ticks.load(Ordering::Relaxed);
        if ticks.is_multiple_of(INJECTOR_INTERVAL) {
            self.times_next.set(true);
            // The kernel may not get round to the timer thread while all processors are busy.
            self.shared.timers.help(Some(self.thread));
            if let Some(task) = self.shared.injector.pop() {
                return Some(task);
            }
        }
        // Pinned tasks have every second turn.
        if ticks.is_multiple_of(2)
            && let Some(task) = processor.pinned.pop()
        {
            return Some(task);
        }
        // Relaxed: only this worker puts tasks here; a thief may have taken it, which the swap finds out.
        if !processor.next.load(Ordering::Relaxed).is_null() {
            // Acquire: pairs with the Release in `queue_next`.
            if let Some(task) = NonNull::new(processor.next.swap(ptr::null_mut(), Ordering::Acquire)) {
                // Relaxed, in `length`: the owner knows its own tail, and a thief can only make it shorter.
                if self.next_slot_runs.get() < NEXT_SLOT_CAP || processor.ring.length() == 0 {
                    self.next_slot_runs.set(self.next_slot_runs.get().saturating_add(1));
                    return Some(task);
                }
                self.push(task);
            }
        }
        self.next_slot_runs.set(0);
        if let Some(later) = processor.ring.peek(FETCHED_AHEAD) {
            // SAFETY: control blocks are never unmapped.
            unsafe { later.as_ref() }.fetch_to_run();
        }
        processor.ring.pop().or_else(|| processor.pinned.pop()).or_else(|| self.take_injected())
    }

    /// A fair share of the injector, at most half a ring.
    fn take_injected(&self) -> Option<NonNull<Control>> {
        let workers = self.shared.processors.ordinary();
        self.shared.injector.take(workers, super::queue::CAPACITY / 2, |task| self.push(task))
    }

    /// Searches the other workers' queues, and sleeps when there is nothing. `None` at shutdown, and for a surplus worker
    /// that is not needed any more: a wake-up that reached it goes on to the next sleeper.
    #[cold]
    fn find(&self) -> Option<NonNull<Control>> {
        hooks::worker_searching(self.thread);
        #[cfg(feature = "hooks")]
        self.began_to_wait.set(None);
        let idle = &self.shared.idle;
        let mut searching = idle.begin_search();
        let (mut stuck, mut naps) = (None, 0);
        loop {
            if let Some(task) = self.processor().pinned.pop() {
                if searching {
                    idle.end_search();
                }
                return Some(task);
            }
            let rounds = if naps == 0 { SEARCH_ROUNDS } else { 1 };
            if searching && let Some(task) = self.search(rounds, &mut stuck) {
                idle.end_search();
                return Some(task);
            }
            idle.enter(self.index, searching);
            searching = true;
            if self.shared.shutdown.load(Ordering::SeqCst) || self.is_unneeded() {
                idle.leave(self.index);
                idle.end_search();
                return None;
            }
            if self.shared.has_work() || !self.processor().pinned.is_empty() {
                idle.leave(self.index);
            } else {
                hooks::worker_sleeping(self.thread);
                stuck = self.look_at_next_slots(stuck);
                if stuck.is_some() {
                    idle.nap(self.index, NAP);
                    naps = naps.max(1);
                } else if naps < NAPS && idle.is_somebody_at_work() {
                    idle.nap(self.index, NAP * (1 << naps));
                    naps += 1;
                } else {
                    idle.sleep(self.index, None);
                    naps = 0;
                }
                hooks::worker_woke(self.thread);
            }
        }
    }

    /// Looks at all queues so many times.
    fn search(&self, rounds: u32, stuck: &mut Option<Stuck>) -> Option<NonNull<Control>> {
        let processors = &self.shared.processors;
        for round in 0..rounds {
            if let Some(task) = self.take_injected() {
                return Some(task);
            }
            let start = self.random() as usize;
            let count = processors.len();
            for i in 0..count {
                let victim = (start.wrapping_add(i)) % count;
                let ring = &processors.get(victim).ring;
                if victim != self.index
                    && (ring.length() >= MIN_STEAL || round + 1 == rounds)
                    && let Some(task) = ring.steal_into(&self.processor().ring)
                {
                    bump(&self.processor().steals);
                    return Some(task);
                }
            }
            if round + 1 < rounds {
                pool::open_ahead(self.shared.stack);
                (0..SEARCH_PAUSES).for_each(|_| std::hint::spin_loop());
            }
        }
        let Stuck { victim, task, ticks } = stuck.take()?;
        let victim = processors.get(victim);
        // The victim has run one task all the time and its next slot has not moved: it will not get to it soon.
        // Acquire: pairs with the Release in `queue_next`.
        let taken = victim.ticks.load(Ordering::Relaxed) == ticks
            && victim.next.compare_exchange(task, ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed).is_ok();
        taken.then(|| bump(&self.processor().steals)).and(NonNull::new(task))
    }

    /// Remembers an occupied next slot, to be taken if it is the same after a nap. Part of the last look before a sleep.
    fn look_at_next_slots(&self, before: Option<Stuck>) -> Option<Stuck> {
        let start = before.map_or(0, |stuck| stuck.victim + 1);
        let count = self.shared.processors.len();
        (0..count).map(|i| (start + i) % count).find_map(|victim| {
            let processor = self.shared.processors.get(victim);
            let ticks = processor.ticks.load(Ordering::Relaxed);
            // SeqCst: pairs with the fence in `Idle::enter`, and is in the order of `Idle::nap`.
            let task = processor.next.load(Ordering::SeqCst);
            (!task.is_null()).then_some(Stuck { victim, task, ticks })
        })
    }

    fn random(&self) -> u64 {
        // The state as it was, so that nobody waits for the next one.
        self.random.replace(xorshift(self.random.get()))
    }

    pub(crate) fn take_stack(&self, class: Class) -> Result<NonNull<Control>, SpawnError> {
        self.stacks.borrow_mut().take(class)
    }

    pub(crate) fn next_task_id(&self) -> u64 {
        let mut ids = self.ids.get();
        if ids.start == ids.end {
            let start = NEXT_TASK.fetch_add(ID_BATCH, Ordering::Relaxed);
            ids = Range64 { start, end: start + ID_BATCH };
        }
        self.ids.set(Range64 { start: ids.start + 1, ..ids });
        ids.start
    }

    pub(crate) fn count_spawned(&self) {
        bump(&self.processor().spawned);
    }
}

/// A next slot that was occupied while its worker ran one task.
#[derive(Clone, Copy)]
struct Stuck {
    victim: usize,
    task: *mut Control,
    ticks: u64,
}

#[cfg(all(test, feature = "hooks", not(loom)))]
mod tests {
    use super::*;
    use crate::{Runtime, spawn};

    /// The calling task begins to wait, and the wait has ended at once or not. Whether the next task of the worker takes
    /// that moment for the one in which it was switched to.
    fn is_taken_over(ended: bool) -> bool {
        Runtime::builder().workers(1).build().unwrap().run(move || {
            let next = spawn(|| current_worker().unwrap().switched_at().is_some());
            let worker = current_worker().unwrap();
            worker.begins_to_wait(Ticks::now());
            if ended {
                assert!(worker.switched_at().is_none(), "nothing was switched");
            }
            next.join().unwrap() // leaves; nobody has asked for this wait
        })
    }

    #[test]
    fn a_wait_that_ended_before_the_task_left_says_nothing_of_when_it_left() {
        assert!(is_taken_over(false));
        assert!(!is_taken_over(true));
    }
}
