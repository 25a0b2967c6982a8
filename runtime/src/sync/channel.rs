//! Channels as Rust has them: a sending and a receiving half, and an end when one side is gone.
//!
//! They are [`Chan`]s underneath, and differ in who closes: nobody has to. When the last [`Sender`] is dropped, receivers
//! get what is still in the channel and then [`RecvError`]; when the last [`Receiver`] is dropped, senders get their
//! value back.
//!
//! ```
//! use greenprof_runtime::{Runtime, spawn, sync::channel};
//!
//! Runtime::builder().workers(2).build()?.run(|| {
//!     let (sender, receiver) = channel::bounded(8);
//!     for n in 0..3 {
//!         let sender = sender.clone();
//!         spawn(move || sender.send(n));
//!     }
//!     drop(sender);
//!     assert_eq!(receiver.iter().sum::<u32>(), 3);
//! });
//! # Ok::<(), greenprof_runtime::BuildError>(())
//! ```

use std::{fmt, time::Duration};

use thiserror::Error;

use super::{
    chan::{Chan, RecvTimeoutError, SendError, TryRecvError, TrySendError, state::UNLIMITED},
    select::{Receives, Sends},
};

/// A channel that holds up to `capacity` values; with 0 it is a [`rendezvous`].
///
/// ```
/// use greenprof_runtime::sync::{TrySendError, channel};
///
/// let (sender, receiver) = channel::bounded(1);
/// sender.send(1).unwrap();
/// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
/// assert_eq!(receiver.recv(), Ok(1));
/// ```
///
/// # Panics
/// If `capacity` is `u32::MAX` or more.
#[track_caller]
pub fn bounded<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    halves(Chan::with_capacity(capacity))
}

/// A channel that grows with what is in it: sending never waits.
///
/// ```
/// use greenprof_runtime::sync::channel;
///
/// let (sender, receiver) = channel::unbounded();
/// (0..1000).for_each(|n| sender.send(n).unwrap());
/// assert_eq!(receiver.len(), 1000);
/// ```
#[track_caller]
pub fn unbounded<T: Send>() -> (Sender<T>, Receiver<T>) {
    halves(Chan::with_limit(UNLIMITED))
}

/// A channel that holds nothing: a send waits until the value has been received.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::channel};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let (sender, receiver) = channel::rendezvous();
///     let sending = spawn(move || sender.send("hello"));
///     assert_eq!(receiver.recv(), Ok("hello"));
///     sending.join().unwrap().unwrap();
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
#[track_caller]
pub fn rendezvous<T: Send>() -> (Sender<T>, Receiver<T>) {
    halves(Chan::new())
}

fn halves<T: Send>(chan: Chan<T>) -> (Sender<T>, Receiver<T>) {
    let mut state = chan.lock();
    (state.sending, state.receiving) = (1, 1);
    drop(state);
    (Sender { chan: chan.clone() }, Receiver { chan })
}

/// The half that sends. Clones send to the same channel.
///
/// ```
/// use greenprof_runtime::sync::channel::{self, RecvError};
///
/// let (sender, receiver) = channel::bounded(2);
/// let other = sender.clone();
/// other.send(1).unwrap();
/// drop((sender, other));
/// assert_eq!(receiver.recv(), Ok(1));
/// assert_eq!(receiver.recv(), Err(RecvError), "nobody is left who could send");
/// ```
pub struct Sender<T: Send> {
    chan: Chan<T>,
}

/// The half that receives. Clones receive from the same channel: each value goes to one of them.
///
/// ```
/// use greenprof_runtime::sync::{SendError, channel};
///
/// let (sender, receiver) = channel::bounded(2);
/// sender.send(1).unwrap();
/// assert_eq!(receiver.iter().next(), Some(1));
/// drop(receiver);
/// assert_eq!(sender.send(2), Err(SendError(2)), "nobody is left who could receive");
/// ```
pub struct Receiver<T: Send> {
    chan: Chan<T>,
}

/// There is no value and no sender any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("receive from a channel that is empty and has no senders")]
pub struct RecvError;

impl<T: Send> Sender<T> {
    /// Sends a value; waits while the channel is full.
    ///
    /// # Errors
    /// The value, if there is no receiver any more.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.chan.send(value)
    }

    /// Sends a value if that is possible without waiting.
    ///
    /// # Errors
    /// The value, if the channel is full or has no receivers.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.chan.try_send(value)
    }

    /// Values in the channel at this moment.
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Whether the channel is empty at this moment.
    pub fn is_empty(&self) -> bool {
        self.chan.is_empty()
    }
}

impl<T: Send> Receiver<T> {
    /// Receives a value; waits while there is none.
    ///
    /// # Errors
    /// If there is none, and no sender any more.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.chan.recv().ok_or(RecvError)
    }

    /// Receives a value if there is one.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`], or [`TryRecvError::Closed`] if there is no sender any more.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.chan.try_recv()
    }

    /// Receives a value; waits for one for `timeout` at the most.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`], or [`RecvTimeoutError::Closed`] if there is no sender any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.chan.recv_timeout(timeout)
    }

    /// Receives until the channel is empty and has no senders.
    pub fn iter(&self) -> super::Iter<'_, T> {
        self.chan.iter()
    }

    /// Values in the channel at this moment.
    pub fn len(&self) -> usize {
        self.chan.len()
    }

    /// Whether the channel is empty at this moment.
    pub fn is_empty(&self) -> bool {
        self.chan.is_empty()
    }
}

impl<T: Send> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.chan.lock().sending += 1;
        Self { chan: self.chan.clone() }
    }
}

impl<T: Send> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.chan.lock().receiving += 1;
        Self { chan: self.chan.clone() }
    }
}

impl<T: Send> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.chan.lock();
        state.sending -= 1;
        let last = state.sending == 0;
        drop(state);
        if last {
            self.chan.close();
        }
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.chan.lock();
        state.receiving -= 1;
        let last = state.receiving == 0;
        drop(state);
        if last {
            self.chan.close();
            // Nobody will receive them, and a value may hold a sender of this channel.
            while self.chan.try_recv().is_ok() {}
        }
    }
}

impl<T: Send> Receives<T> for Receiver<T> {
    fn receives_from(&self) -> &Chan<T> {
        &self.chan
    }
}

impl<T: Send> Sends<T> for Sender<T> {
    fn sends_to(&self) -> &Chan<T> {
        &self.chan
    }
}

impl<'a, T: Send> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = super::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.chan).finish()
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.chan).finish()
    }
}
