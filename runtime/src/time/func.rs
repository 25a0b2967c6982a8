//! Running a closure in a task of its own, later.
//!
//! The closure stays in the job, which the armed entry and the handle share, until the task takes it out. So the timer
//! thread, which spawns the task, never owns it, not even when the spawn fails:
//!
//! ```text
//!   ARMED ── fire: spawned ──▶ STARTED        the task takes the closure
//!    │ ▲ ▲─── fire: no memory ── ARMED        again after a pause
//!    │ │ └─── reset
//!    └─┴───── stop ─────────▶ STOPPED         the closure is dropped with the handle
//! ```

use std::{
    fmt,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::timers::{Action, Alarm, TimerId};
use crate::{
    Handle, SpawnError,
    labels::{self, LabelSet},
    scheduler::{Shared, current_worker},
    sys::clock,
    task,
};

/// How long the timer thread waits before it tries again to spawn a task for which there was no memory, in nanoseconds:
/// long enough for tasks to end, and seldom enough to cost nothing.
const RETRY: u64 = 10_000_000;

type Closure = Box<dyn FnOnce() + Send>;

struct Job {
    shared: Arc<Shared>,
    site: &'static Location<'static>,
    /// Of the caller of `after_func`: the task inherits them as if it had been spawned there.
    labels: LabelSet,
    /// Guards the phase and the closure. Taken before a wheel's lock. The closure is never dropped under it.
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Nothing once the task has taken it.
    closure: Option<Closure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Armed(TimerId),
    Stopped,
    Started,
}

impl Job {
    /// What is to be dropped after unlocking, if the runtime has shut down.
    fn arm(self: &Arc<Self>, state: &mut State, deadline: u64) -> Option<Action> {
        match self.shared.timers.arm(deadline, Action::Fire(self.clone())) {
            Ok(id) => {
                state.phase = Phase::Armed(id);
                None
            }
            Err(action) => {
                state.phase = Phase::Stopped;
                Some(action)
            }
        }
    }

    /// Whether it was armed.
    fn disarm(&self, state: &mut State) -> bool {
        let Phase::Armed(id) = state.phase else { return false };
        state.phase = Phase::Stopped;
        // What it gives back is a reference to this job, which the caller has as well.
        drop(self.shared.timers.disarm(id));
        true
    }

    /// The body of the task. A panic has been reported by the panic hook; the payload is dropped here, by the task.
    fn run(self: Arc<Self>) {
        let closure = self.state.lock().closure.take();
        drop(self);
        if let Some(closure) = closure {
            drop(catch_unwind(AssertUnwindSafe(closure)));
        }
    }
}

impl Alarm for Job {
    fn fire(self: Arc<Self>, id: TimerId, _deadline: u64) {
        {
            let mut state = self.state.lock();
            if state.phase != Phase::Armed(id) {
                // Stopped or armed anew in this moment. The closure has another owner, see `FuncTimer::drop`.
                return;
            }
            state.phase = Phase::Started;
        }
        let job = self.clone();
        labels::set_current(self.labels);
        let spawned = task::Builder::new().spawn_on(&self.shared, self.site, move || job.run());
        labels::set_current(LabelSet::default());
        let unused = match spawned {
            Ok(_) => None,
            Err(SpawnError::ShutDown) => Some(Action::Fire(self.clone())),
            Err(_) => self.arm(&mut self.state.lock(), clock::now() + RETRY),
        };
        if let Some(action) = unused {
            self.shared.timers.abandon(action);
        }
    }
}

/// A closure that will run in a task of its own. See [`after_func`].
///
/// Dropping it does not stop the timer.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{Runtime, sync::Chan, time};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let done = Chan::new();
///     let told = done.clone();
///     let timer = time::after_func(Duration::from_secs(3600), move || told.send("ran").expect("open"));
///     assert!(timer.reset(Duration::from_millis(1)), "it was armed, and is so again");
///     assert_eq!(done.recv(), Some("ran"));
///     assert!(!timer.stop(), "too late");
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub struct FuncTimer {
    job: Arc<Job>,
}

impl FuncTimer {
    /// Keeps the closure from being run. Returns whether that succeeded: `false` when its task has been started (it may
    /// have ended, run, or be about to) or it was stopped before. Does not wait for the task.
    pub fn stop(&self) -> bool {
        self.job.disarm(&mut self.job.state.lock())
    }

    /// Runs the closure `duration` from now, and not when it would have been. Returns whether it was armed.
    ///
    /// A stopped timer is armed again. One whose task has been started has no closure any more: nothing happens.
    pub fn reset(&self, duration: Duration) -> bool {
        let mut state = self.job.state.lock();
        let was_armed = self.job.disarm(&mut state);
        let unused = match state.phase {
            Phase::Started => None,
            _ => self.job.arm(&mut state, clock::after(duration)),
        };
        drop(state);
        drop(unused);
        was_armed
    }
}

impl Drop for FuncTimer {
    fn drop(&mut self) {
        // Nobody can arm a stopped timer any more, so its closure goes here, on the user's side: the timer thread might
        // hold the last reference to the job, if the timer was stopped just when it fired.
        let mut state = self.job.state.lock();
        let closure = if state.phase == Phase::Stopped { state.closure.take() } else { None };
        drop(state);
        drop(closure);
    }
}

impl fmt::Debug for FuncTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.job.state.lock().phase {
            Phase::Armed(_) => "armed",
            Phase::Stopped => "stopped",
            Phase::Started => "started",
        };
        f.debug_struct("FuncTimer").field("phase", &phase).finish_non_exhaustive()
    }
}

/// Runs a closure in a task of its own, `duration` from now, on the runtime of the calling task.
///
/// The task inherits the labels of the caller. A panic in it is reported and ends the task, as in any task that nobody
/// joins. When the runtime is dropped before, the closure is dropped with it, by the thread that does so.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{Runtime, sync::Chan, time};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let done = Chan::new();
///     let told = done.clone();
///     time::after_func(Duration::from_millis(1), move || told.send("ran").expect("open"));
///     assert_eq!(done.recv(), Some("ran"));
///
///     let never = time::after_func(Duration::from_secs(3600), || unreachable!());
///     assert!(never.stop());
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
///
/// # Panics
/// Outside a runtime, where [`Handle::after_func`] says which one is meant; or if the system has no thread for timers.
#[track_caller]
pub fn after_func(duration: Duration, closure: impl FnOnce() + Send + 'static) -> FuncTimer {
    let worker = current_worker().expect("`after_func` was called outside a runtime: use `Handle::after_func`");
    schedule(worker.shared_arc(), Location::caller(), duration, Box::new(closure))
}

impl Handle {
    /// Runs a closure in a task of its own, `duration` from now. Like [`after_func`], from any thread.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::{Runtime, sync::Chan};
    ///
    /// let runtime = Runtime::builder().workers(1).build()?;
    /// let done = Chan::new();
    /// let told = done.clone();
    /// runtime.handle().after_func(Duration::from_millis(1), move || told.send("ran").expect("open"));
    /// assert_eq!(done.recv(), Some("ran"));
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// If the system has no thread for timers.
    #[track_caller]
    pub fn after_func(&self, duration: Duration, closure: impl FnOnce() + Send + 'static) -> FuncTimer {
        schedule(&self.0, Location::caller(), duration, Box::new(closure))
    }
}

fn schedule(shared: &Arc<Shared>, site: &'static Location<'static>, duration: Duration, closure: Closure) -> FuncTimer {
    let state = Mutex::new(State { phase: Phase::Stopped, closure: Some(closure) });
    let job = Arc::new(Job { shared: shared.clone(), site, labels: labels::current_set(), state });
    let timer = FuncTimer { job };
    timer.reset(duration);
    timer
}
