//! Waiting for the first of several channel operations.
//!
//! All channels are locked at once, in the order of their cores' indices, so that looking at the arms and queueing on all
//! of them is one step: two selects that meet cannot both decide for each other's other arm. (Go's `selectgo` does the
//! same.) While it waits, a select has a waiter in the queue of each channel; a race lets one of them win, and the
//! select takes the others out when it has been woken.

use std::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr,
    time::Duration,
};

use super::{
    chan::{Chan, SendError, wait_for_ever},
    core,
    waiter::{Outcome, Race, Waiter},
};
use crate::{
    hooks,
    sys::clock,
    task::{WaitReason, parker::Parker},
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
            mut arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] recv($chan:expr) -> $value:pat => $body:block $($rest:tt)*) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::receive(&$chan) {
            mut arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] recv($chan:expr) -> $value:pat => $body:expr $(, $($rest:tt)*)?) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::receive(&$chan) {
            mut arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($($rest)*)?),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] send($chan:expr, $sent:expr) -> $value:pat => $body:block, $($rest:tt)*) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::send(&$chan, $sent) {
            mut arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] send($chan:expr, $sent:expr) -> $value:pat => $body:block $($rest:tt)*) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::send(&$chan, $sent) {
            mut arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($rest)*),
        }
    };
    ([$($done:tt)*] [$($otherwise:tt)*] [$index:expr] send($chan:expr, $sent:expr) -> $value:pat => $body:expr $(, $($rest:tt)*)?) => {
        // A match, so that temporaries of the channel's expression live as long as the arm.
        match $crate::sync::select::send(&$chan, $sent) {
            mut arm => $crate::select_arms!([$($done)* (arm $index, $value, $body)] [$($otherwise)*] [$index + 1] $($($rest)*)?),
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
        let chosen = $crate::sync::select::run(&mut [$(&mut $arm),*], $crate::sync::select::Otherwise::Never);
        $crate::select_bodies!(chosen, ::std::unreachable!("a select ends with one of its arms"); $(($arm $number, $value, $body))*)
    }};
    ([$(($arm:ident $number:expr, $value:pat, $body:expr))*] [$otherwise:expr, $else:expr] [$index:expr]) => {{
        let chosen = $crate::sync::select::run(&mut [$(&mut $arm),*], $otherwise);
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

/// An arm of a select. All but `index` and `waiter` are called with the channel locked.
#[doc(hidden)]
pub trait Arm {
    /// The channel's core; `None` if it is nil.
    fn index(&self) -> Option<u32>;
    /// Does the operation if it can be done now. Gives whom to wake.
    fn attempt(&mut self) -> Option<Option<Wake>>;
    /// Enters the channel's queue.
    ///
    /// # Safety
    /// The arm must stay where it is until it has been removed or finished; the race must outlive that.
    unsafe fn enqueue(&mut self, race: *const Select);
    /// Leaves the queue if it is still in it.
    fn remove(&mut self);
    /// How the wait of this arm ended, if it did. Needs no lock.
    fn poll(&mut self) -> bool;
}

/// Whom to wake after the locks have been released.
#[doc(hidden)]
pub struct Wake(Parker);

/// The race of a select's waiters.
#[doc(hidden)]
#[derive(Default)]
pub struct Select(Race);

/// The channels of a select, locked, in order and without doubles.
struct LockedAll<'a>(&'a [u32]);

impl<'a> LockedAll<'a> {
    fn new(indices: &'a [u32]) -> Self {
        indices.iter().for_each(|index| core::core(*index).lock());
        Self(indices)
    }
}

impl Drop for LockedAll<'_> {
    fn drop(&mut self) {
        // SAFETY: locked by `new`.
        self.0.iter().for_each(|index| unsafe { core::core(*index).unlock() });
    }
}

/// Selects with this many arms need no memory from the heap.
const INLINE_ARMS: usize = 8;

/// Arms up to which each order is equally likely.
const LARGEST_SHUFFLED: usize = 16;

/// Runs a select. Gives the chosen arm, or nothing for the default or the timeout.
#[doc(hidden)]
pub fn run(arms: &mut [&mut dyn Arm], otherwise: Otherwise) -> Option<usize> {
    let mut inline = [0; INLINE_ARMS];
    let mut heap;
    let all: &mut [u32] = if arms.len() <= INLINE_ARMS {
        &mut inline[..arms.len()]
    } else {
        heap = vec![0; arms.len()];
        &mut heap
    };
    let mut count = 0;
    for index in arms.iter().filter_map(|arm| arm.index()) {
        all[count] = index;
        count += 1;
    }
    let indices = &mut all[..count];
    indices.sort_unstable();
    let distinct = deduplicate(indices);
    let indices = &indices[..distinct];

    let select = Select::default();
    let locked = LockedAll::new(indices);
    if let Some((chosen, wake)) = attempt_one(arms) {
        drop(locked);
        wake.inspect(|Wake(parker)| parker.unpark());
        return Some(chosen);
    }
    if let Otherwise::AtOnce = otherwise {
        return None;
    }
    for arm in arms.iter_mut().filter(|arm| arm.index().is_some()) {
        // SAFETY: the arms and the race are on this stack, and every arm is removed before this returns. The task does not
        // unwind in between: waiting does not panic.
        unsafe { arm.enqueue(&select) };
    }
    drop(locked);
    let chosen = wait(arms, &select, otherwise);
    let _locked = LockedAll::new(indices);
    arms.iter_mut().filter(|arm| arm.index().is_some()).for_each(|arm| arm.remove());
    chosen
}

fn deduplicate(sorted: &mut [u32]) -> usize {
    let mut distinct = 0;
    for at in 0..sorted.len() {
        if distinct == 0 || sorted[distinct - 1] != sorted[at] {
            sorted[distinct] = sorted[at];
            distinct += 1;
        }
    }
    distinct
}

/// Does one of the operations that can be done, chosen at random.
fn attempt_one(arms: &mut [&mut dyn Arm]) -> Option<(usize, Option<Wake>)> {
    let count = arms.len();
    let mut random = crate::scheduler::random();
    let mut order: [u8; LARGEST_SHUFFLED] = std::array::from_fn(|i| i as u8);
    if count > order.len() {
        // So many that a random start is as good as fair.
        let start = random as usize % count;
        return (0..count).map(|i| (start + i) % count).find_map(|i| attempt_arm(arms, i));
    }
    // A random permutation, drawn as far as it is needed: starting at a random arm would favour the one that follows arms
    // that cannot be chosen.
    for left in (1..=count).rev() {
        let picked = (random % left as u64) as usize;
        random = crate::scheduler::xorshift(random);
        let at = usize::from(order[picked]);
        order[picked] = order[left - 1];
        let done = attempt_arm(arms, at);
        if done.is_some() {
            return done;
        }
    }
    None
}

fn attempt_arm(arms: &mut [&mut dyn Arm], at: usize) -> Option<(usize, Option<Wake>)> {
    arms[at].index()?;
    Some((at, arms[at].attempt()?))
}

fn wait(arms: &mut [&mut dyn Arm], select: &Select, otherwise: Otherwise) -> Option<usize> {
    let parker = Parker::current();
    let begin = hooks::wait_begin();
    let any = arms.iter().any(|arm| arm.index().is_some());
    let reason = if any { WaitReason::Select } else { WaitReason::SelectNoCases };
    let deadline = match otherwise {
        Otherwise::After(duration) => Some(clock::after(duration)),
        _ => None,
    };
    let chosen = loop {
        if let Some(chosen) = arms.iter_mut().position(|arm| arm.index().is_some() && arm.poll()) {
            break Some(chosen);
        }
        match deadline {
            None => parker.park(reason),
            Some(deadline) => {
                parker.park_until(reason, deadline);
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
    chan: &'a Chan<T>,
    waiter: Option<Waiter>,
    value: MaybeUninit<T>,
    outcome: Option<Outcome>,
}

/// A sending arm.
#[doc(hidden)]
pub struct SendArm<'a, T> {
    chan: &'a Chan<T>,
    waiter: Option<Waiter>,
    value: ManuallyDrop<T>,
    /// Whether the value is still ours.
    holds: bool,
    outcome: Option<Outcome>,
}

#[doc(hidden)]
pub fn receive<'a, T: Send>(from: &'a impl Receives<T>) -> ReceiveArm<'a, T> {
    ReceiveArm { chan: from.receives_from(), waiter: None, value: MaybeUninit::uninit(), outcome: None }
}

#[doc(hidden)]
pub fn send<'a, T: Send>(to: &'a impl Sends<T>, value: T) -> SendArm<'a, T> {
    let value = ManuallyDrop::new(value);
    SendArm { chan: to.sends_to(), waiter: None, value, holds: true, outcome: None }
}

impl<T: Send> ReceiveArm<'_, T> {
    /// What was received, after the arm was chosen.
    pub fn result(self) -> Option<T> {
        match self.outcome {
            // SAFETY: `Done` says that the value was written; it is read once.
            Some(Outcome::Done) => Some(unsafe { self.value.assume_init_read() }),
            _ => None,
        }
    }
}

impl<T: Send> Arm for ReceiveArm<'_, T> {
    fn index(&self) -> Option<u32> {
        (!self.chan.is_nil()).then(|| self.chan.index())
    }

    fn attempt(&mut self) -> Option<Option<Wake>> {
        // SAFETY: the select holds the lock.
        let state = unsafe { self.chan.locked_elsewhere() };
        if let Some((value, sender)) = state.receive() {
            self.value.write(value);
            self.outcome = Some(Outcome::Done);
            return Some(sender.map(Wake));
        }
        if state.closed {
            self.outcome = Some(Outcome::Closed);
            return Some(None);
        }
        None
    }

    unsafe fn enqueue(&mut self, race: *const Select) {
        // The first field of the select is the race.
        let waiter = self.waiter.insert(Waiter::racing(self.value.as_mut_ptr().cast(), race.cast()));
        // SAFETY: the select holds the lock; the caller keeps the arm where it is.
        unsafe { self.chan.locked_elsewhere().receivers.push_back(waiter) };
    }

    fn remove(&mut self) {
        if let Some(waiter) = &self.waiter {
            // SAFETY: the select holds the lock.
            unsafe { self.chan.locked_elsewhere() }.receivers.remove(waiter);
        }
    }

    fn poll(&mut self) -> bool {
        self.outcome = self.waiter.as_ref().and_then(Waiter::outcome);
        self.outcome.is_some()
    }
}

impl<T: Send> SendArm<'_, T> {
    /// Whether it was sent, after the arm was chosen.
    pub fn result(mut self) -> Result<(), SendError<T>> {
        if self.holds {
            self.holds = false;
            // SAFETY: not taken, and from here on not ours.
            return Err(SendError(unsafe { ManuallyDrop::take(&mut self.value) }));
        }
        Ok(())
    }
}

impl<T> Drop for SendArm<'_, T> {
    fn drop(&mut self) {
        if self.holds {
            // SAFETY: nobody has taken it.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

impl<T: Send> Arm for SendArm<'_, T> {
    fn index(&self) -> Option<u32> {
        (!self.chan.is_nil()).then(|| self.chan.index())
    }

    fn attempt(&mut self) -> Option<Option<Wake>> {
        // SAFETY: the select holds the lock.
        let state = unsafe { self.chan.locked_elsewhere() };
        if state.closed {
            return Some(None);
        }
        if let Some(receiver) = state.next_receiver() {
            // SAFETY: the value is ours, and from here on the receiver's.
            let parker = receiver.give(unsafe { ManuallyDrop::take(&mut self.value) });
            self.holds = false;
            return Some(Some(Wake(parker)));
        }
        if state.has_room() {
            // SAFETY: the value is ours, and from here on the buffer's.
            state.push(unsafe { ManuallyDrop::take(&mut self.value) });
            self.holds = false;
            return Some(None);
        }
        None
    }

    unsafe fn enqueue(&mut self, race: *const Select) {
        let waiter = self.waiter.insert(Waiter::racing(ptr::from_mut(&mut self.value).cast(), race.cast()));
        // SAFETY: the select holds the lock; the caller keeps the arm where it is.
        unsafe { self.chan.locked_elsewhere().senders.push_back(waiter) };
    }

    fn remove(&mut self) {
        if let Some(waiter) = &self.waiter {
            // SAFETY: the select holds the lock.
            unsafe { self.chan.locked_elsewhere() }.senders.remove(waiter);
        }
    }

    fn poll(&mut self) -> bool {
        self.outcome = self.waiter.as_ref().and_then(Waiter::outcome);
        // Taken by whoever has finished the waiter.
        self.holds = self.outcome != Some(Outcome::Done);
        self.outcome.is_some()
    }
}
