//! Contexts: telling a tree of tasks to give up, by hand or at a deadline.
//!
//! A [`Context`] is handed to whatever works on behalf of a request, and says through its [`done`](Context::done) channel
//! when the work is not wanted any more. Contexts form trees: cancelling one cancels those derived from it.
//!
//! ```
//! use std::time::Duration;
//! use greenprof_runtime::{Runtime, context::{Context, ContextError}, spawn};
//!
//! Runtime::builder().workers(1).build()?.run(|| {
//!     let (request, cancel) = Context::background().with_cancel();
//!     let (query, _) = request.with_timeout(Duration::from_secs(3600));
//!     let worker = spawn(move || {
//!         query.done().recv(); // closed: `None`
//!         query.err()
//!     });
//!     cancel.cancel();
//!     assert_eq!(worker.join().unwrap(), Some(ContextError::Canceled));
//! });
//! # Ok::<(), greenprof_runtime::BuildError>(())
//! ```
//!
//! # What keeps what alive
//!
//! A context and its [`Cancel`] handles keep its parent alive. A parent only knows its children, weakly, for as long as
//! they exist and are not cancelled; so does the timer of a deadline, which is stopped with the last handle. Therefore
//! whoever waits must hold the context and not only a clone of its channel, which nobody would close when the last
//! handle of the context is gone.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thiserror::Error;

use crate::{
    sync::{Chan, Shared},
    sys::clock,
    time::{Action, Alarm, TimerId, Timers},
};

/// Why a context is done.
///
/// ```
/// use greenprof_runtime::context::{Context, ContextError};
///
/// let (request, cancel) = Context::background().with_cancel();
/// assert_eq!(request.err(), None);
/// cancel.cancel();
/// assert_eq!(request.err(), Some(ContextError::Canceled));
/// assert_eq!(ContextError::Canceled.to_string(), "context canceled"); // as in Go
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ContextError {
    /// It, or one that it is derived from, was cancelled.
    #[error("context canceled")]
    Canceled,
    /// Its deadline, or that of one that it is derived from, has passed.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
}

/// One node of a tree of contexts. Clones are handles to the same node.
///
/// ```
/// use greenprof_runtime::context::Context;
///
/// let (request, cancel) = Context::background().with_cancel();
/// let (query, _) = request.with_cancel();
/// let same = query.clone();
/// cancel.cancel();
/// assert!(same.err().is_some(), "what is derived from a cancelled context is done, too");
/// ```
#[derive(Clone)]
pub struct Context {
    node: Owner,
}

/// Cancels a context. Clones cancel the same one.
///
/// Dropping it does not cancel, as in Go: the context goes on until its parent or its deadline ends it. A context
/// without deadline whose cancel handles are gone and whose parent is never cancelled is never done.
///
/// ```
/// use greenprof_runtime::context::Context;
///
/// let (request, cancel) = Context::background().with_cancel();
/// let elsewhere = cancel.clone();
/// drop(cancel);
/// assert!(request.err().is_none());
/// elsewhere.cancel();
/// assert!(request.err().is_some());
/// ```
#[derive(Clone)]
#[must_use = "a context without its cancel handle can only be ended by its parent or its deadline"]
pub struct Cancel {
    node: Owner,
}

/// What handles, and the children of a node, hold it by: so that a leak scan can tell a handle from a copy that a move has left. The
/// `Arc` is there for the weak references of parents and timers; only they make it a strong one of their own, for a moment.
type Owner = Shared<Arc<Node>>;

struct Node {
    /// The key among the parent's children. Not the address: a node that is dropped last is moved for that.
    id: u64,
    /// Nothing for a background context, which is never cancelled.
    parent: Option<Owner>,
    deadline: Option<Instant>,
    /// Made when first asked for.
    done: OnceLock<Chan<()>>,
    /// Guards the reason, the making of the channel, the children and the timer. Only one node's is held at a time; a
    /// wheel's lock may be taken under it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    error: Option<ContextError>,
    /// By their ids.
    children: HashMap<u64, Weak<Node>>,
    timer: Option<(Arc<Timers>, TimerId)>,
}

impl Context {
    /// A context that is never done: the root of a tree. Each call makes a new one.
    ///
    /// ```
    /// use greenprof_runtime::context::Context;
    ///
    /// let root = Context::background();
    /// assert!(root.err().is_none() && root.deadline().is_none());
    /// ```
    #[track_caller]
    pub fn background() -> Self {
        Self { node: Node::new(None, None) }
    }

    /// A context that is done when it is cancelled, or when this one is done.
    ///
    /// ```
    /// use greenprof_runtime::context::Context;
    ///
    /// let (request, cancel) = Context::background().with_cancel();
    /// let (query, cancel_query) = request.with_cancel();
    /// cancel_query.cancel();
    /// assert!(query.err().is_some() && request.err().is_none(), "a parent does not end with its child");
    /// cancel.cancel();
    /// assert!(request.err().is_some());
    /// ```
    #[track_caller]
    pub fn with_cancel(&self) -> (Self, Cancel) {
        let node = Node::new(Some(self.node.clone()), self.node.deadline);
        node.attach();
        (Self { node: node.clone() }, Cancel { node })
    }

    /// A context that is done after `duration`, or when it is cancelled, or when this one is done.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::context::{Context, ContextError};
    ///
    /// let (query, _) = Context::background().with_timeout(Duration::from_millis(1));
    /// assert_eq!(query.done().recv(), None); // waits for the end
    /// assert_eq!(query.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    ///
    /// # Panics
    /// If the system has no thread for timers.
    #[track_caller]
    pub fn with_timeout(&self, duration: Duration) -> (Self, Cancel) {
        match Instant::now().checked_add(duration) {
            Some(deadline) => self.with_deadline(deadline),
            None => self.with_cancel(),
        }
    }

    /// A context that is done at `deadline`, or when it is cancelled, or when this one is done. A deadline that has passed
    /// gives one that is done already.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use greenprof_runtime::context::{Context, ContextError};
    ///
    /// let (query, _) = Context::background().with_deadline(Instant::now());
    /// assert_eq!(query.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    ///
    /// # Panics
    /// If the system has no thread for timers.
    #[track_caller]
    pub fn with_deadline(&self, deadline: Instant) -> (Self, Cancel) {
        if self.node.deadline.is_some_and(|earlier| earlier <= deadline) {
            return self.with_cancel(); // the parent will end it
        }
        let node = Node::new(Some(self.node.clone()), Some(deadline));
        node.attach();
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            node.cancel(ContextError::DeadlineExceeded);
        } else {
            node.arm(clock::after(remaining));
        }
        (Self { node: node.clone() }, Cancel { node })
    }

    /// A channel that is closed when the context is done; nothing is ever sent on it. A background's is never closed.
    ///
    /// ```
    /// use greenprof_runtime::{context::Context, select, sync::Chan};
    ///
    /// let (request, cancel) = Context::background().with_cancel();
    /// let answers = Chan::<u32>::new();
    /// cancel.cancel();
    /// let answer = select! {
    ///     recv(answers) -> answer => answer,
    ///     recv(request.done()) -> _ => None, // not wanted any more
    /// };
    /// assert_eq!(answer, None);
    /// ```
    #[track_caller]
    pub fn done(&self) -> &Chan<()> {
        let node = &**self.node;
        if let Some(done) = node.done.get() {
            return done;
        }
        let chan = Chan::new();
        // Either the reason is seen here, or whoever sets it sees the channel.
        let state = node.state.lock();
        let done = node.done.get_or_init(|| chan);
        if state.error.is_some() {
            done.close();
        }
        done
    }

    /// Why the context is done; nothing while it is not. It is set before the channel is closed.
    pub fn err(&self) -> Option<ContextError> {
        self.node.state.lock().error
    }

    /// When the context will be done at the latest, if it or one that it is derived from has a deadline.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::context::Context;
    ///
    /// let (request, _) = Context::background().with_timeout(Duration::from_secs(1));
    /// let (query, _) = request.with_timeout(Duration::from_secs(60));
    /// assert_eq!(query.deadline(), request.deadline(), "nothing lasts longer than its parent");
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline
    }
}

impl Cancel {
    /// Ends the context and all derived from it. Does nothing if it is done already.
    pub fn cancel(&self) {
        self.node.cancel(ContextError::Canceled);
    }
}

impl Node {
    #[track_caller]
    fn new(parent: Option<Owner>, deadline: Option<Instant>) -> Owner {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: a number that nobody else has.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Shared::new(Arc::new(Self { id, parent, deadline, done: OnceLock::new(), state: Mutex::default() }))
    }

    /// Enters a new node into its parent's children, or ends it with the parent's reason.
    fn attach(self: &Arc<Self>) {
        let Some(parent) = &self.parent else { return };
        if parent.parent.is_none() {
            return; // a background context is never done, and needs not to know
        }
        let mut state = parent.state.lock();
        match state.error {
            Some(error) => {
                drop(state);
                self.cancel(error);
            }
            None => {
                state.children.insert(self.id, Arc::downgrade(self));
            }
        }
    }

    fn arm(self: &Arc<Self>, deadline: u64) {
        let mut state = self.state.lock();
        if state.error.is_none() {
            let home = Timers::current();
            let node = Arc::downgrade(self);
            // A runtime that has shut down has no timers: such a context ends with its parent or by hand.
            state.timer = home.arm(deadline, Action::FireIfAlive(node)).ok().map(|id| (home, id));
        }
    }

    /// Ends the node and all below it, with a list instead of recursion: a task's stack is small.
    fn cancel(&self, error: ContextError) {
        let Some(mut below) = self.end(error) else { return };
        self.detach();
        while let Some(child) = below.pop() {
            if let Some(child) = child.upgrade() {
                below.extend(child.end(error).unwrap_or_default());
            }
        }
    }

    /// Ends this node and gives its children; nothing if it has ended before.
    fn end(&self, error: ContextError) -> Option<Vec<Weak<Node>>> {
        let mut state = self.state.lock();
        if state.error.is_some() {
            return None;
        }
        state.error = Some(error);
        let children = std::mem::take(&mut state.children);
        let timer = state.timer.take();
        drop(state);
        if let Some((timers, id)) = timer {
            timers.disarm(id);
        }
        if let Some(done) = self.done.get() {
            done.close();
        }
        Some(children.into_values().collect())
    }

    /// Leaves the parent's children.
    fn detach(&self) {
        if let Some(parent) = &self.parent {
            parent.state.lock().children.remove(&self.id);
        }
    }
}

impl Alarm for Node {
    fn fire(self: Arc<Self>, _id: TimerId, _deadline: u64) {
        // Of a node that has ended by hand in this moment it changes nothing; a node's timer is never armed twice.
        self.cancel(ContextError::DeadlineExceeded);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((timers, id)) = self.state.get_mut().timer.take() {
            timers.disarm(id);
        }
        self.detach();
        // The parents that only this node kept, one by one: dropping a deep tree must not recurse.
        let mut next = self.parent.take();
        while let Some(mut parent) = next.and_then(Shared::into_inner).and_then(Arc::into_inner) {
            parent.detach();
            next = parent.parent.take();
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("error", &self.err()).field("deadline", &self.deadline()).finish()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("error", &self.node.state.lock().error).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn children(context: &Context) -> usize {
        context.node.state.lock().children.len()
    }

    #[test]
    fn parents_forget_children_that_are_dropped_or_cancelled() {
        let (root, cancel) = Context::background().with_cancel();
        let (dropped, cancel_dropped) = root.with_cancel();
        let (cancelled, cancel_cancelled) = root.with_timeout(Duration::from_secs(3600));
        let (_kept, _) = root.with_cancel();
        assert_eq!(children(&root), 3);
        drop(dropped);
        assert_eq!(children(&root), 3, "its cancel handle keeps it");
        drop(cancel_dropped);
        assert_eq!(children(&root), 2);
        cancel_cancelled.cancel();
        assert_eq!(children(&root), 1);
        assert_eq!(cancelled.err(), Some(ContextError::Canceled));
        cancel.cancel();
        assert_eq!(children(&root), 0);
        let (late, _) = root.with_cancel();
        assert_eq!((late.err(), children(&root)), (Some(ContextError::Canceled), 0));
    }

    #[test]
    fn the_timer_ends_with_the_context() {
        let (cancelled, cancel) = Context::background().with_timeout(Duration::from_secs(3600));
        let (dropped, _) = Context::background().with_timeout(Duration::from_secs(3600));
        let timer = |context: &Context| context.node.state.lock().timer.clone().expect("it has a deadline");
        let armed = [timer(&cancelled), timer(&dropped)];
        cancel.cancel();
        drop(dropped);
        for (timers, id) in armed {
            assert!(timers.disarm(id).is_none(), "the timer of an ended context is still armed");
        }
    }

    #[test]
    fn deep_trees_are_cancelled_and_dropped_on_a_small_stack() {
        std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(|| {
                let (root, cancel) = Context::background().with_cancel();
                let mut leaf = root.clone();
                for _ in 0..20_000 {
                    leaf = leaf.with_cancel().0;
                }
                assert_eq!(children(&root), 1);
                cancel.cancel();
                assert_eq!(leaf.err(), Some(ContextError::Canceled));
                let (top, _) = Context::background().with_cancel();
                leaf = top.clone();
                for _ in 0..20_000 {
                    leaf = leaf.with_cancel().0;
                }
                drop(leaf);
                assert_eq!(children(&top), 0, "a chain that nobody holds is gone");
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
