//! Labels: key-value pairs that a task carries, and that its samples carry in every profile.
//!
//! A set of labels is interned: a task holds a number, so spawning copies four bytes, and a signal handler or a profiler
//! never follows a pointer that the task may free. Interned sets live for ever, therefore there is a bound on how many
//! there are and on their text; beyond it [`with`] and [`set`] give the set `overflow=label sets`, so that a profile shows
//! that labels were lost. Labels are for what has few values, such as tenants and routes, not for numbers of requests.
//!
//! ```
//! use greenprof_runtime::labels;
//!
//! labels::with(&[("tenant", "acme")], || {
//!     labels::with(&[("route", "/orders")], || {
//!         assert_eq!(labels::current().get("tenant"), Some("acme"));
//!     });
//! });
//! assert!(labels::current().is_empty());
//! ```

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use crate::{heap, hooks, scheduler::current_worker};

/// Distinct sets that are kept. Some hundred bytes each.
pub const MAX_SETS: usize = 16_384;

/// Bytes of the keys and values of all sets that are kept.
pub const MAX_BYTES: usize = 8 << 20;

/// A set of labels, sorted by key, without duplicate keys.
///
/// ```
/// use greenprof_runtime::labels;
///
/// let labels = labels::with(&[("tenant", "acme"), ("route", "/orders")], labels::current);
/// assert_eq!(labels.get("tenant"), Some("acme"));
/// assert_eq!(labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["route", "tenant"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[(String, String)]>);

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok().map(|at| self.0[at].1.as_str())
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    fn merged(&self, added: &[(&str, &str)]) -> Self {
        let mut pairs: Vec<(String, String)> = self.0.to_vec();
        for (key, value) in added {
            match pairs.binary_search_by(|(k, _)| k.as_str().cmp(key)) {
                Ok(at) => pairs[at].1 = (*value).to_owned(),
                Err(at) => pairs.insert(at, ((*key).to_owned(), (*value).to_owned())),
            }
        }
        Self(pairs.into())
    }
}

/// The number of an interned set, as tasks and samples hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSet(u32);

impl LabelSet {
    /// The set of a number that [`LabelSet::index`] gave; of any other, one without labels.
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The bare number, for a sample to carry.
    pub const fn index(self) -> u32 {
        self.0
    }

    /// The labels of the set.
    pub fn labels(self) -> Labels {
        TABLE.read().sets.get(self.0 as usize).cloned().unwrap_or_default()
    }
}

/// All sets ever used; the first is the empty one. Guards both directions of the mapping.
static TABLE: LazyLock<RwLock<Table>> = LazyLock::new(|| {
    let mut table = Table::default();
    table.insert(Labels::default());
    RwLock::new(table)
});

/// How often [`with`] or [`set`] had to give the overflow set.
static OVERFLOWS: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Table {
    sets: Vec<Labels>,
    index: HashMap<Labels, u32>,
    bytes: usize,
}

impl Table {
    fn insert(&mut self, labels: Labels) -> u32 {
        let index = self.sets.len() as u32;
        self.bytes += labels.bytes();
        self.sets.push(labels.clone());
        self.index.insert(labels, index);
        index
    }
}

fn intern(labels: Labels) -> LabelSet {
    if let Some(index) = TABLE.read().index.get(&labels) {
        return LabelSet(*index);
    }
    let mut table = TABLE.write();
    if let Some(index) = table.index.get(&labels) {
        return LabelSet(*index);
    }
    if table.sets.len() < MAX_SETS && table.bytes + labels.bytes() <= MAX_BYTES {
        return LabelSet(table.insert(labels));
    }
    OVERFLOWS.fetch_add(1, Ordering::Relaxed);
    let overflow = Labels::default().merged(&[("overflow", "label sets")]);
    let index = table.index.get(&overflow).copied();
    LabelSet(index.unwrap_or_else(|| table.insert(overflow)))
}

/// How often a set could not be kept because of [`MAX_SETS`] or [`MAX_BYTES`].
///
/// ```
/// use greenprof_runtime::labels;
///
/// labels::with(&[("tenant", "acme")], || ());
/// assert_eq!(labels::overflows(), 0, "one set is not too many");
/// ```
pub fn overflows() -> u64 {
    OVERFLOWS.load(Ordering::Relaxed)
}

thread_local! {
    /// The labels of a thread that runs no task: inherited by what it spawns.
    static THREAD: Cell<LabelSet> = const { Cell::new(LabelSet(0)) };
}

/// The set of the calling task or thread.
#[inline(never)]
pub(crate) fn current_set() -> LabelSet {
    match current_worker().and_then(|worker| worker.task()) {
        // Relaxed: a task's own labels.
        Some(task) => LabelSet(task.control().labels.load(Ordering::Relaxed)),
        None => THREAD.get(),
    }
}

/// Changes the set of the calling task or thread.
#[inline(never)]
pub(crate) fn set_current(set: LabelSet) {
    match current_worker().and_then(|worker| worker.task()) {
        // Relaxed: read by the sampler on the same thread, and by profiles that validate what they read.
        Some(task) => {
            task.control().labels.store(set.0, Ordering::Relaxed);
            hooks::labels_changed(task);
        }
        None => THREAD.set(set),
    }
}

/// The labels of the calling task, or of the calling thread when it runs none.
///
/// ```
/// use greenprof_runtime::labels;
///
/// assert!(labels::current().is_empty());
/// labels::set("tenant", "acme");
/// assert_eq!(labels::current().get("tenant"), Some("acme"));
/// ```
pub fn current() -> Labels {
    current_set().labels()
}

/// The value of a label of the calling task, or of the calling thread when it runs none.
///
/// ```
/// use greenprof_runtime::labels;
///
/// let tenant = labels::with(&[("tenant", "acme")], || labels::get("tenant"));
/// assert_eq!(tenant.as_deref(), Some("acme"));
/// ```
pub fn get(key: &str) -> Option<String> {
    current().get(key).map(str::to_owned)
}

/// Gives the calling task, or the calling thread when it runs none, a label, or another value for one that it has. It stays
/// until the task ends, or the [`with`] that this is called in. Tasks that are spawned from now on inherit it; those that
/// were spawned before keep what they have.
///
/// Some 100 ns for a set that has been used before.
///
/// ```
/// use greenprof_runtime::labels;
///
/// labels::with(&[("route", "/orders")], || {
///     labels::set("tenant", "acme"); // known only now
///     assert_eq!(labels::get("tenant").as_deref(), Some("acme"));
/// });
/// assert_eq!(labels::get("tenant"), None);
/// ```
pub fn set(key: &str, value: &str) {
    set_current(added(current_set(), &[(key, value)]));
}

/// A set with further labels. Sets live for ever, and are the runtime's own copies.
fn added(before: LabelSet, labels: &[(&str, &str)]) -> LabelSet {
    heap::untracked(|| intern(before.labels().merged(labels)))
}

/// Runs `body` with these labels added to the current ones; a key that exists gets the new value. Tasks spawned inside
/// inherit them. Afterwards the labels are as before, also after a panic.
///
/// Some 100 ns for a set that has been used before.
///
/// ```
/// use greenprof_runtime::{Runtime, labels, spawn};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let task = labels::with(&[("tenant", "acme")], || spawn(|| labels::get("tenant")));
///     assert_eq!(task.join().unwrap().as_deref(), Some("acme"), "inherited");
///     assert_eq!(labels::get("tenant"), None, "as before");
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn with<T>(labels: &[(&str, &str)], body: impl FnOnce() -> T) -> T {
    struct Restore(LabelSet);
    impl Drop for Restore {
        fn drop(&mut self) {
            set_current(self.0);
        }
    }
    let before = current_set();
    let _restore = Restore(before);
    set_current(added(before, labels));
    body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_sorts_and_overrides() {
        let set = Labels::default().merged(&[("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!(set.get("b"), Some("3"));
        assert_eq!(set.get("c"), None);
    }

    #[test]
    fn equal_sets_are_one_and_a_panic_restores() {
        let first = with(&[("x", "1"), ("y", "2")], current_set);
        let second = with(&[("y", "2")], || with(&[("x", "1")], current_set));
        assert_eq!(first, second);
        let _ = std::panic::catch_unwind(|| with(&[("x", "1")], || std::panic::resume_unwind(Box::new(()))));
        assert!(current().is_empty());
    }
}
