//! The contract between the runtime and whoever watches it.
//!
//! An [`Instrument`] says which kinds of events it wants and is called at each, on the thread where it happens. Without
//! one, an instrumentation point costs one relaxed load and one branch that is not taken, which
//! `tests/tests/hooks_off.rs` sees in the machine code; a build without the feature `hooks` has none at all, and is the
//! baseline against which that cost is measured.
//!
//! # What a hook may do
//!
//! Hooks run inside the scheduler. The table says where, and what is allowed there:
//!
//! | method | runs on | may allocate | may park | may take a lock | sampled by signals |
//! |---|---|---|---|---|---|
//! | `task_spawned` | the spawner: task, or any thread | yes | no | its own, briefly | yes |
//! | `task_resumed`, `task_left` | worker, on its own stack | yes | no | its own, briefly | yes |
//! | `task_woken` | the waker: task, worker, any thread; a primitive's lock may be held | yes | no | its own, briefly | yes |
//! | `thread_waits` | a thread that runs no task, before its wait, no lock held | no | no | its own, briefly | yes |
//! | `waited` | the waiter, after its wait, no lock held | no | no | its own, briefly | yes |
//! | `unlocked` | the unlocker, after it has woken the waiter, no lock held | no | no | its own, briefly | yes |
//! | `worker_started`, `worker_stopping` | worker, on its own stack | yes | no | yes | yes |
//! | `worker_searching`, `worker_sleeping`, `worker_woke` | worker, on its own stack | yes | no | its own, briefly | yes |
//! | `blocking_began`, `blocking_ended` | the task that blocks | yes | no | its own, briefly | yes |
//! | `labels_changed` | the task | yes | no | its own, briefly | yes |
//! | `world_stopping`, `world_released` | who stops the world, before and after | yes | no | yes | yes |
//!
//! A hook that may not allocate may still do so in an [`untracked`](crate::heap::untracked) scope.
//!
//! "Its own" means a lock, such as [`Lock`], that no code takes which could call into the runtime while holding it. A hook must not wait on
//! a primitive of this crate, must not spawn, and must not panic: it would unwind through the scheduler, so the process
//! aborts.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use greenprof_runtime::{Runtime, hooks::{self, Instrument, Interest, TaskView}, spawn};
//!
//! struct Spawns(AtomicU64);
//! impl Instrument for Spawns {
//!     fn task_spawned(&self, _task: TaskView) {
//!         self.0.fetch_add(1, Ordering::Relaxed);
//!     }
//! }
//!
//! static SPAWNS: Spawns = Spawns(AtomicU64::new(0));
//! let installed = hooks::install(&SPAWNS, Interest::SPAWN)?;
//! Runtime::builder().workers(1).build()?.run(|| spawn(|| ()).join().unwrap());
//! drop(installed);
//! assert!(SPAWNS.0.load(Ordering::Relaxed) >= 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "hooks")]
mod delays;
mod lock;
#[cfg(not(feature = "hooks"))]
mod mock;
#[cfg(feature = "hooks")]
mod real;

use std::{
    any::Any,
    ops::{ControlFlow, Range},
    sync::atomic::Ordering,
};

use thiserror::Error;

#[cfg(not(feature = "hooks"))]
use mock as imp;
#[cfg(feature = "hooks")]
use real as imp;

pub(crate) use imp::{
    Delays, all_of, blocking_began, blocking_ended, labels_changed, lock_clock, task_left, task_resumed, task_spawned,
    task_woken, unlocked, wait_begin, wait_end, worker_searching, worker_sleeping, worker_started, worker_stopping,
    worker_woke, world_released, world_stopping,
};
pub use imp::{Installed, install};
pub use lock::{Lock, LockGuard};

use crate::{
    labels::LabelSet,
    task::{
        TaskId, WaitReason,
        control::{NAME_BYTES, TaskRef},
        switch,
    },
    world::unwind,
};
pub use crate::{sys::slice::take_short_slices, world::threads::WorkerThread};

/// How many different instruments a process can have.
pub const MAX_INSTRUMENTS: usize = 16;

/// Which kinds of events an instrument wants.
///
/// ```
/// use greenprof_runtime::hooks::Interest;
///
/// let both = Interest::SPAWN.and(Interest::WAIT);
/// assert_ne!(both, Interest::SPAWN);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u32);

impl Interest {
    /// `task_spawned`.
    pub const SPAWN: Self = Self(1);
    /// `task_resumed`, `task_left` and `task_woken`: every scheduling decision.
    pub const SCHEDULE: Self = Self(2);
    /// `waited` and `thread_waits`: every wait that has ended, and those of threads when they begin.
    pub const WAIT: Self = Self(4);
    /// The same, only of waits that an unlock ends: for a mutex, a reader-writer lock, the body of a once. Other waits are not timed then.
    pub const LOCK_WAIT: Self = Self(512);
    /// `worker_started` and `worker_stopping`.
    pub const WORKER: Self = Self(8);
    /// `worker_searching`, `worker_sleeping` and `worker_woke`.
    pub const IDLE: Self = Self(32);
    /// `blocking_began` and `blocking_ended`.
    pub const BLOCKING: Self = Self(64);
    /// `labels_changed`.
    pub const LABELS: Self = Self(128);
    /// `world_stopping` and `world_released`.
    pub const WORLD: Self = Self(256);

    /// `unlocked`: every unlock that ends a wait.
    pub const CONTENTION: Self = Self(16);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[cfg_attr(not(feature = "hooks"), expect(dead_code, reason = "no event asks"))]
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

/// Why a task has left its worker.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use greenprof_runtime::{Runtime, hooks::{self, Instrument, Interest, Left, TaskView}, yield_now};
///
/// struct Yields(AtomicU64);
/// impl Instrument for Yields {
///     fn task_left(&self, _task: TaskView, left: Left) {
///         self.0.fetch_add(u64::from(left == Left::Yields), Ordering::Relaxed);
///     }
/// }
///
/// static YIELDS: Yields = Yields(AtomicU64::new(0));
/// let installed = hooks::install(&YIELDS, Interest::SCHEDULE)?;
/// Runtime::builder().workers(1).build()?.run(|| (0..3).for_each(|_| yield_now()));
/// drop(installed);
/// assert_eq!(YIELDS.0.load(Ordering::Relaxed), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It waits. If it was woken before it had left, `task_woken` follows at once, on this worker.
    Waits,
    /// It has yielded, and is runnable.
    Yields,
    /// It has ended.
    Ended,
}

/// A task at the moment of an event.
///
/// ```
/// use std::sync::Mutex;
/// use greenprof_runtime::{Runtime, heap, hooks::{self, Instrument, Interest, TaskView}, task};
///
/// struct Names(Mutex<Vec<String>>);
/// impl Instrument for Names {
///     fn task_spawned(&self, task: TaskView) {
///         heap::untracked(|| self.0.lock().unwrap().extend(task.name()));
///     }
/// }
///
/// static NAMES: Names = Names(Mutex::new(Vec::new()));
/// let installed = hooks::install(&NAMES, Interest::SPAWN)?;
/// Runtime::builder().workers(1).build()?.run(|| {
///     task::Builder::new().name("price-feed").spawn(|| ()).expect("memory").join().unwrap();
/// });
/// drop(installed);
/// assert_eq!(*NAMES.0.lock().unwrap(), ["main", "price-feed"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskView(TaskRef);

#[cfg_attr(not(feature = "hooks"), expect(dead_code, reason = "no event makes one"))]
impl TaskView {
    pub(crate) fn new(task: TaskRef) -> Self {
        Self(task)
    }
}

impl TaskView {
    /// The task's number.
    #[inline]
    pub fn id(&self) -> TaskId {
        TaskId(self.0.control().about.id.load(Ordering::Relaxed))
    }

    /// The number of the task that spawned it; 0 if a thread did.
    pub fn parent(&self) -> u64 {
        self.0.control().about.parent.load(Ordering::Relaxed)
    }

    /// The runtime it belongs to.
    pub fn runtime_id(&self) -> u32 {
        self.0.control().about.runtime_id.load(Ordering::Relaxed)
    }

    /// Its labels.
    #[inline]
    pub fn labels(&self) -> LabelSet {
        LabelSet::from_index(self.0.control().labels.load(Ordering::Relaxed))
    }

    /// What it waits for; meaningful in `task_woken`, and in `task_left` of a task that waits.
    #[inline]
    pub fn wait_reason(&self) -> WaitReason {
        self.0.control().wait_reason()
    }

    /// How often the task, and those that used its control block before, have been resumed. It tells in which order events on
    /// several threads have happened: `task_woken` has the number of the run that the wait has ended, `task_resumed` the next.
    #[inline]
    pub fn runs(&self) -> u64 {
        self.0.control().epoch().div_ceil(2)
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<String> {
        self.0.control().about.name(&mut [0; NAME_BYTES]).map(str::to_owned)
    }

    /// The type of the closure that it runs, as [`std::any::type_name`] has it.
    pub fn closure_name(&self) -> &'static str {
        self.0.control().about.closure_name()
    }

    /// Where it was spawned.
    pub fn spawn_site(&self) -> Option<&'static std::panic::Location<'static>> {
        self.0.control().about.spawn_site()
    }

    /// Its stack, lowest address first.
    #[inline]
    pub fn stack(&self) -> Range<usize> {
        self.0.control().stack()
    }

    /// Gives the addresses at which the task will continue to `emit`, innermost first. Only in `task_left`, and not of a
    /// task that has ended: in any other event it may be running.
    #[inline]
    pub fn walk(&self, mut emit: impl FnMut(usize) -> ControlFlow<()>) {
        let control = self.0.control();
        let bounds = control.stack();
        let sp = control.sp.load(Ordering::Relaxed);
        if !bounds.contains(&(sp as usize)) {
            return;
        }
        // SAFETY: the task has saved its context there, and continues only after this event.
        let frame = unsafe { switch::saved_frame(sp) };
        if emit(frame.pc).is_continue() {
            // SAFETY: a task's stack stays mapped.
            unsafe { unwind::walk(frame.frame_pointer, &bounds, emit) };
        }
    }
}

/// A watcher of the runtime. Every method does nothing unless it is overridden; see the module's table for what the
/// methods may do.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use greenprof_runtime::{Runtime, hooks::{self, Instrument, Interest}, spawn, sync::Chan, task::WaitReason};
///
/// /// How often somebody has waited for a channel.
/// struct Waits(AtomicU64);
/// impl Instrument for Waits {
///     fn waited(&self, reason: WaitReason, _nanoseconds: u64) {
///         if matches!(reason, WaitReason::ChanReceive | WaitReason::ChanSend) {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// static WAITS: Waits = Waits(AtomicU64::new(0));
/// let installed = hooks::install(&WAITS, Interest::WAIT)?;
/// Runtime::builder().workers(1).build()?.run(|| {
///     let answers = Chan::new();
///     let asked = answers.clone();
///     let task = spawn(move || asked.send(42));
///     assert_eq!(answers.recv(), Some(42));
///     task.join().unwrap().unwrap();
/// });
/// drop(installed);
/// assert!(WAITS.0.load(Ordering::Relaxed) >= 1, "one of the two has waited for the other");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Instrument: Any + Sync {
    /// A task has been made and is about to be queued.
    fn task_spawned(&self, _task: TaskView) {}
    /// A worker is about to switch to a task.
    fn task_resumed(&self, _task: TaskView) {}
    /// A task has switched back to its worker.
    fn task_left(&self, _task: TaskView, _left: Left) {}
    /// A waiting task has become runnable.
    fn task_woken(&self, _task: TaskView) {}
    /// A thread that runs no task begins to wait for a primitive; `waited`, on the same thread, ends that. Tasks that
    /// wait are in [`world::tasks`](crate::world::tasks()).
    fn thread_waits(&self, _reason: WaitReason) {}
    /// The caller has waited so many nanoseconds for a primitive. Waits that began before the instrument was installed
    /// are not told.
    fn waited(&self, _reason: WaitReason, _nanoseconds: u64) {}
    /// The caller has unlocked a lock, or ended the body of a once, and somebody who waited for that has got his turn.
    /// The delay, in nanoseconds: of a mutex, what all who wait have waited, without what earlier unlocks were told; of
    /// the others, what those who are woken have waited. So each nanosecond of each waiter is told once.
    fn unlocked(&self, _delay: u64) {}
    /// A worker has started.
    fn worker_started(&self, _worker: &'static WorkerThread) {}
    /// A worker is about to end.
    fn worker_stopping(&self, _worker: &'static WorkerThread) {}
    /// A worker has no task of its own to run next, and looks for one elsewhere.
    fn worker_searching(&self, _worker: &'static WorkerThread) {}
    /// A worker is about to sleep, until there is a task for it.
    fn worker_sleeping(&self, _worker: &'static WorkerThread) {}
    /// A worker has slept.
    fn worker_woke(&self, _worker: &'static WorkerThread) {}
    /// The calling task is about to block its thread, and has said so.
    fn blocking_began(&self, _task: TaskView) {}
    /// The calling task does not block its thread any more.
    fn blocking_ended(&self, _task: TaskView) {}
    /// The calling task has other labels.
    fn labels_changed(&self, _task: TaskView) {}
    /// The caller is about to stop the world.
    fn world_stopping(&self) {}
    /// The world that the caller has stopped runs again.
    fn world_released(&self) {}
}

/// Why an instrument could not be installed.
///
/// ```
/// use greenprof_runtime::hooks::{self, InstallError, Instrument, Interest};
///
/// struct Nothing(u8);
/// impl Instrument for Nothing {}
///
/// static NOTHING: Nothing = Nothing(0);
/// let installed = hooks::install(&NOTHING, Interest::SPAWN)?;
/// assert_eq!(hooks::install(&NOTHING, Interest::WAIT).err(), Some(InstallError::Installed));
/// drop(installed);
/// # Ok::<(), InstallError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InstallError {
    /// The instrument is installed already: one at this address and of this type.
    #[error("this instrument is installed already: drop what `install` gave before")]
    Installed,
    /// There are [`MAX_INSTRUMENTS`] others.
    #[error("this process has had {MAX_INSTRUMENTS} different instruments, and cannot have more")]
    TooMany,
    /// The crate was built without its feature `hooks`.
    #[error("this program was built without hooks: enable the feature `hooks` of greenprof-runtime")]
    Disabled,
}
