//! Channels as Go has them: shared handles, explicit close, direct hand-over between a sender and a receiver that waits.

#[cfg(all(test, loom))]
mod model;
pub(super) mod state;

use std::{
    fmt,
    mem::{self, ManuallyDrop, MaybeUninit},
    panic::Location,
    ptr,
    time::Duration,
};

use thiserror::Error;

use super::{
    handle::{Handle, Locked, Locker},
    waiter::{self, Outcome, Waiter},
};
use crate::task::{WaitReason, control::On, parker::Parker};
use state::{State, UNLIMITED};

/// A channel of values of type `T`. Clones are handles to the same channel; it exists until the last is dropped.
///
/// A channel with capacity 0 is a *rendezvous*: a send waits until a receiver takes the value. Dropping handles does not
/// close a channel: a receiver whose senders are all gone waits for ever, as in Go. [`Chan::close`] closes it.
///
/// Values arrive in the order in which they were sent; waiting senders and receivers are served first come, first
/// served.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::Chan};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let numbers = Chan::new();
///     let sender = numbers.clone();
///     spawn(move || {
///         (1..=3).for_each(|n| sender.send(n).expect("nobody closes it before"));
///         sender.close();
///     });
///     assert_eq!(numbers.iter().collect::<Vec<i32>>(), [1, 2, 3]);
///     assert_eq!(numbers.recv(), None);
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub struct Chan<T> {
    handle: Handle<State<T>>,
}

// SAFETY: the state is only reached through the core's lock, and moves values of T between threads.
unsafe impl<T: Send> Send for Chan<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Chan<T> {}

impl<T: Send> Chan<T> {
    /// A rendezvous channel.
    #[track_caller]
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// A channel that holds up to `capacity` values that nobody has received yet. The memory is allocated here.
    ///
    /// ```
    /// use greenprof_runtime::sync::Chan;
    ///
    /// let numbers = Chan::with_capacity(2);
    /// numbers.send(1).unwrap(); // does not wait: there is room
    /// assert_eq!((numbers.len(), numbers.capacity()), (1, 2));
    /// ```
    ///
    /// # Panics
    /// If `capacity` is `u32::MAX` or more.
    #[track_caller]
    pub fn with_capacity(capacity: usize) -> Self {
        let limit = u32::try_from(capacity).unwrap_or(UNLIMITED);
        assert_ne!(limit, UNLIMITED, "a channel's capacity is less than u32::MAX");
        Self::with_limit(limit)
    }

    /// A channel that nobody can send to or receive from: every operation waits for ever, and a select passes over it.
    ///
    /// ```
    /// use greenprof_runtime::{select, sync::Chan};
    ///
    /// // An arm that is switched off, as in Go.
    /// let paused = Chan::<u32>::nil();
    /// let chosen = select! {
    ///     recv(paused) -> _ => "paused",
    ///     default => "nothing",
    /// };
    /// assert!(paused.is_nil() && chosen == "nothing");
    /// ```
    pub fn nil() -> Self {
        Self { handle: Handle::nil() }
    }

    /// Whether the channel is [`Chan::nil`].
    pub fn is_nil(&self) -> bool {
        self.handle.is_nil()
    }

    #[track_caller]
    pub(super) fn with_limit(limit: u32) -> Self {
        Self { handle: Handle::new(State::new(limit), Location::caller()) }
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, State<T>> {
        self.handle.core().lock()
    }

    /// The core, for a select; none if the channel is nil.
    #[inline]
    pub(super) fn core(&self) -> Option<Locker<'_, State<T>>> {
        (!self.is_nil()).then(|| self.handle.core())
    }

    /// Sends a value; waits while the channel is full, or, on a rendezvous, until a receiver comes.
    ///
    /// ```
    /// use greenprof_runtime::sync::{Chan, SendError};
    ///
    /// let numbers = Chan::with_capacity(1);
    /// assert_eq!(numbers.send(1), Ok(()));
    /// numbers.close();
    /// assert_eq!(numbers.send(2), Err(SendError(2)), "the value comes back");
    /// ```
    ///
    /// # Errors
    /// The value, if the channel is closed before it was taken.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.is_nil() {
            wait_for_ever(WaitReason::ChanSendNil);
        }
        let mut state = self.lock();
        if state.closed {
            return Err(SendError(value));
        }
        let value = match state.hand_over(value) {
            Ok(receiver) => {
                drop(state);
                receiver.unpark();
                return Ok(());
            }
            Err(value) => value,
        };
        if state.has_room() {
            state.push(value);
            return Ok(());
        }
        let mut unsent = Unsent(ManuallyDrop::new(value));
        let waiter = Waiter::new(ptr::from_mut(&mut unsent.0).cast());
        // SAFETY: the waiter and the value stay here until the waiter is finished.
        unsafe { state.senders.push_back(&waiter) };
        drop(state);
        match waiter.wait(WaitReason::ChanSend) {
            Outcome::Done => {
                mem::forget(unsent);
                Ok(())
            }
            _ => Err(SendError(unsent.into_inner())),
        }
    }

    /// Sends a value if that is possible without waiting.
    ///
    /// ```
    /// use greenprof_runtime::sync::{Chan, TrySendError};
    ///
    /// let numbers = Chan::with_capacity(1);
    /// assert_eq!(numbers.try_send(1), Ok(()));
    /// assert_eq!(numbers.try_send(2), Err(TrySendError::Full(2)));
    /// ```
    ///
    /// # Errors
    /// The value, if the channel is full or closed.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.is_nil() {
            return Err(TrySendError::Full(value));
        }
        let mut state = self.lock();
        if state.closed {
            return Err(TrySendError::Closed(value));
        }
        match state.hand_over(value) {
            Ok(receiver) => {
                drop(state);
                receiver.unpark();
            }
            Err(value) if state.has_room() => state.push(value),
            Err(value) => return Err(TrySendError::Full(value)),
        }
        Ok(())
    }

    /// Receives a value; waits while there is none. `None` when the channel is closed and empty.
    ///
    /// ```
    /// use greenprof_runtime::sync::Chan;
    ///
    /// let numbers = Chan::with_capacity(1);
    /// numbers.send(7).unwrap();
    /// numbers.close();
    /// assert_eq!(numbers.recv(), Some(7), "what is in it can still be received");
    /// assert_eq!(numbers.recv(), None);
    /// ```
    pub fn recv(&self) -> Option<T> {
        if self.is_nil() {
            wait_for_ever(WaitReason::ChanReceiveNil);
        }
        let mut state = self.lock();
        if let Some((value, sender)) = state.receive() {
            drop(state);
            if let Some(sender) = sender {
                sender.unpark();
            }
            return Some(value);
        }
        if state.closed {
            return None;
        }
        let mut value = MaybeUninit::<T>::uninit();
        let waiter = Waiter::new(value.as_mut_ptr().cast());
        // SAFETY: the waiter and the slot stay here until the waiter is finished.
        unsafe { state.receivers.push_back(&waiter) };
        drop(state);
        match waiter.wait(WaitReason::ChanReceive) {
            // SAFETY: whoever finished the waiter with `Done` has written the value.
            Outcome::Done => Some(unsafe { value.assume_init() }),
            _ => None,
        }
    }

    /// Receives a value if there is one.
    ///
    /// ```
    /// use greenprof_runtime::sync::{Chan, TryRecvError};
    ///
    /// let numbers = Chan::<u32>::new();
    /// assert_eq!(numbers.try_recv(), Err(TryRecvError::Empty));
    /// numbers.close();
    /// assert_eq!(numbers.try_recv(), Err(TryRecvError::Closed));
    /// ```
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.is_nil() {
            return Err(TryRecvError::Empty);
        }
        let mut state = self.lock();
        match state.receive() {
            Some((value, sender)) => {
                drop(state);
                if let Some(sender) = sender {
                    sender.unpark();
                }
                Ok(value)
            }
            None if state.closed => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Receives a value; waits for one for `timeout` at the most. It is a [`select!`](crate::select) with one arm, and
    /// shows as such while it waits.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::sync::{Chan, RecvTimeoutError};
    ///
    /// let numbers = Chan::<u32>::new();
    /// assert_eq!(numbers.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    /// ```
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`], and then no value was taken, or [`RecvTimeoutError::Closed`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        crate::select! {
            recv(self) -> value => value.ok_or(RecvTimeoutError::Closed),
            timeout(timeout) => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Closes the channel: sends fail from now on, values that are in it can still be received, and everybody who waits
    /// on it is woken. Returns whether it was open.
    ///
    /// ```
    /// use greenprof_runtime::{Runtime, spawn, sync::Chan};
    ///
    /// Runtime::builder().workers(1).build()?.run(|| {
    ///     let quit = Chan::<()>::new();
    ///     let waiting: Vec<_> = (0..3).map(|_| quit.clone()).map(|quit| spawn(move || quit.recv())).collect();
    ///     assert!(quit.close(), "all of them are told at once");
    ///     assert!(waiting.into_iter().all(|task| task.join().unwrap().is_none()));
    ///     assert!(!quit.close(), "it is closed already");
    /// });
    /// # Ok::<(), greenprof_runtime::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// If the channel is nil.
    #[track_caller]
    pub fn close(&self) -> bool {
        assert!(!self.is_nil(), "a nil channel cannot be closed");
        if std::mem::replace(&mut self.lock().closed, true) {
            return false;
        }
        loop {
            // Woken without the lock, and a batch at a time: a closed channel gets no new waiters.
            let mut batch: [Option<Parker>; 32] = [None; 32];
            let mut state = self.lock();
            for place in &mut batch {
                let waiter = state.receivers.pop_front().or_else(|| state.senders.pop_front());
                // SAFETY: taken from its queue just now.
                *place = waiter.map(|waiter| unsafe { waiter::finish(waiter, Outcome::Closed) });
                // Each is on a stack of its own, which nobody may have looked at for long.
                place.iter().for_each(Parker::fetch);
            }
            drop(state);
            for parker in batch {
                match parker {
                    Some(parker) => parker.unpark(),
                    None => return true,
                }
            }
        }
    }

    /// Receives until the channel is closed and empty.
    ///
    /// ```
    /// use greenprof_runtime::sync::Chan;
    ///
    /// let numbers = Chan::with_capacity(3);
    /// (1..=3).for_each(|n| numbers.send(n).unwrap());
    /// numbers.close();
    /// assert_eq!(numbers.iter().sum::<i32>(), 6);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Values in the buffer at this moment.
    pub fn len(&self) -> usize {
        if self.is_nil() { 0 } else { self.lock().length() }
    }

    /// Whether the buffer is empty at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values the buffer holds; 0 for a rendezvous.
    pub fn capacity(&self) -> usize {
        if self.is_nil() { 0 } else { self.lock().limit() as usize }
    }
}

/// The value of a sender that waits. Nobody has taken it if the wait is unwound.
struct Unsent<T>(ManuallyDrop<T>);

impl<T> Unsent<T> {
    fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is still ours, and is not used again.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Drop for Unsent<T> {
    fn drop(&mut self) {
        // SAFETY: it is still ours, and is not used again.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

/// What an operation on a nil channel, or a select without arms, does.
pub(super) fn wait_for_ever(reason: WaitReason) -> ! {
    let parker = Parker::current();
    loop {
        parker.park(reason, On::NOTHING);
    }
}

impl<T: Send> Default for Chan<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Chan<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<T> fmt::Debug for Chan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.handle.is_nil() {
            return f.write_str("Chan(nil)");
        }
        let state = self.handle.core().lock();
        let (length, capacity, closed) = (state.length(), state.limit(), state.closed);
        drop(state);
        f.debug_struct("Chan").field("length", &length).field("capacity", &capacity).field("closed", &closed).finish()
    }
}

/// The values of a channel until it is closed. See [`Chan::iter`].
#[derive(Debug)]
pub struct Iter<'a, T>(&'a Chan<T>);

impl<T: Send> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv()
    }
}

impl<'a, T: Send> IntoIterator for &'a Chan<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The channel is closed. Holds the value that was not sent.
///
/// ```
/// use greenprof_runtime::sync::{Chan, SendError};
///
/// let jobs = Chan::new();
/// jobs.close();
/// let SendError(job) = jobs.send("job").unwrap_err();
/// assert_eq!(job, "job");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("send on a closed channel")]
pub struct SendError<T>(pub T);

/// Why [`Chan::try_send`] has not sent. Holds the value.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
pub enum TrySendError<T> {
    /// The buffer is full, or nobody waits to receive from a rendezvous.
    #[error("send on a full channel")]
    Full(T),
    /// The channel is closed.
    #[error("send on a closed channel")]
    Closed(T),
}

/// Why [`Chan::try_recv`] has received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TryRecvError {
    /// There is no value now.
    #[error("receive from an empty channel")]
    Empty,
    /// There is no value and never will be.
    #[error("receive from a closed channel")]
    Closed,
}

/// Why [`Chan::recv_timeout`] has received nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecvTimeoutError {
    /// No value came in time.
    #[error("no value came within the timeout")]
    Timeout,
    /// There is no value and never will be.
    #[error("receive from a closed channel")]
    Closed,
}

// By hand, so that they do not ask for `T: Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        TrySend,
        TryRecv,
        /// A sender that waits if it has to.
        Send,
        /// A receiver that waits if it has to.
        Recv,
        Close,
    }

    /// A waiter with the place of its value.
    struct Waiting {
        waiter: Waiter,
        _value: Box<u32>,
    }

    fn waiting(value: u32) -> Box<Waiting> {
        let mut value = Box::new(value);
        Box::new(Waiting { waiter: Waiter::new((&raw mut *value).cast()), _value: value })
    }

    impl Waiting {
        fn value(&self) -> u32 {
            // SAFETY: the slot is the box's, and the wait is over.
            unsafe { self.waiter.slot.cast::<u32>().read() }
        }
    }

    proptest! {
        /// Against a model: values arrive in order, those who wait are served in order, and a close ends all waits.
        #[test]
        fn values_follow_the_model(
            limit in prop::sample::select(vec![0, 1, 3, UNLIMITED]),
            steps in prop::collection::vec(
                prop::sample::select(vec![
                    Step::TrySend, Step::TryRecv, Step::Send, Step::Send, Step::Recv, Step::Recv, Step::TrySend, Step::Close,
                ]),
                1..60,
            )
        ) {
            let chan = Chan::with_limit(limit);
            let mut buffer = VecDeque::new();
            let (mut senders, mut receivers) = (VecDeque::new(), VecDeque::<Box<Waiting>>::new());
            let mut closed = false;
            for (step, value) in steps.into_iter().chain([Step::Close]).zip(1_u32..) {
                match step {
                    Step::TrySend | Step::Send if closed => {
                        prop_assert_eq!(chan.try_send(value), Err(TrySendError::Closed(value)));
                    }
                    Step::TrySend | Step::Send if !receivers.is_empty() => {
                        prop_assert_eq!(chan.try_send(value), Ok(()));
                        let receiver = receivers.pop_front().unwrap();
                        prop_assert_eq!(receiver.waiter.outcome(), Some(Outcome::Done));
                        prop_assert_eq!(receiver.value(), value);
                    }
                    Step::TrySend | Step::Send if buffer.len() < limit as usize => {
                        prop_assert_eq!(chan.try_send(value), Ok(()));
                        buffer.push_back(value);
                    }
                    Step::TrySend => prop_assert_eq!(chan.try_send(value), Err(TrySendError::Full(value))),
                    Step::Send => {
                        let sender = waiting(value);
                        // SAFETY: the close at the end finishes all that are left, before they are dropped.
                        unsafe { chan.lock().senders.push_back(&sender.waiter) };
                        senders.push_back((value, sender));
                    }
                    Step::TryRecv | Step::Recv if !buffer.is_empty() || !senders.is_empty() => {
                        let sender = senders.pop_front();
                        buffer.extend(sender.iter().map(|(value, _)| *value));
                        prop_assert_eq!(chan.try_recv().ok(), buffer.pop_front());
                        let outcome = sender.map(|(_, sender)| sender.waiter.outcome());
                        prop_assert!(matches!(outcome, None | Some(Some(Outcome::Done))));
                    }
                    Step::TryRecv | Step::Recv if closed => {
                        prop_assert_eq!(chan.try_recv(), Err(TryRecvError::Closed));
                    }
                    Step::TryRecv => prop_assert_eq!(chan.try_recv(), Err(TryRecvError::Empty)),
                    Step::Recv => {
                        let receiver = waiting(0);
                        // SAFETY: as above.
                        unsafe { chan.lock().receivers.push_back(&receiver.waiter) };
                        receivers.push_back(receiver);
                    }
                    Step::Close => {
                        prop_assert_eq!(chan.close(), !closed);
                        closed = true;
                        let waiters = senders.drain(..).map(|(_, sender)| sender).chain(receivers.drain(..));
                        for waiting in waiters {
                            prop_assert_eq!(waiting.waiter.outcome(), Some(Outcome::Closed));
                        }
                    }
                }
                prop_assert_eq!(chan.len(), buffer.len());
            }
        }
    }
}
