//! Reclaiming leaked tasks: they unwind from their wait as if it had panicked. Their destructors run, and stack and memory come back.
//!
//! Nothing here happens by itself: a program calls [`reclaim()`], or offers it on its port with [`register`]. What can go wrong is told
//! in `docs/leak-detection.md`; read that first.
//!
//! All tasks of a report are one step. First each is held still, if it waits in the very wait in which it was reported
//! (`greenprof_runtime::world::reclaim`), and looked at: could it be unwound (`dry_run`), does another leaked task have pointers to its
//! stack (`references`)? Those that stay are taken out of what they wait on, and only then does the first of them run. So what one
//! does in its destructors cannot come in the way of another.

mod code;
mod dry_run;
mod lsda;
mod page;
mod references;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    heap,
    task::TaskId,
    world::{
        reclaim::{Directory, NotSeized, Seized, Withdrawn, evict},
        stop::TaskMark,
    },
};
use parking_lot::Mutex;

use super::{
    report::{Leak, Report},
    watch,
};
use crate::http::{RegisterError, Registry};
use dry_run::DryRun;

/// How leaked tasks are reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How long tasks may take to unwind before they are called [`Outcome::Pending`].
    pub patience: Duration,
}

impl Default for Options {
    /// A second.
    fn default() -> Self {
        Self { patience: Duration::from_secs(1) }
    }
}

/// What has become of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has unwound and ended.
    Reclaimed,
    /// It was told to unwind and has not ended yet: a destructor waits or takes long, or the task has caught the unwinding and goes on.
    Pending,
    /// It was left alone.
    Refused(Refusal),
}

/// Why a task was left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The program was built with `panic = "abort"`.
    PanicsAbort,
    /// It has run since the report, is about to, or has ended.
    Woken,
    /// It is unwinding already, and waits in a destructor.
    Unwinding,
    /// Others use what it has lent until its wait is over: the end of a `task::scope`, or `Runtime::run` on a task.
    Lends,
    /// Its runtime has been shut down.
    ShutDown,
    /// Tasks have been reclaimed since the report, and may have made this one live.
    Outdated,
    /// A function on its stack is not Rust's, or cannot be told to be: its name, or its address.
    Foreign(String),
    /// A function on its stack must not be unwound, as those that are `extern "C"`: its name, or its address.
    NoUnwind(String),
    /// The tables for unwinding do not cover this address on its stack.
    NoTables(usize),
    /// The stack of this leaked task has a pointer to its stack.
    Referenced(TaskId),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PanicsAbort => f.write_str("the program was built with panic = \"abort\""),
            Self::Woken => f.write_str("it has run since the report, is about to, or has ended"),
            Self::Unwinding => f.write_str("it is unwinding already"),
            Self::Lends => f.write_str("others use what it has lent until its wait is over"),
            Self::ShutDown => f.write_str("its runtime has been shut down"),
            Self::Outdated => f.write_str("other tasks were reclaimed since the report: ask for a new one"),
            Self::Foreign(function) => {
                write!(f, "{function} is on its stack, which is not a Rust function with a known name")
            }
            Self::NoUnwind(function) => write!(f, "{function} is on its stack, which must not be unwound"),
            Self::NoTables(address) => write!(f, "there are no tables for unwinding at {address:#x}"),
            Self::Referenced(task) => write!(f, "the stack of leaked task {task} has a pointer to its stack"),
        }
    }
}

impl From<NotSeized> for Refusal {
    fn from(reason: NotSeized) -> Self {
        match reason {
            NotSeized::Unwinding => Self::Unwinding,
            NotSeized::Lends => Self::Lends,
            NotSeized::ShutDown => Self::ShutDown,
            // Time has a say in its wait now, so it has run.
            _ => Self::Woken,
        }
    }
}

/// What a reclaim has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclamation {
    /// The tasks, in the order of their spawning.
    pub tasks: Vec<(TaskId, Outcome)>,
}

impl Reclamation {
    /// How many have ended.
    pub fn reclaimed(&self) -> usize {
        self.tasks.iter().filter(|(_, outcome)| *outcome == Outcome::Reclaimed).count()
    }

    /// What has become of a task; `None` if it was not to be reclaimed.
    pub fn outcome(&self, task: TaskId) -> Option<&Outcome> {
        self.tasks.binary_search_by_key(&task, |(id, _)| *id).ok().map(|at| &self.tasks[at].1)
    }
}

/// Held from the first look until the last task was let go: what one reclaim finds, another must not change.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How many tasks were told to unwind since the program began.
static EVICTED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn evicted() -> u64 {
    // Relaxed: a number to show.
    EVICTED.load(Ordering::Relaxed)
}

/// Unwinds the leaked tasks of a report, and waits for them to end. The candidates of an incomplete report are left alone.
///
/// Each leaves its wait with the payload [`Reclaimed`](greenprof_runtime::task::Reclaimed), for which no panic hook is called; who joins it
/// gets that as the error. Destructors run on the task's stack. One that waits blocks its worker, for which another one stands in; one
/// that panics ends the process. `std` locks that the task holds are poisoned.
///
/// May be called on a task or on a plain thread.
///
/// ```standalone_crate
/// use greenprof_profiler::leak;
/// use greenprof_runtime::{Runtime, sync::Chan};
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// runtime.handle().spawn(|| Chan::<u32>::new().recv())?;
/// let report = leak::detect()?;
/// let reclamation = leak::reclaim(&report);
/// for (task, outcome) in &reclamation.tasks {
///     println!("task {task}: {outcome:?}");
/// }
/// assert!(reclamation.reclaimed() <= report.leaked().len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn reclaim(report: &Report) -> Reclamation {
    reclaim_if(report, &Options::default(), |_| true)
}

/// As [`reclaim()`], of those leaked tasks only that `wanted` names.
pub fn reclaim_if(report: &Report, options: &Options, wanted: impl Fn(&Leak) -> bool) -> Reclamation {
    let leaks: Vec<&Leak> = report.leaked().iter().filter(|leak| wanted(leak)).collect();
    let (mut outcomes, pending) = let_go(report, &leaks);
    let ended = wait(&pending, options.patience);
    for (id, ended) in pending.iter().map(|(id, _)| *id).zip(ended) {
        outcomes.insert(id, if ended { Outcome::Reclaimed } else { Outcome::Pending });
    }
    let mut tasks: Vec<(TaskId, Outcome)> = outcomes.into_iter().collect();
    tasks.sort_by_key(|(id, _)| *id);
    Reclamation { tasks }
}

type Outcomes = HashMap<TaskId, Outcome>;
type Pending = Vec<(TaskId, TaskMark)>;

/// Everything up to the moment when the tasks run: who was refused, and who was let go.
fn let_go(report: &Report, leaks: &[&Leak]) -> (Outcomes, Pending) {
    let mut outcomes = Outcomes::new();
    let mut refuse = |id: TaskId, refusal: Refusal| {
        outcomes.insert(id, Outcome::Refused(refusal));
    };
    if !cfg!(panic = "unwind") {
        leaks.iter().for_each(|leak| refuse(leak.id(), Refusal::PanicsAbort));
        return (outcomes, Pending::new());
    }
    let _one = ONE_AT_A_TIME.lock();
    let mut withdrawn: Vec<Withdrawn> = Vec::new();
    let mut pending = Pending::new();
    heap::untracked(|| {
        let outdated = report.reclaims != watch::reclaims();
        // All of the report: who is not to be reclaimed may have pointers, too.
        let mut held: Vec<(Seized, &Leak, bool)> = Vec::new();
        let wanted: HashMap<TaskId, &Leak> = leaks.iter().map(|leak| (leak.id(), *leak)).collect();
        for leak in report.leaked() {
            let is_wanted = wanted.contains_key(&leak.id());
            match leak.mark.seize() {
                Ok(_) if outdated && is_wanted => refuse(leak.id(), Refusal::Outdated),
                Ok(seized) => held.push((seized, leak, is_wanted)),
                Err(reason) if is_wanted => refuse(leak.id(), reason.into()),
                Err(_) => {}
            }
        }
        let referenced =
            references::find(&held.iter().map(|(seized, ..)| (seized.id(), seized.frames())).collect::<Vec<_>>());
        let mut dry_run = DryRun::new();
        let mut fit = Vec::new();
        for (seized, leak, is_wanted) in held {
            // Those that are not wanted are let go here, too.
            if !is_wanted {
                continue;
            }
            let refusal = match referenced.get(&seized.id()) {
                Some(by) => Some(Refusal::Referenced(*by)),
                None => dry_run.of(&seized).err(),
            };
            match refusal {
                Some(refusal) => refuse(leak.id(), refusal),
                None => fit.push((seized, leak)),
            }
        }
        let mut directory = Directory::default();
        for (seized, leak) in fit {
            match seized.withdraw(&mut directory) {
                Ok(task) => {
                    withdrawn.push(task);
                    pending.push((leak.id(), leak.mark));
                }
                Err(reason) => refuse(leak.id(), reason.into()),
            }
        }
        if !withdrawn.is_empty() {
            watch::forget();
        }
    });
    let count = evict(withdrawn);
    // Relaxed: a number to show.
    EVICTED.fetch_add(count as u64, Ordering::Relaxed);
    (outcomes, pending)
}

/// Waits until all have ended, for so long at the most. Which have.
fn wait(tasks: &Pending, patience: Duration) -> Vec<bool> {
    let began = Instant::now();
    let mut ended = vec![false; tasks.len()];
    // A cursor, so that many tasks are not looked at again and again.
    let mut first = 0;
    loop {
        while first < tasks.len() && tasks[first].1.has_ended() {
            first += 1;
        }
        if first == tasks.len() || began.elapsed() >= patience {
            break;
        }
        greenprof_runtime::sleep(LOOK);
    }
    for (ended, (_, mark)) in ended.iter_mut().zip(tasks) {
        *ended = mark.has_ended();
    }
    ended
}

/// Between two looks whether tasks have ended.
const LOOK: Duration = Duration::from_millis(1);

/// Offers reclaiming on a port: POST `/debug/greenprof/reclaim` detects, and reclaims all tasks that are leaked or those that the body
/// names (`{"tasks": [7, 9]}`). As everything that changes something, it needs the port's token or the header `X-Greenprof`. No
/// registry has it unless this is called.
///
/// # Errors
/// If there is a page of that path.
pub fn register(registry: &Registry) -> Result<(), RegisterError> {
    registry.register_page(Arc::new(page::ReclaimPage))
}
