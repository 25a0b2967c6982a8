//! Stopping every thread of the process, to look at all of its memory while nothing changes.
//!
//! [`stop()`] sends each thread a real-time signal, whose handler publishes the thread's registers and sleeps. When all
//! sleep, the closure runs on the caller's thread; then all go on. `README.md` in this folder has the argument why no
//! thread can be missed, and what happens to threads that cannot be stopped.
//!
//! # What the closure may do
//! Other threads are stopped anywhere: inside `malloc`, with any lock held, half-way through a write. So the closure must
//! not allocate or free, lock, print, panic, spawn, or wait for anything; it must not call into code that it does not know.
//! It may read memory, use what [`Stopped`] offers, and write to memory that it has made ready before. Breaking this rule
//! can hang the process, and [`inside`] helps an allocator to notice.
//!
//! # What the program notices
//! The pause, and system calls that end with EINTR as after any signal with a handler (most are restarted). The calling
//! thread blocks all signals meanwhile.
//!
//! ```
//! use std::time::Duration;
//! use greenprof_runtime::world;
//!
//! let stop = world::stop(Duration::from_millis(100), |world| world.threads().count())?;
//! assert!(stop.value >= 1);
//! println!("{} threads, stopped for {:?}, complete: {}", stop.value, stop.pause.stopped, stop.complete);
//! # Ok::<(), greenprof_runtime::world::stop::StopError>(())
//! ```

mod census;
mod fork;
mod frame;
mod helpers;
mod mappings;
mod pauses;
mod proc;
mod registers;
mod signal;
mod slot;
mod table;
mod task;
mod thread;
mod tls;
mod wait;

use std::{cell::Cell, io, marker::PhantomData, ops::Range, time::Duration};

use thiserror::Error;

pub use fork::{Ended, Fork};
pub use helpers::{Helpers, fetch, let_others_run};
pub use mappings::Mapping;
pub use pauses::{Distribution, Pauses, pauses};
pub use registers::{Preserved, preserved};
pub use signal::{DEFAULT_SIGNAL, use_signal};
pub use task::Task;
pub use thread::{Missed, Stack, StackKind, Thread, ThreadState};
pub use wait::{Queued, StackSlot, TaskMark, stack_slots};

use super::{tasks, threads};
use crate::{
    hooks,
    sync::Primitive,
    sys::{clock, memory::PAGE, raw},
    task::{park::ParkState, stack::slab::Slab},
};
use census::{Census, Verdict};
use slot::Slot;
use table::Held;

/// Why the world was not stopped. Nothing is stopped then, and the closure has not been called.
#[derive(Debug, Error)]
pub enum StopError {
    /// Called by the closure of a stop, or by a signal handler that has interrupted one.
    #[error("the world is being stopped by this thread already")]
    Nested,
    /// The program has a handler for the signal, or has taken ours away.
    #[error(
        "signal {signal}, which is to stop threads, is used by the program: choose another with `world::stop::use_signal`"
    )]
    SignalTaken {
        /// The number of the signal.
        signal: i32,
    },
    /// Not a real-time signal.
    #[error("there is no signal SIGRTMIN + {offset}: choose from 0 to {most}")]
    NoSuchSignal {
        /// What was asked for.
        offset: i32,
        /// The largest offset.
        most: i32,
    },
    /// The signal was chosen after the first stop.
    #[error("the signal that stops threads cannot be changed after the first stop")]
    Chosen,
    /// The system refuses a handler.
    #[error("no handler could be installed for the signal that stops threads: {0}")]
    Signal(#[source] io::Error),
    /// The system refuses memory for the table of threads.
    #[error("no memory for the table of threads: {0}")]
    Memory(#[source] io::Error),
    /// The list of threads cannot be read.
    #[error("the list of threads cannot be read from /proc/self/task: {0}")]
    Threads(#[source] io::Error),
}

/// How long a request tries.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::world::{self, Patience};
///
/// let patience = Patience { deadline: Duration::from_millis(200), attempts: 2 };
/// let stop = world::stop(patience, |world| world.complete())?;
/// assert_eq!(stop.value, stop.complete);
/// assert!(stop.pause.attempts <= 2);
/// # Ok::<(), greenprof_runtime::world::stop::StopError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long one attempt may take until all threads are stopped; those already stopped wait meanwhile. There is one
    /// deadline for all threads, because it bounds the pause.
    pub deadline: Duration,
    /// How many attempts are made, at least one. Between two of them the world runs, so that a thread that could not be stopped because it
    /// waited for a stopped one gets on.
    pub attempts: u32,
}

impl Default for Patience {
    /// Three attempts of 50 ms: starting a process, which cannot be interrupted, takes 1 to 5 ms.
    fn default() -> Self {
        Self { deadline: Duration::from_millis(50), attempts: 3 }
    }
}

impl From<Duration> for Patience {
    /// The deadline, and the default number of attempts.
    fn from(deadline: Duration) -> Self {
        Self { deadline, ..Self::default() }
    }
}

/// How long a stop took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// From the first signal of the last attempt until all were stopped, or it was given up.
    pub stopping: Duration,
    /// From the first signal of the last attempt until the release.
    pub stopped: Duration,
    /// Threads that were stopped, without the caller's.
    pub threads: usize,
    /// Attempts that were made.
    pub attempts: u32,
}

/// What a stop gave.
#[derive(Clone, Copy, Debug)]
pub struct Stop<R> {
    /// What the closure returned.
    pub value: R,
    /// See [`Stopped::complete`].
    pub complete: bool,
    /// How long it took.
    pub pause: Pause,
}

/// The world while it is stopped.
pub struct Stopped<'w> {
    held: &'w Held,
    complete: bool,
    here: registers::Preserved,
    thread_pointer: usize,
    process: i32,
    /// The process whose memory is read: this one, or in a copy of it, that.
    readable: Cell<i32>,
    modules: &'w tls::Modules,
    /// The number of mappings read, once they have been.
    mappings: Cell<Option<usize>>,
    /// What is behind the lock is used without another one: the caller's thread only.
    _here: PhantomData<*mut ()>,
}

/// How long the world runs between two attempts, times the number of attempts made.
const BETWEEN: Duration = Duration::from_millis(1);

/// Stops every other thread of the process, calls `look`, and lets all go on. May be called on any thread, in a task or
/// not; requests of several threads come one after another. `look` must keep the rules of this module, and runs even if
/// the stop is not complete.
///
/// Costs some 10 us a thread, more if threads have to wait for a processor to notice, and what `look` takes. A thread
/// that cannot be stopped takes all of the patience. Stops that follow each other at once are kept apart until those who were stopped
/// have run, at least 0.1 ms and at most the patience's deadline.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{Runtime, sync::Chan, world};
///
/// let (runtime, gate) = (Runtime::builder().workers(1).build()?, Chan::<()>::new());
/// let waits = gate.clone();
/// runtime.handle().spawn(move || waits.recv())?;
/// // Nothing may be allocated or locked inside: counting is fine.
/// let stop = world::stop(Duration::from_millis(100), |world| world.tasks().count())?;
/// assert_eq!(stop.value, 1);
/// gate.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`StopError`].
pub fn stop<R>(patience: impl Into<Patience>, look: impl FnOnce(&Stopped<'_>) -> R) -> Result<Stop<R>, StopError> {
    let Patience { deadline, attempts } = patience.into();
    let (signal, table) = signal::install()?;
    // Takes the loader's lock, which must not wait for ours.
    let modules = tls::modules();
    let held = table.lock().ok_or(StopError::Nested)?;
    let _told = Told::begin();
    for attempt in 1.. {
        let attempt_made = Attempt::make(&held, signal, deadline)?;
        if !attempt_made.complete && attempt < attempts {
            drop(attempt_made);
            raw::sleep(BETWEEN * attempt);
            continue;
        }
        let here = registers::preserved();
        let world = Stopped {
            held: &held,
            complete: attempt_made.complete,
            here,
            thread_pointer: raw::thread_pointer(),
            process: raw::process_id(),
            readable: Cell::new(raw::process_id()),
            modules: &modules,
            mappings: Cell::new(None),
            _here: PhantomData,
        };
        let value = look(&world);
        let complete = attempt_made.complete;
        let pause = Pause { attempts: attempt, ..attempt_made.end() };
        pauses::add_request(complete, attempt - 1);
        return Ok(Stop { value, complete, pause });
    }
    unreachable!("the last attempt returns")
}

/// Whether the caller runs in the closure of a stop. A few ns; may be called anywhere, for example by an allocator that wants
/// to find those who break the rules.
pub fn inside() -> bool {
    table::table().is_some_and(table::Table::is_held_here)
}

/// Tells instruments of a stop: before the first thread stops, and when all run again.
struct Told;

impl Told {
    fn begin() -> Self {
        hooks::world_stopping();
        Self
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        hooks::world_released();
    }
}

/// One attempt: the world is stopped, or partly, until this is dropped.
struct Attempt<'a> {
    held: &'a Held,
    began: u64,
    stopping: Duration,
    complete: bool,
    signals: u64,
}

impl<'a> Attempt<'a> {
    fn make(held: &'a Held, signal: i32, deadline: Duration) -> Result<Self, StopError> {
        held.let_others_on(clock::after(deadline));
        let signals = raw::block_signals();
        let began = clock::now();
        let mut census = match Census::begin(held, signal) {
            Ok(census) => census,
            Err(error) => {
                raw::set_signals(signals);
                return Err(error);
            }
        };
        let complete = census.run(clock::after(deadline)) && !census.overflow;
        for worker in threads::all() {
            if let Some(slot) = held.table.find(worker.thread_id()) {
                slot.worker.store(std::ptr::from_ref(worker).cast_mut(), std::sync::atomic::Ordering::Relaxed);
            }
        }
        Ok(Self { held, began, stopping: since(began), complete, signals })
    }

    /// Lets all go, and tells how long they were stopped.
    fn end(self) -> Pause {
        let threads = self.held.slots().iter().filter(|slot| slot.is_stopped()).count();
        let pause = Pause { stopping: self.stopping, stopped: since(self.began), threads, attempts: 0 };
        drop(self);
        pause
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let threads = self.held.slots().iter().filter(|slot| slot.is_stopped()).count();
        // Before the release: those who wake may take this thread's processor at once.
        let stopped = since(self.began);
        self.held.release();
        pauses::add_attempt(self.stopping, stopped, threads);
        raw::set_signals(self.signals);
    }
}

/// Whether its thread was there when the last pass was made.
fn is_listed(slot: &Slot) -> bool {
    slot.is_stopped() || slot.verdict() != Verdict::Gone
}

fn since(began: u64) -> Duration {
    Duration::from_nanos(clock::now().saturating_sub(began))
}

impl<'w> Stopped<'w> {
    /// Whether it is proven that every other thread of the process is stopped, or dead. While it is not, even if all that are
    /// listed are stopped, memory may change and go away at any
    /// moment, must be read with [`Stopped::words`] only, and nothing that was seen may be reported as a fact.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// All threads, stopped or missed. If there are more than 16 384, the rest is not listed, and the stop not complete.
    pub fn threads(&self) -> impl Iterator<Item = Thread<'_>> {
        self.held.slots().iter().filter(|slot| is_listed(slot)).map(|slot| Thread { world: self, slot })
    }

    /// The thread with a kernel id.
    pub fn thread(&self, id: i32) -> Option<Thread<'_>> {
        let slot = self.held.table.find(id).filter(|slot| is_listed(slot))?;
        Some(Thread { world: self, slot })
    }

    /// The tasks of all runtimes that have not ended. Looks at each control block: some 10 ns a stack that was ever used.
    pub fn tasks(&self) -> impl Iterator<Item = Task<'_>> {
        tasks::blocks()
            .map(|control| {
                // SAFETY: control blocks are never unmapped, and only shared references to them are made.
                unsafe { control.as_ref() }
            })
            .filter(|control| control.park.load().1 != ParkState::Dead)
            .map(|control| Task { world: self, control })
    }

    /// The task whose stack slot an address lies in, which may be any word: in the stack, used or not, in the guard below
    /// it, or in the runtime's record above it ([`Task::stack`] and [`Task::stack_in_use`] tell which). Constant time.
    pub fn task_at(&self, address: usize) -> Option<Task<'_>> {
        // SAFETY: control blocks are never unmapped, and only shared references to them are made.
        let control = unsafe { Slab::control_at(address)?.as_ref() };
        (control.park.load().1 != ParkState::Dead).then_some(Task { world: self, control })
    }

    /// The primitive that an address, which may be any word, points to: to the first or any other byte of its core. Constant
    /// time. Programs have no such addresses, but the runtime has them on the stacks of tasks that are inside of it.
    pub fn primitive_at(&self, address: usize) -> Option<Primitive> {
        Primitive::at(address)
    }

    /// The primitive that a word stands for: a handle that is alive, or the guard of a lock that is held. Any other word,
    /// stale copies of handles among them, has none. Constant time.
    pub fn primitive_of(&self, word: u64) -> Option<Primitive> {
        Primitive::held_by(word)
    }

    /// All primitives in use. Looks at each core that was ever used: some 2 ns for one.
    pub fn primitives(&self) -> impl Iterator<Item = Primitive> {
        Primitive::all()
    }

    /// The memory map, by address; empty if it cannot be read. The first call reads it: some 2 us a mapping.
    pub fn mappings(&self) -> &[Mapping] {
        let count = self.mappings.get().unwrap_or_else(|| {
            // SAFETY: the lock is held, and no other reference is in use: the census has ended, and what follows makes one
            // only after this.
            let count = mappings::read(unsafe { self.held.desk() }).unwrap_or(0);
            self.mappings.set(Some(count));
            count
        });
        // SAFETY: filled above, and not written again in this stop. Only a shared reference to this field is made.
        unsafe { &(&(*self.held.table.desk.get()).mappings)[..count] }
    }

    /// The mapping that contains an address.
    pub fn mapping(&self, address: usize) -> Option<&Mapping> {
        mappings::find(self.mappings(), address)
    }

    /// Gives every aligned word of a range with its address, and passes over pages that cannot be read. How many bytes those
    /// were. Some 0.2 ns a byte.
    pub fn words(&self, range: Range<usize>, mut word: impl FnMut(usize, usize)) -> usize {
        const WORD: usize = size_of::<usize>();
        /// On the caller's stack, which may be a task's.
        const CHUNK: usize = 256;
        let (mut at, end) = (range.start.next_multiple_of(WORD), range.end & !(WORD - 1));
        let mut unreadable = 0;
        let mut chunk = [0_usize; CHUNK];
        while at < end {
            let wanted = CHUNK.min((end - at) / WORD);
            let copied = raw::copy(self.readable.get(), at, &mut chunk[..wanted]);
            let copied = usize::try_from(copied).unwrap_or(0) / WORD;
            for (i, value) in chunk[..copied].iter().enumerate() {
                word(at + i * WORD, *value);
            }
            at += copied * WORD;
            if copied < wanted {
                // The page that it ended at cannot be read.
                let next = ((at & !(PAGE - 1)) + PAGE).min(end);
                unreadable += next - at;
                at = next;
            }
        }
        unreadable
    }
}
