//! Tasks that will never end, because their runtime has ended before, and those who join them.
//!
//! A task of the same runtime that joins an abandoned task is abandoned as well. Everybody else, a plain thread or a
//! task of another runtime, enters the register below before it waits, and is woken when the runtime ends:
//!
//! - *joined before the end*: the joiner is in the register, and the end wakes it after having noted the runtime;
//! - *joined after the end*: the joiner finds the runtime noted, and does not wait;
//! - *joined at the same moment*: both hold the register's lock, so it is one of the above;
//! - *the task ends at the same moment* (on a worker that was left in it): the completion word decides, see `completion.rs`.
//!   The joiner gets the result, or takes itself out of the word, and then the result is dropped with its slot.
//!
//! The register is the process's and not the runtime's, which may be freed when all its tasks have ended while handles
//! of tasks live on. Only joins that wait, and come from outside, take its lock; spawning and ending a task do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    error, fmt,
    sync::atomic::Ordering,
};

use parking_lot::Mutex;

use super::{TaskId, parker::Parker};
use crate::heap;

/// What [`JoinHandle::join`](super::JoinHandle::join) gives for a task whose runtime was shut down before the task
/// ended: the payload of the error, in the place of a panic's.
///
/// ```
/// use greenprof_runtime::{Runtime, sync::Chan, task::Abandoned};
///
/// let runtime = Runtime::builder().workers(1).build()?;
/// let task = runtime.handle().spawn(|| Chan::<()>::new().recv())?;
/// drop(runtime);
/// let payload = task.join().unwrap_err();
/// let abandoned = payload.downcast_ref::<Abandoned>().expect("it has not panicked");
/// assert!(abandoned.to_string().ends_with("was abandoned: its runtime was shut down before the task had ended"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned {
    pub(super) task: TaskId,
}

impl Abandoned {
    /// The task's number.
    pub fn task(&self) -> TaskId {
        self.task
    }
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} was abandoned: its runtime was shut down before the task had ended", self.task)
    }
}

impl error::Error for Abandoned {}

struct Register {
    /// The runtimes that have ended with tasks left. Each has leaked more than its number here.
    ended: BTreeSet<u32>,
    /// Who waits for a task of which runtime.
    joiners: BTreeMap<(u32, u64), Parker>,
    /// Tells joiners of the same runtime apart.
    next: u64,
}

/// The numbers of the runtimes that have ended with tasks left, in order. Those never run again, but for those that a thread is in.
pub(crate) fn ended() -> Vec<u32> {
    REGISTER.lock().ended.iter().copied().collect()
}

static REGISTER: Mutex<Register> = Mutex::new(Register { ended: BTreeSet::new(), joiners: BTreeMap::new(), next: 0 });

/// Says that no task of the runtime will go on.
pub(crate) fn tasks_of(runtime: u32) {
    let mut register = REGISTER.lock();
    heap::untracked(|| register.ended.insert(runtime));
    let joiners: Vec<Parker> = register.joiners.range((runtime, 0)..=(runtime, u64::MAX)).map(|(_, p)| *p).collect();
    drop(register);
    joiners.into_iter().for_each(Parker::unpark);
}

/// A joiner's place in the register.
pub(super) struct Lookout {
    key: (u32, u64),
}

impl Lookout {
    /// For the calling task or thread, whose parker it is; nothing for a task of the same runtime, which does not
    /// outlive the one that it joins.
    pub(super) fn new(runtime: u32, joiner: Parker) -> Option<Self> {
        if let Parker::Task(task) = joiner
            // Relaxed: a task's own, which does not change while it lives.
            && task.control().about.runtime_id.load(Ordering::Relaxed) == runtime
        {
            return None;
        }
        let mut register = REGISTER.lock();
        let key = (runtime, register.next);
        register.next += 1;
        heap::untracked(|| register.joiners.insert(key, joiner));
        Some(Self { key })
    }

    /// Whether the runtime has ended.
    pub(super) fn has_ended(&self) -> bool {
        REGISTER.lock().ended.contains(&self.key.0)
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        REGISTER.lock().joiners.remove(&self.key);
    }
}
