//! Channels as Go has them: shared handles, explicit close, direct hand-over between a sender and a receiver that waits.

use std::{
    alloc::{self, Layout},
    fmt,
    mem::{ManuallyDrop, MaybeUninit},
    panic::Location,
    ptr,
};

use thiserror::Error;

use super::{
    core::{Body, Kind},
    handle::{Handle, Locked},
    waiter::{self, Outcome, WaitQueue, Waiter},
};
use crate::task::{WaitReason, parker::Parker};

/// A channel of values of type `T`. Clones are handles to the same channel; it exists until the last is dropped.
///
/// A channel with capacity 0 is a *rendezvous*: a send waits until a receiver takes the value. Dropping handles does not
/// close a channel: a receiver whose senders are all gone waits for ever, as in Go. [`Chan::close`] closes it.
///
/// Values arrive in the order in which they were sent; waiting senders and receivers are served first come, first
/// served.
pub struct Chan<T> {
    handle: Handle<State<T>>,
}

// SAFETY: the state is only reached through the core's lock, and moves values of T between threads.
unsafe impl<T: Send> Send for Chan<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Chan<T> {}

/// Guarded by the core's lock. Senders wait only while the buffer is full, receivers only while it is empty.
struct State<T> {
    buffer: *mut T,
    capacity: u32,
    head: u32,
    length: u32,
    closed: bool,
    receivers: WaitQueue,
    senders: WaitQueue,
}

impl<T> Body for State<T> {
    const KIND: Kind = Kind::Chan;

    fn destroy(&mut self) {
        while let Some(value) = self.pop() {
            drop(value);
        }
        if let Some(layout) = Self::layout(self.capacity) {
            // SAFETY: allocated with this layout by `with_capacity`.
            unsafe { alloc::dealloc(self.buffer.cast(), layout) };
        }
    }
}

impl<T> State<T> {
    /// Of the buffer; nothing if it needs no memory.
    fn layout(capacity: u32) -> Option<Layout> {
        let layout = Layout::array::<T>(capacity as usize).expect("a buffer smaller than the address space");
        (layout.size() > 0).then_some(layout)
    }

    fn push(&mut self, value: T) {
        let at = (self.head as usize + self.length as usize) % self.capacity as usize;
        // SAFETY: `at` is inside the buffer, and free, for length < capacity.
        unsafe { self.buffer.add(at).write(value) };
        self.length += 1;
    }

    fn pop(&mut self) -> Option<T> {
        if self.length == 0 {
            return None;
        }
        // SAFETY: the slot at `head` is full.
        let value = unsafe { self.buffer.add(self.head as usize).read() };
        self.head = (self.head + 1) % self.capacity;
        self.length -= 1;
        Some(value)
    }

    /// Hands a value to a receiver that waits, or gives it back.
    fn hand_over(&mut self, value: T) -> Result<Parker, T> {
        let Some(receiver) = self.receivers.pop_front() else { return Err(value) };
        // SAFETY: a receiver's slot is room for a T, and it waits until it is finished.
        unsafe {
            (*receiver).slot.cast::<T>().write(value);
            Ok(waiter::finish(receiver, Outcome::Done))
        }
    }

    /// Takes the value of the sender that has waited longest.
    fn take_over(&mut self) -> Option<(T, Parker)> {
        let sender = self.senders.pop_front()?;
        // SAFETY: a sender's slot is its value, which it forgets when the outcome is `Done`.
        unsafe { Some(((*sender).slot.cast::<T>().read(), waiter::finish(sender, Outcome::Done))) }
    }

    /// The next value, and the sender to wake whose value has moved up.
    fn receive(&mut self) -> Option<(T, Option<Parker>)> {
        match self.pop() {
            Some(value) => {
                let sender = self.take_over().map(|(next, sender)| {
                    self.push(next);
                    sender
                });
                Some((value, sender))
            }
            None => self.take_over().map(|(value, sender)| (value, Some(sender))),
        }
    }
}

impl<T: Send> Chan<T> {
    /// A rendezvous channel.
    #[track_caller]
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// A channel that holds up to `capacity` values that nobody has received yet. The memory is allocated here.
    ///
    /// # Panics
    /// If `capacity` is more than `u32::MAX`.
    #[track_caller]
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).expect("a channel's capacity is at most u32::MAX");
        let buffer = match State::<T>::layout(capacity) {
            // SAFETY: the layout's size is not zero.
            Some(layout) => unsafe {
                let buffer = alloc::alloc(layout);
                if buffer.is_null() {
                    alloc::handle_alloc_error(layout);
                }
                buffer.cast()
            },
            None => ptr::dangling_mut(),
        };
        let state = State {
            buffer,
            capacity,
            head: 0,
            length: 0,
            closed: false,
            receivers: WaitQueue::new(),
            senders: WaitQueue::new(),
        };
        Self { handle: Handle::new(state, Location::caller()) }
    }

    fn lock(&self) -> Locked<'_, State<T>> {
        self.handle.core().lock()
    }

    /// Sends a value; waits while the channel is full, or, on a rendezvous, until a receiver comes.
    ///
    /// # Errors
    /// The value, if the channel is closed before it was taken.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
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
        if state.length < state.capacity {
            state.push(value);
            return Ok(());
        }
        let mut value = ManuallyDrop::new(value);
        let waiter = Waiter::new(ptr::from_mut(&mut value).cast());
        // SAFETY: the waiter and the value stay here until the waiter is finished.
        unsafe { state.senders.push_back(&waiter) };
        drop(state);
        match waiter.wait(WaitReason::ChanSend) {
            Outcome::Done => Ok(()),
            // Not taken, so it is still ours.
            _ => Err(SendError(ManuallyDrop::into_inner(value))),
        }
    }

    /// Sends a value if that is possible without waiting.
    ///
    /// # Errors
    /// The value, if the channel is full or closed.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.lock();
        if state.closed {
            return Err(TrySendError::Closed(value));
        }
        match state.hand_over(value) {
            Ok(receiver) => {
                drop(state);
                receiver.unpark();
            }
            Err(value) if state.length < state.capacity => state.push(value),
            Err(value) => return Err(TrySendError::Full(value)),
        }
        Ok(())
    }

    /// Receives a value; waits while there is none. `None` when the channel is closed and empty.
    pub fn recv(&self) -> Option<T> {
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
    /// # Errors
    /// [`TryRecvError::Empty`] or [`TryRecvError::Closed`].
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
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

    /// Closes the channel: sends fail from now on, values that are in it can still be received, and everybody who waits
    /// on it is woken. Returns whether it was open.
    pub fn close(&self) -> bool {
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
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Values in the buffer at this moment.
    pub fn len(&self) -> usize {
        self.lock().length as usize
    }

    /// Whether the buffer is empty at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values the buffer holds; 0 for a rendezvous.
    pub fn capacity(&self) -> usize {
        self.lock().capacity as usize
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
        let state = self.handle.core().lock();
        let (length, capacity, closed) = (state.length, state.capacity, state.closed);
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
