//! Waiting for the first of several channel operations.
//!
//! At first the arms are tried one after the other, in random order, each with the lock of its own channel only: most
//! selects find one that can be done, and what happens on the other channels meanwhile does not matter to it.
//!
//! If there is none, all channels are locked at once, in the order of their cores' addresses, and the arms are tried
//! again, so that looking at the arms and queueing on all of them, or deciding for the default, is one step: a default
//! is chosen only if at some moment no other arm could be, and two selects that meet cannot both decide for each
//! other's other arm. (Go's `selectgo` does the same, from the start.) While it waits, a select has a waiter in the
//! queue of each channel; a race lets one of them win, and the select takes the others out when it has been woken.

use std::{
    cell::{Cell, OnceCell, UnsafeCell},
    mem::{ManuallyDrop, MaybeUninit},
    ptr,
    time::Duration,
};

use super::{
    chan::{Chan, SendError, state::State, wait_for_ever},
    core::Core,
    handle::Locker,
    waiter::{Outcome, Race, Waiter},
};
use crate::{
    hooks,
    sys::clock,
    task::{WaitReason, control::On, parker::Parker},
};

/// Waits until one of several channel operations can be done, and does that one.
///
/// | arm | when it is chosen |
/// |---|---|
/// | `recv(chan) -> value => body` | a value can be received, or the channel is closed; `value` is an `Option` as of [`Chan::recv`] |
/// | `send(chan, value) -> sent => body` | the value can be sent, or the channel is closed; `sent` is a `Result` as of [`Chan::send`] |
/// | `default => body` | no other arm can be chosen at once |
/// | `timeout(duration) => body` | no other arm could be chosen for so long |
///
/// Among several that can be done one is chosen at random, each with the same chance. Channels and values are evaluated
/// once, in order, before anything is waited for; a value whose arm is not chosen is dropped. Nil channels are never
/// chosen. Without arms, or with nil channels only, it waits for ever.
///
/// The bodies are ordinary code of the calling function: `return`, `break` and `?` work in them.
///
/// ```
/// use greenprof_runtime::{Runtime, select, spawn, sync::Chan};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let (numbers, quit) = (Chan::new(), Chan::<()>::new());
///     let (sender, closer) = (numbers.clone(), quit.clone());
///     spawn(move || {
///         sender.send(7).unwrap();
///         closer.close();
///     });
///     let mut sum = 0;
///     loop {
///         select! {
///             recv(numbers) -> number => sum += number.unwrap_or(0),
///             recv(quit) -> _ => break,
///         }
///     }
///     assert_eq!(sum, 7);
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[macro_export]
macro_rules! select {
    () => { $crate::sync::select::no_arms() };
    ($($arms:tt)+) => { $crate::select_arms!([] [none] [0_usize] $($arms)+) };
}

/// Takes the arms of a [`select!`] apart, one at a time. Each level of the expansion has an `arm` of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! select_arms {
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] recv($chan:expr) -> $value:pat => $body:block, $($rest:tt)*) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::receive(&$chan) {
            arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] recv($chan:expr) -> $value:pat => $body:block $($rest:tt)*) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::receive(&$chan) {
            arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] recv($chan:expr) -> $value:pat => $body:expr $(, $($rest:tt)*)?) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::receive(&$chan) {
            arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($($rest)*)?),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] send($chan:expr, $sent:expr) -> $value:pat => $body:block, $($rest:tt)*) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::send(&$chan, $sent) {
            arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] send($chan:expr, $sent:expr) -> $value:pat => $body:block $($rest:tt)*) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::send(&$chan, $sent) {
            arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] send($chan:expr, $sent:expr) -> $value:pat => $body:expr $(, $($rest:tt)*)?) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::send(&$chan, $sent) {
            arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($($rest)*)?),
        }
    };
    ([$($done:tt)*] [none] [$index:expr] default => $body:block, $($rest:tt)*) => {
        $crate::select_arms!([$($done)*] [$crate::sync::select::Otherwise::AtOnce, $body] [$index] $($rest)*)
    };
    ([$($done:tt)*] [none] [$index:expr] default => $body:block $($rest:tt)*) => {
        $crate::select_arms!([$($done)*] [$crate::sync::select::Otherwise::AtOnce, $body] [$index] $($rest)*)
    };
    ([$($done:tt)*] [none] [$index:expr] default => $body:expr $(, $($rest:tt)*)?) => {
        $crate::select_arms!([$($done)*] [$crate::sync::select::Otherwise::AtOnce, $body] [$index] $($($rest)*)?)
    };
    ([$($done:tt)*] [none] [$index:expr] timeout($after:expr) => $body:block, $($rest:tt)*) => {
        $crate::select_arms!([$($done)*] [$crate::sync::select::Otherwise::After($after), $body] [$index] $($rest)*)
    };
    ([$($done:tt)*] [none] [$index:expr] timeout($after:expr) => $body:block $($rest:tt)*) => {
        $crate::select_arms!([$($done)*] [$crate::sync::select::Otherwise::After($after), $body] [$index] $($rest)*)
    };
    ([$($done:tt)*] [none] [$index:expr] timeout($after:expr) => $body:expr $(, $($rest:tt)*)?) => {
        $crate::select_arms!([$($done)*] [$crate::sync::select::Otherwise::After($after), $body] [$index] $($($rest)*)?)
    };
    // All arms have been taken apart.
    ([$(($arm:ident $number:expr, $value:pat, $body:expr))*] [none] [$index:expr]) => {{
        let chosen = $crate::sync::select::run(&[$(&$arm),*], $crate::sync::select::Otherwise::Never);
        $crate::select_bodies!(chosen, ::std::unreachable!("a select ends with one of its arms"); $(($arm $number, $value, $body))*)
    }};
    ([$(($arm:ident $number:expr, $value:pat, $body:expr))*] [$otherwise:expr, $else:expr] [$index:expr]) => {{
        let chosen = $crate::sync::select::run(&[$(&$arm),*], $otherwise);
        $crate::select_bodies!(chosen, $else; $(($arm $number, $value, $body))*)
    }};
}

/// The bodies of a [`select!`], as one chain of `if`s.
#[doc(hidden)]
#[macro_export]
macro_rules! select_bodies {
    ($chosen:ident, $else:expr;) => { $else };
    ($chosen:ident, $else:expr; ($arm:ident $number:expr, $value:pat, $body:expr) $($rest:tt)*) => {
        if $chosen == ::std::option::Option::Some($number) {
            let $value = $arm.result();
            $body
        } else {
            $crate::select_bodies!($chosen, $else; $($rest)*)
        }
    };
}

/// What a select does when no arm can be chosen. Made by [`select!`](crate::select).
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Otherwise {
    Never,
    AtOnce,
    After(Duration),
}

/// An arm of a select. That of a nil channel can never be done.
///
/// Borrowed shared: while it is in a queue, others have pointers to its waiter and to its value.
#[doc(hidden)]
pub trait Arm {
    /// The channel; `None` if it is nil.
    fn channel(&self) -> Option<Channel>;
    /// Does the operation if it can be done now, and wakes who waits for it. Locks the channel.
    fn try_now(&self) -> bool;
    /// Does the operation if it can be done now. Gives whom to wake.
    ///
    /// # Safety
    /// The channel must be locked by the caller.
    unsafe fn attempt(&self) -> Option<Option<Wake>>;
    /// Enters the channel's queue.
    ///
    /// # Safety
    /// The channel must be locked by the caller. The arm must stay where it is until it has been removed or finished;
    /// the race must outlive that.
    unsafe fn enqueue(&self, race: *const Select);
    /// Leaves the queue if it is still in it. Locks the channel.
    fn remove(&self);
    /// How the wait of this arm ended, if it did. Needs no lock.
    fn poll(&self) -> bool;
}

/// A channel, whatever its values are.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Channel(&'static Core);

/// Whom to wake after the locks have been released.
#[doc(hidden)]
pub struct Wake(Parker);

/// The race of a select's waiters.
#[doc(hidden)]
#[derive(Default)]
pub struct Select(Race);

/// The channels of a select, locked, in order and without doubles.
struct LockedAll<'a>(&'a [*const Core]);

impl<'a> LockedAll<'a> {
    /// # Safety
    /// They must be cores.
    unsafe fn new(cores: &'a [*const Core]) -> Self {
        // SAFETY: the caller's promise; cores are never unmapped.
        cores.iter().for_each(|core| unsafe { (**core).lock() });
        Self(cores)
    }
}

impl Drop for LockedAll<'_> {
    fn drop(&mut self) {
        // SAFETY: locked by `new`.
        self.0.iter().for_each(|core| unsafe { (**core).unlock() });
    }
}

/// Selects with this many arms need no memory from the heap.
const INLINE_ARMS: usize = 8;

/// Arms up to which each order is equally likely: as many as there are hexadecimal digits in a word.
const LARGEST_SHUFFLED: usize = 16;

/// Runs a select. Gives the chosen arm, or nothing for the default or the timeout.
#[doc(hidden)]
pub fn run(arms: &[&dyn Arm], otherwise: Otherwise) -> Option<usize> {
    let tried = in_random_order(arms.len(), |at| arms[at].try_now().then_some(at));
    tried.or_else(|| run_locked(arms, otherwise))
}

/// The rest of `run`, with all channels locked.
#[inline(never)]
fn run_locked(arms: &[&dyn Arm], otherwise: Otherwise) -> Option<usize> {
    let mut inline = [ptr::null(); INLINE_ARMS];
    let mut heap;
    let all: &mut [*const Core] = if arms.len() <= INLINE_ARMS {
        &mut inline
    } else {
        heap = vec![ptr::null(); arms.len()];
        &mut heap
    };
    let mut count = 0;
    for Channel(core) in arms.iter().filter_map(|arm| arm.channel()) {
        all[count] = ptr::from_ref(core);
        count += 1;
    }
    let cores = &mut all[..count];
    cores.sort_unstable();
    let distinct = deduplicate(cores);

    let select = Select::default();
    // SAFETY: they are cores.
    let locked = unsafe { LockedAll::new(&cores[..distinct]) };
    // SAFETY: the arms' channels are locked.
    let done = in_random_order(arms.len(), |at| Some((at, unsafe { arms[at].attempt() }?)));
    if let Some((chosen, wake)) = done {
        drop(locked);
        wake.inspect(|Wake(parker)| parker.unpark());
        return Some(chosen);
    }
    if let Otherwise::AtOnce = otherwise {
        return None;
    }
    for arm in arms.iter().filter(|arm| arm.channel().is_some()) {
        // SAFETY: the arms' channels are locked. The arms and the race are on this stack, and every arm is removed or
        // finished before this returns or unwinds.
        unsafe { arm.enqueue(&select) };
    }
    drop(locked);
    let mut queued = Queued { arms, chosen: None };
    queued.chosen = wait(arms, &select, otherwise);
    queued.chosen
}

/// The arms of a select that waits. Takes them out of their queues, also if the wait is unwound.
struct Queued<'a> {
    arms: &'a [&'a dyn Arm],
    chosen: Option<usize>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        // One at a time: the race is over, and nothing depends on how long they stay. The chosen one has been taken out.
        for (at, arm) in self.arms.iter().enumerate() {
            if self.chosen != Some(at) {
                arm.remove();
            }
        }
    }
}

fn deduplicate(sorted: &mut [*const Core]) -> usize {
    let mut distinct = 0;
    for at in 0..sorted.len() {
        if distinct == 0 || sorted[distinct - 1] != sorted[at] {
            sorted[distinct] = sorted[at];
            distinct += 1;
        }
    }
    distinct
}

/// Asks `found` about the numbers below `count`, in random order, until it gives something.
#[inline]
fn in_random_order<R>(count: usize, mut found: impl FnMut(usize) -> Option<R>) -> Option<R> {
    if count == 0 {
        return None;
    }
    let random = crate::scheduler::random();
    if count > LARGEST_SHUFFLED {
        // So many that a random start is as good as fair.
        let start = random as usize % count;
        return (0..count).map(|i| (start + i) % count).find_map(found);
    }
    // A random permutation, drawn as far as it is needed: starting at a random arm would favour the one that follows
    // arms that cannot be chosen. The digits are the numbers in the order in which they are drawn from: what is drawn
    // makes room for the last that is left.
    let (first, mut fraction) = draw(random, count as u64);
    let answer = found(first as usize);
    if answer.is_some() {
        return answer;
    }
    let mut digits: u64 = 0xfedc_ba98_7654_3210;
    let mut drawn = first;
    for left in (1..count as u64).rev() {
        let last = digits >> (4 * left) & 0xf;
        let gone = digits >> (4 * drawn) & 0xf;
        digits ^= (gone ^ last) << (4 * drawn);
        (drawn, fraction) = draw(fraction, left);
        let answer = found((digits >> (4 * drawn) & 0xf) as usize);
        if answer.is_some() {
            return answer;
        }
    }
    None
}

/// A number below `count`, and what is left of the randomness. The word is taken for a fraction of one, and written in
/// base `count`: a permutation of sixteen uses up 45 of its bits.
#[inline]
fn draw(fraction: u64, count: u64) -> (u64, u64) {
    let product = u128::from(fraction) * u128::from(count);
    ((product >> 64) as u64, product as u64)
}

fn wait(arms: &[&dyn Arm], select: &Select, otherwise: Otherwise) -> Option<usize> {
    let parker = Parker::current();
    let reason = if select.0.first().is_null() { WaitReason::SelectNoCases } else { WaitReason::Select };
    let on = On::waiter(select.0.first());
    let begin = hooks::wait_begin(parker, reason);
    let deadline = match otherwise {
        Otherwise::After(duration) => Some(clock::after(duration)),
        _ => None,
    };
    let chosen = loop {
        if let Some(chosen) = arms.iter().position(|arm| arm.poll()) {
            break Some(chosen);
        }
        match deadline {
            None => parker.park(reason, on),
            Some(deadline) => {
                parker.park_until(reason, on, deadline);
                // Whoever wins the race decides; a loser waits for the winner, who is about to finish an arm.
                if clock::now() >= deadline && select.0.win() {
                    break None;
                }
            }
        }
    };
    hooks::wait_end(begin, reason);
    chosen
}

/// What `select! {}` does.
#[doc(hidden)]
pub fn no_arms() -> ! {
    wait_for_ever(WaitReason::SelectNoCases)
}

/// What a select can receive from.
pub trait Receives<T> {
    /// The channel behind it.
    #[doc(hidden)]
    fn receives_from(&self) -> &Chan<T>;
}

/// What a select can send to.
pub trait Sends<T> {
    /// The channel behind it.
    #[doc(hidden)]
    fn sends_to(&self) -> &Chan<T>;
}

impl<T> Receives<T> for Chan<T> {
    fn receives_from(&self) -> &Chan<T> {
        self
    }
}

impl<T> Sends<T> for Chan<T> {
    fn sends_to(&self) -> &Chan<T> {
        self
    }
}

impl<T, R: Receives<T> + ?Sized> Receives<T> for &R {
    fn receives_from(&self) -> &Chan<T> {
        (**self).receives_from()
    }
}

impl<T, S: Sends<T> + ?Sized> Sends<T> for &S {
    fn sends_to(&self) -> &Chan<T> {
        (**self).sends_to()
    }
}

/// A receiving arm.
#[doc(hidden)]
pub struct ReceiveArm<'a, T> {
    /// None if the channel is nil.
    core: Option<Locker<'a, State<T>>>,
    /// Made once, when the arm enters the queue.
    waiter: OnceCell<Waiter>,
    /// Written by a sender while the arm is in the queue.
    value: UnsafeCell<MaybeUninit<T>>,
    outcome: Cell<Option<Outcome>>,
}

/// A sending arm.
#[doc(hidden)]
pub struct SendArm<'a, T> {
    /// None if the channel is nil.
    core: Option<Locker<'a, State<T>>>,
    /// Made once, when the arm enters the queue.
    waiter: OnceCell<Waiter>,
    /// Taken by a receiver while the arm is in the queue.
    value: UnsafeCell<ManuallyDrop<T>>,
    /// Whether the value is still ours.
    holds: Cell<bool>,
}

#[doc(hidden)]
pub fn receive<'a, T: Send>(from: &'a impl Receives<T>) -> ReceiveArm<'a, T> {
    let value = UnsafeCell::new(MaybeUninit::uninit());
    ReceiveArm { core: from.receives_from().core(), waiter: OnceCell::new(), value, outcome: Cell::new(None) }
}

#[doc(hidden)]
pub fn send<'a, T: Send>(to: &'a impl Sends<T>, value: T) -> SendArm<'a, T> {
    let value = UnsafeCell::new(ManuallyDrop::new(value));
    SendArm { core: to.sends_to().core(), waiter: OnceCell::new(), value, holds: Cell::new(true) }
}

impl<T: Send> ReceiveArm<'_, T> {
    #[inline(always)]
    fn attempt_on(&self, state: &mut State<T>) -> Option<Option<Wake>> {
        if let Some((value, sender)) = state.receive() {
            // SAFETY: the arm is in no queue, so nobody else knows the place.
            unsafe { (*self.value.get()).write(value) };
            self.outcome.set(Some(Outcome::Done));
            return Some(sender.map(Wake));
        }
        if state.closed {
            self.outcome.set(Some(Outcome::Closed));
            return Some(None);
        }
        None
    }

    /// What was received, after the arm was chosen.
    pub fn result(self) -> Option<T> {
        match self.outcome.get() {
            // SAFETY: `Done` says that the value was written; it is read once.
            Some(Outcome::Done) => Some(unsafe { self.value.into_inner().assume_init() }),
            _ => None,
        }
    }
}

/// Wakes whom an attempt says, without a lock. Returns whether the operation was done.
fn woken(done: Option<Option<Wake>>) -> bool {
    if let Some(Some(Wake(parker))) = done {
        parker.unpark();
    }
    done.is_some()
}

impl<T: Send> Arm for ReceiveArm<'_, T> {
    fn channel(&self) -> Option<Channel> {
        self.core.map(|core| Channel(core.memory()))
    }

    fn try_now(&self) -> bool {
        let Some(core) = self.core else { return false };
        let mut state = core.lock();
        let done = self.attempt_on(&mut state);
        drop(state);
        woken(done)
    }

    unsafe fn attempt(&self) -> Option<Option<Wake>> {
        // SAFETY: the caller's promise.
        let state = unsafe { self.core?.assume_locked() };
        self.attempt_on(state)
    }

    unsafe fn enqueue(&self, race: *const Select) {
        // The first field of the select is the race.
        let Some(core) = self.core else { return };
        let waiter = self.waiter.get_or_init(|| Waiter::racing(self.value.get().cast(), race.cast()));
        waiter.join_race();
        // SAFETY: the caller holds the lock, and keeps the arm where it is.
        unsafe { core.assume_locked().receivers.push_back(waiter) };
    }

    fn remove(&self) {
        if let (Some(core), Some(waiter)) = (self.core, self.waiter.get()) {
            core.lock().receivers.remove(waiter);
        }
    }

    fn poll(&self) -> bool {
        self.outcome.set(self.waiter.get().and_then(Waiter::outcome));
        self.outcome.get().is_some()
    }
}

impl<T: Send> SendArm<'_, T> {
    #[inline(always)]
    fn attempt_on(&self, state: &mut State<T>) -> Option<Option<Wake>> {
        if state.closed {
            return Some(None);
        }
        if let Some(receiver) = state.next_receiver() {
            // SAFETY: the value is ours, and from here on the receiver's.
            let parker = receiver.give(unsafe { self.take() });
            return Some(Some(Wake(parker)));
        }
        if state.has_room() {
            // SAFETY: the value is ours, and from here on the buffer's.
            state.push(unsafe { self.take() });
            return Some(None);
        }
        None
    }

    /// Whether it was sent, after the arm was chosen.
    pub fn result(self) -> Result<(), SendError<T>> {
        if self.holds.get() {
            // SAFETY: not taken, and in no queue any more.
            return Err(SendError(unsafe { self.take() }));
        }
        Ok(())
    }

    /// # Safety
    /// The value must be held, and the arm must be in no queue.
    unsafe fn take(&self) -> T {
        self.holds.set(false);
        // SAFETY: the caller's promise; from here on it is not held.
        unsafe { ManuallyDrop::take(&mut *self.value.get()) }
    }
}

impl<T> Drop for SendArm<'_, T> {
    fn drop(&mut self) {
        if self.holds.get() {
            // SAFETY: nobody has taken it.
            unsafe { ManuallyDrop::drop(self.value.get_mut()) };
        }
    }
}

impl<T: Send> Arm for SendArm<'_, T> {
    fn channel(&self) -> Option<Channel> {
        self.core.map(|core| Channel(core.memory()))
    }

    fn try_now(&self) -> bool {
        let Some(core) = self.core else { return false };
        let mut state = core.lock();
        let done = self.attempt_on(&mut state);
        drop(state);
        woken(done)
    }

    unsafe fn attempt(&self) -> Option<Option<Wake>> {
        // SAFETY: the caller's promise.
        let state = unsafe { self.core?.assume_locked() };
        self.attempt_on(state)
    }

    unsafe fn enqueue(&self, race: *const Select) {
        let Some(core) = self.core else { return };
        let waiter = self.waiter.get_or_init(|| Waiter::racing(self.value.get().cast(), race.cast()));
        waiter.join_race();
        // SAFETY: the caller holds the lock, and keeps the arm where it is.
        unsafe { core.assume_locked().senders.push_back(waiter) };
    }

    fn remove(&self) {
        if let (Some(core), Some(waiter)) = (self.core, self.waiter.get()) {
            core.lock().senders.remove(waiter);
        }
    }

    fn poll(&self) -> bool {
        let outcome = self.waiter.get().and_then(Waiter::outcome);
        // Taken by whoever has finished the waiter.
        self.holds.set(outcome != Some(Outcome::Done));
        outcome.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn all_orders_are_equally_likely() {
        let mut orders: HashMap<Vec<usize>, u32> = HashMap::new();
        for _ in 0..24_000 {
            let mut order = Vec::new();
            assert_eq!(in_random_order(4, |at| (order.push(at), None::<()>).1), None);
            *orders.entry(order).or_default() += 1;
        }
        assert_eq!(orders.len(), 24);
        assert!(orders.values().all(|count| (800..1200).contains(count)), "{orders:?}");
    }

    /// Miri sees here whether a borrow of the arms takes another thread's right to a waiter or a value away.
    #[test]
    fn a_select_that_waits_is_served_by_another_thread() {
        let (numbers, words) = (Chan::<u32>::new(), Chan::<String>::new());
        let (to, from) = (numbers.clone(), words.clone());
        let other = std::thread::spawn(move || {
            // Mostly the select waits by now.
            std::thread::sleep(Duration::from_millis(10));
            to.send(7).unwrap();
            std::thread::sleep(Duration::from_millis(10));
            from.recv()
        });
        let received = crate::select! {
            recv(numbers) -> number => number,
            recv(words) -> _ => None,
        };
        assert_eq!(received, Some(7));
        let sent = crate::select! {
            recv(numbers) -> _ => false,
            send(words, "eight".to_owned()) -> sent => sent.is_ok(),
        };
        assert!(sent);
        assert_eq!(other.join().unwrap().as_deref(), Some("eight"));
    }

    #[test]
    fn everybody_is_asked_once_until_one_answers() {
        for count in [0, 1, 2, LARGEST_SHUFFLED, LARGEST_SHUFFLED + 1, 40] {
            for _ in 0..100 {
                let mut asked = vec![0; count];
                assert_eq!(in_random_order(count, |at| (asked[at] += 1, None::<()>).1), None);
                assert!(asked.iter().all(|times| *times == 1), "{asked:?}");
                let mut left = count.div_ceil(2);
                let answer = in_random_order(count, |_| {
                    left -= 1;
                    (left == 0).then_some(())
                });
                assert_eq!((answer.is_some(), left), (count > 0, 0));
            }
        }
    }
}
