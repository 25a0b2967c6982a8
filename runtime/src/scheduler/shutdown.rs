//! The end of a runtime: who may still come in, who is waited for, and what becomes of tasks that have not ended.
//!
//! 1. The *door* is closed: threads that are no workers of this runtime spawn nothing here any more. Those that are
//!    about to are waited for, so what they have spawned is counted.
//! 2. [`Runtime::shutdown_timeout`] lets the tasks go on until all have ended or its time is over; `drop` does not.
//! 3. `shutdown` is set and everybody who sleeps is woken: workers (`Idle::wake_all`), those that have retired, the
//!    monitor. A worker leaves its loop at its next look at the flag, which is when its task leaves it. The timers are
//!    stopped.
//! 4. The workers are waited for: by `drop` until all have left; by `shutdown_timeout` until all but those whose task
//!    does not leave them.
//! 5. If tasks are left, they are *abandoned*: `Shared` is leaked, for they point to it and may still be woken, and
//!    those who join them are told (`task/abandon.rs`).
//!
//! Step 5 is taken by who waits in step 4 and by the last worker that leaves, whichever is first. The last worker
//! matters when a runtime is shut down by one of its own tasks: it cannot wait for the worker that it is on, and the
//! task may still end in the stretch that it is in, so it is not abandoned before that worker has left.
//!
//! # Who may touch a runtime that ends
//!
//! Workers, handles and the timer thread's jobs own a reference to it. A waker does not: it knows the task, and the
//! task keeps the runtime only until it ends. Once the waker has queued the task, others may run it to its end and drop
//! the runtime while the waker is still looking for a worker to wake. So wakers are counted in before they queue the
//! task, and out as the last thing that they do; `Shared`'s memory is freed when none is inside.

use std::{
    fmt, io, mem,
    ops::ControlFlow,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use super::{Runtime, Shared, Worker, current_worker, figures};
use crate::{
    SpawnError, heap,
    sys::{clock, futex},
    task::{self, abandon},
    world::{
        caller,
        threads::{CREATION_FRAMES, Creation},
    },
};

/// Set in [`Door`] when it has been closed.
const CLOSED: u32 = 1 << 31;

/// Between the looks whether all tasks have ended: at first, and at the most.
const LOOKS: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(5));

/// How long beyond its timeout a shutdown waits for workers whose tasks may be about to leave them, in nanoseconds.
const ALLOWANCE: u64 = 50_000_000;

/// Lets threads in that spawn from outside, until it is closed.
pub(crate) struct Door(AtomicU32);

/// Somebody is inside.
pub(crate) struct Inside<'a>(&'a AtomicU32);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of who waits for the count to reach zero.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Door {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a moment's answer.
        self.0.load(Ordering::Relaxed) & CLOSED != 0
    }

    fn enter(&self) -> Option<Inside<'_>> {
        let open = |state| (state & CLOSED == 0).then_some(state + 1);
        // Relaxed: what is done inside is ordered by the way out.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, open).is_ok().then(|| Inside(&self.0))
    }

    /// Closes it and waits until nobody is inside.
    fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::Relaxed);
        wait_until_left(&self.0, CLOSED);
    }
}

/// Counts those who are inside and own no reference to what they use.
pub(crate) struct Visitors(AtomicU32);

impl Visitors {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn enter(&self) -> Inside<'_> {
        // Relaxed: the caller queues a task afterwards, and its end comes before the end of the runtime.
        self.0.fetch_add(1, Ordering::Relaxed);
        Inside(&self.0)
    }
}

fn wait_until_left(count: &AtomicU32, nobody: u32) {
    let mut looks = 0_u32;
    // Acquire: pairs with the Release in the drop of `Inside`.
    while count.load(Ordering::Acquire) != nobody {
        // They stay for a few instructions, unless the system does not let them run.
        looks += 1;
        if looks < 100 { thread::yield_now() } else { thread::sleep(LOOKS.0) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        wait_until_left(&self.visitors.0, 0);
        figures::leave(self);
    }
}

/// A thread that is a worker, or is about to be one. Dropped by that thread at its end.
struct Employment(Arc<Shared>);

impl Drop for Employment {
    fn drop(&mut self) {
        let shared = &self.0;
        // AcqRel: the last one sees what all have counted; pairs with itself, and with the Acquire in
        // `wait_for_workers`.
        let last = shared.employed.fetch_sub(1, Ordering::AcqRel) == 1;
        futex::wake_one(&shared.employed);
        if last && shared.shutdown.load(Ordering::SeqCst) {
            shared.abandon_tasks();
        }
    }
}

/// Where the calling code stands.
#[inline(never)]
fn creation_stack() -> Creation {
    let mut stack = [0; CREATION_FRAMES];
    let mut places = stack.iter_mut();
    caller::walk(|address| match places.next() {
        Some(place) => {
            *place = address;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    });
    stack
}

impl Shared {
    /// Starts the thread of a worker, whose processor exists or is about to.
    pub(super) fn start_worker(self: &Arc<Self>, index: usize) -> io::Result<thread::JoinHandle<()>> {
        self.employed.fetch_add(1, Ordering::Relaxed);
        let employment = Employment(self.clone());
        let creation = creation_stack();
        let work = move || {
            // Who makes a surplus worker holds this lock until its processor is there.
            employment.0.surplus.wait_until_made();
            Worker::run(employment.0.clone(), index, &creation);
        };
        // The C library remembers where the closure was for as long as the thread lives; no value of the program's should
        // come to lie there, which a leak scan would take for reachable.
        heap::untracked(|| thread::Builder::new().name(format!("greenprof-w{index}")).spawn(work))
    }

    /// Lets a thread in that is about to spawn, whichever it is.
    ///
    /// # Errors
    /// [`SpawnError::ShutDown`], unless the thread is a worker of this runtime: its tasks may need others to come to
    /// their end.
    pub(super) fn let_in(&self) -> Result<Option<Inside<'_>>, SpawnError> {
        if self.is_here() {
            return Ok(None);
        }
        self.door.enter().map(Some).ok_or(SpawnError::ShutDown)
    }

    /// Whether the caller is on a worker of this runtime.
    fn is_here(&self) -> bool {
        current_worker().is_some_and(|worker| ptr::eq(worker.shared(), self))
    }

    /// Step 3.
    fn stop(&self) {
        self.shutdown.store(true, Ordering::SeqCst);
        self.idle.wake_all();
        self.idle.dormancy().wake();
        (0..self.processors.len()).for_each(|index| self.wake_retired(index));
        self.timers.stop();
    }

    /// Waits until no more than `own` workers are left, or, once `deadline` is over, until all that are left are in a
    /// task. Returns how many more than `own` are left.
    fn wait_for_workers(&self, own: u32, deadline: u64) -> usize {
        loop {
            // Acquire: pairs with the Release in the drop of `Employment`.
            let employed = self.employed.load(Ordering::Acquire);
            if employed <= own {
                return 0;
            }
            let patience = deadline.saturating_sub(clock::now());
            if patience == 0 {
                let in_tasks = self.processors.iter().filter(|p| p.thread_in_task().is_some()).count();
                if in_tasks >= employed as usize {
                    return (employed - own) as usize;
                }
            }
            // Others are about to leave, and wake this thread.
            let patience = Duration::from_nanos(patience).max(LOOKS.1);
            futex::wait(&self.employed, employed, Some(patience));
        }
    }

    /// Step 5, unless all tasks have ended, or it has been taken before.
    fn abandon_tasks(self: &Arc<Self>) {
        if self.alive() > 0 && !self.abandoned.swap(true, Ordering::Relaxed) {
            mem::forget(self.clone());
            abandon::tasks_of(self.id);
        }
    }
}

/// What a shutdown has come to.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{Runtime, sync::Chan};
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let forgotten = Chan::<()>::new();
/// let waits = forgotten.clone();
/// runtime.handle().spawn(move || waits.recv())?;
/// let report = runtime.shutdown_timeout(Duration::from_millis(50));
/// assert_eq!(report.to_string(), "0 tasks ended, 1 were abandoned, 0 workers are still in a task");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that have ended since the shutdown began.
    pub ended: u64,
    /// Tasks that had not ended when their time was over. They never run again, but for those on
    /// [`ShutdownReport::workers_left`].
    pub abandoned: u64,
    /// Workers whose task had not left them when the time was over. Their threads go on until it does, and then end.
    pub workers_left: usize,
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ended, abandoned, workers_left } = self;
        write!(f, "{ended} tasks ended, {abandoned} were abandoned, {workers_left} workers are still in a task")
    }
}

impl Runtime {
    /// Shuts the runtime down: lets its tasks go on until all have ended, for `timeout` at the most, and stops its
    /// workers.
    ///
    /// From the call on, threads that are not workers of this runtime get [`SpawnError::ShutDown`] when they spawn.
    /// Tasks of the runtime may spawn to the end, because they may need to in order to end; they see that it is coming
    /// by [`Handle::is_shutting_down`](crate::Handle::is_shutting_down). Timers fire until the tasks have ended or the
    /// time is over.
    ///
    /// Tasks that have not ended by then are abandoned, as they are when a runtime is dropped; see [`Runtime`]. A
    /// worker whose task does not leave it is not waited for: its thread goes on with the task, and ends when the task
    /// waits, yields or ends. So this returns soon after the timeout (50 ms is the most that it gives to tasks that are
    /// about to leave), whatever the tasks do. With a timeout of zero it is like dropping the runtime, but for those
    /// workers.
    ///
    /// It looks whether all tasks have ended every 5 ms or more often. On a task of another runtime it blocks that
    /// task; on a task of this one it waits for the others, and that task goes on until it next waits, in which it is
    /// then abandoned, if it has not ended by then. It is in none of the numbers of the report.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::{Runtime, sleep};
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// let task = runtime.handle().spawn(|| sleep(Duration::from_millis(5)))?;
    /// let report = runtime.shutdown_timeout(Duration::from_secs(60));
    /// assert_eq!((report.abandoned, report.workers_left), (0, 0));
    /// assert!(task.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_timeout(mut self, timeout: Duration) -> ShutdownReport {
        let shared = self.shared.clone();
        let deadline = clock::after(timeout);
        let own = u32::from(shared.is_here());
        let ended_before = shared.finished();
        shared.door.close();
        let mut pause = LOOKS.0;
        while shared.alive() > own.into() {
            let left = Duration::from_nanos(deadline.saturating_sub(clock::now()));
            if left.is_zero() {
                break;
            }
            crate::sleep(pause.min(left));
            pause = (2 * pause).min(LOOKS.1);
        }
        shared.stop();
        let patience = deadline.max(clock::now()).saturating_add(ALLOWANCE);
        let workers_left = task::blocking(|| shared.wait_for_workers(own, patience));
        let all_left = own == 0 && workers_left == 0;
        for thread in self.take_threads() {
            if all_left || thread.is_finished() {
                let _ = thread.join();
            }
        }
        if own == 0 {
            shared.abandon_tasks();
        }
        ShutdownReport {
            ended: shared.finished() - ended_before,
            abandoned: shared.alive().saturating_sub(own.into()),
            workers_left,
        }
    }

    /// The threads, if the runtime has not been shut down before.
    fn take_threads(&mut self) -> impl Iterator<Item = thread::JoinHandle<()>> + use<> {
        mem::take(&mut self.threads).into_iter().chain(self.shared.surplus.take_threads())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        if shared.shutdown.load(Ordering::SeqCst) {
            return; // by `shutdown_timeout`
        }
        shared.door.close();
        shared.stop();
        let inside = shared.is_here();
        for thread in self.take_threads() {
            // A runtime dropped by one of its own tasks cannot wait for the worker that runs it.
            if !inside {
                let _ = thread.join();
            }
        }
        if !inside {
            shared.abandon_tasks();
        }
    }
}
