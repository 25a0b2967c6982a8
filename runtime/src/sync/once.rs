//! Doing something once, and a cell whose value is made once.
//!
//! ```text
//!        begin                 body returns (of a Once: or panics)
//!  NEW ─────────▶ RUNNING ──────────────────────────────────────────▶ DONE
//!   ▲               │  │ ▲
//!   └───────────────┘  └─┘
//!     body panics,       body panics, somebody waits:
//!     nobody waits       the first who waits runs its own body
//! ```
//!
//! The state lies in the object, so asking whether it is done is one load. Memory for the queue is taken when a body
//! starts. While it runs, the task in the body has a word as a lock's guard has: it is who can wake those that wait.

use std::{cell::UnsafeCell, fmt, mem, mem::MaybeUninit, ptr};

use super::{
    broadcast::wake_all,
    core::{Body, Core, Kind, LazyCore},
    handle::exclusive::{Exclusive, ExclusiveWord, Generations},
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::{
    hooks,
    sys::atomic::{AtomicBool, AtomicU32, Ordering, const_unless_loom},
    task::WaitReason,
};

const NEW: u32 = 0;
const RUNNING: u32 = 1;
const DONE: u32 = 2;

/// What [`Once`] and [`OnceCell`] have in common.
struct Flag {
    /// Leaves RUNNING only while the core's lock is held.
    state: AtomicU32,
    core: LazyCore<State>,
}

pub(super) struct State {
    generations: Generations,
    running: AtomicBool,
    /// Guarded by the core's lock. Somebody waits only while a body runs.
    waiters: UnsafeCell<WaitQueue>,
}

impl Body for State {
    const KIND: Kind = Kind::Once;
}

impl Default for State {
    fn default() -> Self {
        let (generations, running) = (Generations::default(), AtomicBool::new(false));
        Self { generations, running, waiters: UnsafeCell::new(WaitQueue::new()) }
    }
}

impl Exclusive for State {
    fn generations(&self) -> &Generations {
        &self.generations
    }

    fn is_held(&self) -> bool {
        // Acquire: pairs with the Release in `Running::new`.
        self.running.load(Ordering::Acquire)
    }
}

impl Flag {
    const_unless_loom! {
        const fn new() -> Self {
            Self { state: AtomicU32::new(NEW), core: LazyCore::new() }
        }
    }

    #[inline]
    fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in the drop of `Running`: what the body did is visible.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Claims the right to run a body, or waits until another has been run: then there is none.
    #[track_caller]
    fn begin(&self) -> Option<Running<'_>> {
        // Before the claim: it panics when there is no room.
        let core = self.core.get();
        loop {
            // Acquire: pairs with the Release in the drop of `Running`.
            match self.state.compare_exchange(NEW, RUNNING, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(Running::new(self, core)),
                Err(DONE) => return None,
                Err(_) => match self.wait(core.1) {
                    Some(Outcome::Retry) => return Some(Running::new(self, core)),
                    Some(_) => return None,
                    None => {}
                },
            }
        }
    }

    /// Waits for the body that runs. None: it has ended already.
    fn wait(&self, core: &Core) -> Option<Outcome> {
        let waiter = Waiter::new(ptr::null_mut());
        waiter.queued_at.set(hooks::lock_clock(0));
        core.lock();
        let running = self.state.load(Ordering::Relaxed) == RUNNING;
        // SAFETY: the core is that of a once, and is locked; the waiter stays here until it is finished.
        unsafe {
            if running {
                (*(*core.body::<State>()).waiters.get()).push_back(&waiter);
            }
            core.unlock();
        }
        running.then(|| waiter.wait(WaitReason::Once))
    }
}

/// The right to run the body. It lies on the stack of whoever runs it.
struct Running<'a> {
    flag: &'a Flag,
    word: ExclusiveWord<State>,
    /// Whether nobody has to run a body any more.
    done: bool,
}

impl<'a> Running<'a> {
    fn new(flag: &'a Flag, (index, core): (u32, &Core)) -> Self {
        // SAFETY: the core is that of a once; what is used are atomics.
        let state = unsafe { &*core.body::<State>() };
        let word = ExclusiveWord::new(index, &state.generations);
        // Release: pairs with the Acquire in `is_held`.
        state.running.store(true, Ordering::Release);
        Self { flag, word, done: false }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let core = self.word.end();
        core.lock();
        // SAFETY: the core is that of a once.
        let state = unsafe { &*core.body::<State>() };
        // SAFETY: the core is locked.
        let waiters = unsafe { &mut *state.waiters.get() };
        let heir = if self.done { None } else { waiters.pop_front() };
        if heir.is_none() {
            state.running.store(false, Ordering::Release);
            // Release: pairs with the Acquire of who begins next, or finds it done.
            self.flag.state.store(if self.done { DONE } else { NEW }, Ordering::Release);
        }
        let others = if self.done { mem::replace(waiters, WaitQueue::new()) } else { WaitQueue::new() };
        // SAFETY: the heir waits until it is finished below.
        let heirs_time = heir.iter().map(|heir| unsafe { (**heir).queued_at.get() });
        let delay = hooks::all_of(heirs_time.chain(others.times()));
        // SAFETY: the heir is taken from the queue above; the core is locked above.
        let parker = unsafe {
            let parker = heir.map(|heir| waiter::finish(heir, Outcome::Retry));
            core.unlock();
            parker
        };
        if let Some(parker) = parker {
            parker.unpark();
        }
        wake_all(others);
        hooks::unlocked(delay);
    }
}

/// Does something once, however many ask for it. Those who ask while it is being done wait until it is.
///
/// A body that panics counts as done, as in Go: nothing is tried twice, nothing is poisoned, and the panic is the caller's
/// whose body it was. A body that calls `call_once` of its own `Once` waits for itself, for ever.
///
/// Who waits shows `sync.Mutex.Lock`, for this is what Go's dumps show.
///
/// ```
/// use greenprof_runtime::sync::Once;
///
/// static GREETING: Once = Once::new();
///
/// GREETING.call_once(|| println!("hello"));
/// GREETING.call_once(|| unreachable!("it has been done"));
/// ```
pub struct Once {
    flag: Flag,
}

impl Once {
    const_unless_loom! {
        /// Nothing is done yet.
        pub const fn new() -> Self {
            Self { flag: Flag::new() }
        }
    }

    /// Calls `body` if nobody has called this before. When it returns, the first body has ended.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use greenprof_runtime::{Runtime, sync::Once, task};
    ///
    /// static ONCE: Once = Once::new();
    /// static CALLS: AtomicU32 = AtomicU32::new(0);
    ///
    /// Runtime::builder().workers(2).build()?.run(|| {
    ///     task::scope(|scope| {
    ///         for _ in 0..8 {
    ///             scope.spawn(|| ONCE.call_once(|| _ = CALLS.fetch_add(1, Ordering::Relaxed)));
    ///         }
    ///     });
    /// });
    /// assert!(ONCE.is_completed() && CALLS.load(Ordering::Relaxed) == 1);
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once(&self, body: impl FnOnce()) {
        if !self.flag.is_done() {
            self.call(body);
        }
    }

    #[cold]
    #[track_caller]
    fn call(&self, body: impl FnOnce()) {
        if let Some(mut running) = self.flag.begin() {
            running.done = true; // also if the body panics
            body();
        }
    }

    /// Whether the body has ended.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.flag.is_done()
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("completed", &self.is_completed()).finish()
    }
}

/// A cell that gets its value once. Those who ask for it while it is being made wait until it is there.
///
/// If the function that makes the value panics, there is none, and the first of those who wait calls its own. A function
/// that asks its own cell for the value waits for itself, for ever.
///
/// ```
/// use greenprof_runtime::sync::OnceCell;
///
/// static HOST: OnceCell<String> = OnceCell::new();
///
/// assert_eq!(HOST.get(), None);
/// assert_eq!(HOST.get_or_init(|| "localhost".to_owned()), "localhost");
/// assert_eq!(HOST.set("example.org".to_owned()), Err("example.org".to_owned()));
/// ```
pub struct OnceCell<T> {
    flag: Flag,
    /// Holds a value when the flag is done.
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: one thread writes the value, and others read it after the flag has said so.
unsafe impl<T: Send + Sync> Sync for OnceCell<T> {}

impl<T> OnceCell<T> {
    const_unless_loom! {
        /// A cell without a value.
        pub const fn new() -> Self {
            Self { flag: Flag::new(), value: UnsafeCell::new(MaybeUninit::uninit()) }
        }
    }

    /// The value, if there is one. Does not wait.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: there is a value, and it is not written any more.
        self.flag.is_done().then(|| unsafe { (*self.value.get()).assume_init_ref() })
    }

    /// The value, if there is one.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: there is a value, and the cell is borrowed exclusively.
        self.flag.is_done().then(|| unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// The value. If there is none, `make` makes it, unless somebody else's `make` is running: then this waits for that.
    ///
    /// ```
    /// use greenprof_runtime::sync::OnceCell;
    ///
    /// let cell = OnceCell::new();
    /// assert_eq!(*cell.get_or_init(|| 7), 7);
    /// assert_eq!(*cell.get_or_init(|| unreachable!("there is a value")), 7);
    /// ```
    #[inline]
    #[track_caller]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if !self.flag.is_done() {
            self.init(make);
        }
        self.get().expect("whoever began has ended")
    }

    #[cold]
    #[track_caller]
    fn init(&self, make: impl FnOnce() -> T) {
        if let Some(running) = self.flag.begin() {
            self.fill(running, make());
        }
    }

    fn fill(&self, mut running: Running<'_>, value: T) {
        // SAFETY: who runs the body has the cell for itself, and the cell is empty.
        unsafe { (*self.value.get()).write(value) };
        running.done = true;
    }

    /// Puts a value in. If there is one already it gives the new one back; if one is being made, it waits for the outcome.
    ///
    /// ```
    /// use greenprof_runtime::sync::OnceCell;
    ///
    /// let port = OnceCell::new();
    /// assert_eq!(port.set(6060), Ok(()));
    /// assert_eq!(port.set(8080), Err(8080), "the new one comes back");
    /// assert_eq!(port.get(), Some(&6060));
    /// ```
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        match self.flag.begin() {
            Some(running) => {
                self.fill(running, value);
                Ok(())
            }
            None => Err(value),
        }
    }

    /// Takes the value out, and leaves an empty cell.
    ///
    /// ```
    /// use greenprof_runtime::sync::OnceCell;
    ///
    /// let mut cell = OnceCell::new();
    /// cell.set(1).unwrap();
    /// assert_eq!(cell.take(), Some(1));
    /// assert_eq!(cell.set(2), Ok(()), "it was empty again");
    /// ```
    pub fn take(&mut self) -> Option<T> {
        if !self.flag.is_done() {
            return None;
        }
        // Relaxed: nobody else has the cell.
        self.flag.state.store(NEW, Ordering::Relaxed);
        // SAFETY: there was a value, and the flag says that there is none any more.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }

    /// The value, if there is one.
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }
}

impl<T> Drop for OnceCell<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceCell<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        let cell = Self::new();
        assert!(cell.set(value).is_ok(), "nobody else has the cell");
        cell
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceCell").field(value).finish(),
            None => f.write_str("OnceCell(<empty>)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_the_body_has_a_word() {
        let once = Once::new();
        once.call_once(|| {
            let (index, core) = once.flag.core.get();
            let words: Vec<_> = crate::sync::handle::exclusive::words::<State>(index, core).collect();
            assert_eq!(words.len(), 1);
            assert!(crate::sync::live_words().contains(&words[0]));
        });
        let (index, core) = once.flag.core.get();
        assert_eq!(crate::sync::handle::exclusive::words::<State>(index, core).count(), 0);
    }
}
