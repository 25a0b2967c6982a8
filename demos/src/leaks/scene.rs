//! What a program of the corpus is given: names for its tasks, gates that force an interleaving, and a way to say that it
//! can be looked at. It knows no detector.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use greenprof_runtime::{
    task::{Builder, JoinHandle, WaitReason},
    time::sleep,
    world::{self, TaskState},
    yield_now,
};

/// Which frame of the program is there when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frame {
    /// That of the function that made everything.
    Alive,
    /// None: it has returned.
    Returned,
}

impl Frame {
    /// The one with that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Alive, Self::Returned].into_iter().find(|frame| frame.name() == name)
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Returned => "returned",
        }
    }
}

/// Polls that only yield, before a poll sleeps.
const YIELDS: u32 = 64;

/// Between two polls of somebody who has yielded often.
const NAP: Duration = Duration::from_micros(200);

/// The same at a gate: others, who wait to see it asleep, look more often, and not in step with it.
const LONG_NAP: Duration = Duration::from_micros(1100);

/// Polls after which a program is given up: some three seconds. Counted, because a process may be stopped for minutes.
const PATIENCE: u32 = 10_000;

/// Waits until `condition` holds. Returns whether it does.
pub(super) fn poll(condition: impl FnMut() -> bool) -> bool {
    poll_with(NAP, condition)
}

fn poll_with(nap: Duration, mut condition: impl FnMut() -> bool) -> bool {
    for attempt in 0..PATIENCE {
        if condition() {
            return true;
        }
        if attempt < YIELDS { yield_now() } else { sleep(nap) }
    }
    condition()
}

/// Wipes the stack below the caller's frame, as far as a program's functions came. The frames of who looks will lie there,
/// and they have gaps that are never written, in which a detector that reads all of them would find what others left.
#[inline(never)]
pub(super) fn wipe() {
    let mut below = [0_usize; WIPED / size_of::<usize>()];
    std::hint::black_box(&mut below);
}

/// More than functions of the programs use, and less than what is left of the smallest stack.
const WIPED: usize = 48 << 10;

/// The surroundings of one run of a program. Clones are the same scene; a scene leads to no primitive.
#[derive(Clone)]
pub struct Scene(Arc<Inner>);

struct Inner {
    runtime_id: u32,
    forced: bool,
    /// Whether [`Scene::settled`] is the moment to look.
    looks_in_frame: bool,
    /// Tasks with greater numbers are of this scene.
    after: u64,
    stage: Box<dyn Stage>,
}

/// When to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At once.
    Now,
    /// When what is expected to be blocked is blocked, and the rest is quiet.
    AtRest,
}

/// What stands behind a scene.
pub trait Stage: Send + Sync {
    /// Looks at the program, and keeps what was found.
    fn look(&self, when: Moment);
    /// Look at it, as somebody who is not asked for the result.
    fn look_aside(&self);
    /// The program ends here, on whatever task this is.
    fn end(&self) -> !;
}

impl Scene {
    /// A scene in that runtime. What earlier scenes have left there is no part of it.
    pub(super) fn new(runtime_id: u32, forced: bool, looks_in_frame: bool, stage: Box<dyn Stage>) -> Self {
        let after = world::tasks(0).iter().map(|task| task.id.get()).max().unwrap_or(0);
        Self(Arc::new(Inner { runtime_id, forced, looks_in_frame, after, stage }))
    }

    /// Spawns a task with a name.
    #[inline(always)] // as the function that it calls, which the programs would call themselves
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        Builder::new().name(name).spawn(task).expect("there is memory for a stack")
    }

    /// Whether the interleaving is to be forced.
    pub fn forced(&self) -> bool {
        self.0.forced
    }

    /// A gate that is closed where the interleaving is forced, and open elsewhere.
    pub fn gate(&self) -> Gate {
        Gate(Arc::new(AtomicBool::new(!self.0.forced)))
    }

    /// Where the interleaving is forced: waits until so many tasks of that name wait for that.
    ///
    /// # Panics
    /// If they never do.
    #[track_caller]
    pub fn until(&self, task: &str, waits_for: WaitReason, count: usize) {
        if self.0.forced {
            let reached = poll(|| self.waiting(task, waits_for) >= count);
            assert!(reached, "{task} never came to wait for {waits_for}");
        }
    }

    /// Where the interleaving is forced: waits until that holds.
    ///
    /// # Panics
    /// If it never does.
    #[track_caller]
    pub fn until_that(&self, condition: impl FnMut() -> bool) {
        if self.0.forced {
            assert!(poll(condition), "what was waited for never came");
        }
    }

    fn waiting(&self, name: &str, waits_for: WaitReason) -> usize {
        let tasks = world::tasks(0);
        let waits = |task: &&world::TaskInfo| {
            task.runtime_id == self.0.runtime_id
                && task.id.get() > self.0.after
                && task.state == TaskState::Waiting(waits_for)
                && task.name.as_deref() == Some(name)
        };
        tasks.iter().filter(waits).count()
    }

    /// Looks, with frames of its own in which nothing of the program is left.
    fn look_when(&self, when: Moment) {
        wipe();
        self.0.stage.look(when);
    }

    /// The program has done all that it does: it may be looked at. What it made and does not use any more is dropped
    /// or moved away by now.
    pub fn settled(&self) {
        if self.0.looks_in_frame {
            self.look_when(Moment::AtRest);
        }
    }

    /// Looks at the program now, whatever state it is in.
    pub fn look(&self) {
        self.look_when(Moment::Now);
    }

    /// Takes a profile that nobody reads.
    pub fn look_aside(&self) {
        self.0.stage.look_aside();
    }

    /// Looks at the program and ends the process, on any task.
    pub fn look_and_end(&self) -> ! {
        self.look_when(Moment::AtRest);
        self.0.stage.end()
    }
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene").field("runtime_id", &self.0.runtime_id).field("forced", &self.0.forced).finish()
    }
}

/// Holds tasks back until it is opened. Who waits here polls and sleeps: to a detector it is not blocked.
#[derive(Clone, Debug)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A gate that is closed in every form.
    pub fn closed() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        // Release: pairs with the load in `is_open`; what was done before is seen behind the gate.
        self.0.store(true, Ordering::Release);
    }

    /// Waits until it is open.
    ///
    /// # Panics
    /// If it never is.
    #[track_caller]
    pub fn pass(&self) {
        assert!(poll_with(LONG_NAP, || self.is_open()), "nobody opened a gate");
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        // Acquire: pairs with the store in `open`.
        self.0.load(Ordering::Acquire)
    }
}
