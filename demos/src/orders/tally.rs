//! What the service really did: the ground truth against which its profiles are checked.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts of finished orders, a cell for each tenant and route. Written by the tasks that handle orders, read by anyone.
#[derive(Debug)]
pub struct Tally {
    /// Sorted, so that a reader's tables are.
    keys: Vec<Key>,
    done: Vec<AtomicU64>,
    wrong: AtomicU64,
    unaudited: AtomicU64,
}

/// Whose orders, and what they asked for.
pub type Key = (String, String);

/// The counts at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Finished orders.
    pub done: BTreeMap<Key, u64>,
    /// Those of them whose price was not the expected one.
    pub wrong: u64,
    /// Those that the audit was too slow to see.
    pub unaudited: u64,
}

impl Tally {
    /// All zero. Keys may repeat.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut keys: Vec<Key> = keys.into_iter().collect();
        keys.sort();
        keys.dedup();
        let done = keys.iter().map(|_| AtomicU64::new(0)).collect();
        Self { keys, done, wrong: AtomicU64::new(0), unaudited: AtomicU64::new(0) }
    }

    /// The cell of a key, for [`Tally::count`].
    pub fn cell(&self, key: &Key) -> Option<usize> {
        self.keys.binary_search(key).ok()
    }

    /// Counts a finished order.
    // Relaxed, here and below: the counters order nothing.
    pub fn count(&self, cell: usize, right: bool) {
        self.done[cell].fetch_add(1, Ordering::Relaxed);
        if !right {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an order that the audit did not see.
    pub fn count_unaudited(&self) {
        self.unaudited.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn read(&self) -> Counts {
        let done = self.keys.iter().zip(&self.done).map(|(key, done)| (key.clone(), done.load(Ordering::Relaxed)));
        Counts {
            done: done.collect(),
            wrong: self.wrong.load(Ordering::Relaxed),
            unaudited: self.unaudited.load(Ordering::Relaxed),
        }
    }
}

impl Counts {
    /// What was counted after `before`.
    pub fn since(&self, before: &Self) -> Self {
        let done = self.done.iter();
        Self {
            done: done.map(|(key, n)| (key.clone(), n - before.done.get(key).copied().unwrap_or(0))).collect(),
            wrong: self.wrong - before.wrong,
            unaudited: self.unaudited - before.unaudited,
        }
    }

    /// All finished orders.
    pub fn total(&self) -> u64 {
        self.done.values().sum()
    }

    /// Finished orders by tenant.
    pub fn by_tenant(&self) -> BTreeMap<String, u64> {
        self.by(|(tenant, _)| tenant)
    }

    /// Finished orders by route.
    pub fn by_route(&self) -> BTreeMap<String, u64> {
        self.by(|(_, route)| route)
    }

    fn by(&self, part: impl Fn(&Key) -> &String) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (key, done) in &self.done {
            *sums.entry(part(key).clone()).or_default() += done;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_key_and_summed_by_either_half() {
        let key = |tenant: &str, route: &str| (tenant.to_owned(), route.to_owned());
        let tally = Tally::new([key("b", "/x"), key("a", "/x"), key("a", "/y"), key("a", "/x")]);
        let before = tally.read();
        for (tenant, route, right) in [("a", "/x", true), ("a", "/y", false), ("b", "/x", true)] {
            tally.count(tally.cell(&key(tenant, route)).unwrap(), right);
        }
        assert_eq!(tally.cell(&key("c", "/x")), None);
        let counts = tally.read().since(&before);
        assert_eq!((counts.total(), counts.wrong), (3, 1));
        assert_eq!(counts.by_tenant(), [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
        assert_eq!(counts.by_route(), [("/x".to_owned(), 2), ("/y".to_owned(), 1)].into());
    }
}
