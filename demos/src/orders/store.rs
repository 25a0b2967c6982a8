//! Where finished orders go: a few locked maps, written by one task at the end of a channel.
//!
//! The maps are keyed by the order's number, and the load repeats the orders of its file, so the store does not grow:
//! each record says how often an order came and what that cost in all. That is checkable at any time, because a record
//! is changed under its lock: the sum is the count times the price.

use std::collections::BTreeMap;

use greenprof_runtime::sync::{Chan, Mutex};
use thiserror::Error;

/// How many maps. More than workers of a small machine, so that tasks rarely meet at one; few enough that they do.
const SHARDS: usize = 4;

/// Finished orders on their way to the writer. Full, it makes the tasks that finish orders wait.
const QUEUE: usize = 32;

/// The name under which the writer appears in profiles.
pub const WRITER_FUNCTION: &str = concat!(module_path!(), "::Store::write");

/// An order that was handled.
#[derive(Clone, Copy, Debug)]
pub struct Handled {
    /// Its number.
    pub id: u64,
    /// What it came to, in hundredths.
    pub total: u64,
}

/// How often an order came, and what that cost in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// How often.
    pub times: u64,
    /// The sum of its totals, in hundredths.
    pub sum: u64,
}

/// A record that is not what it must be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("order {id} was stored {} times with {} in all, but costs {expected} each time", record.times, record.sum)]
pub struct Mismatch {
    /// The order's number.
    pub id: u64,
    /// What is stored of it.
    pub record: Record,
    /// What it costs; 0 if nobody knows it.
    pub expected: u64,
}

/// The store.
pub struct Store {
    /// Each lock protects the records of its map.
    shards: Vec<Mutex<BTreeMap<u64, Record>>>,
    queue: Chan<Handled>,
}

impl Default for Store {
    /// An empty store. Somebody has to run [`Store::write`].
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), queue: Chan::with_capacity(QUEUE) }
    }
}

impl Store {
    fn shard(&self, id: u64) -> &Mutex<BTreeMap<u64, Record>> {
        &self.shards[(id % SHARDS as u64) as usize]
    }

    /// Hands an order to the writer; waits if it is behind. Dropped if the store is closed.
    pub fn put(&self, handled: Handled) {
        let _ = self.queue.send(handled);
    }

    /// What is known of an order.
    pub fn get(&self, id: u64) -> Record {
        self.shard(id).lock().get(&id).copied().unwrap_or_default()
    }

    /// The writer's task: stores what comes until the store is closed, and everything that was put before.
    pub fn write(&self) {
        for handled in &self.queue {
            let mut shard = self.shard(handled.id).lock();
            let record = shard.entry(handled.id).or_default();
            record.times += 1;
            record.sum += handled.total;
        }
    }

    /// Takes no more orders; the writer ends when it has stored what it was given.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Compares all records with the prices that were known before, and gives how many orders were stored.
    ///
    /// # Errors
    /// The first record that is wrong.
    pub fn verify(&self, prices: &BTreeMap<u64, u64>) -> Result<u64, Mismatch> {
        let mut stored = 0;
        for shard in &self.shards {
            for (&id, &record) in shard.lock().iter() {
                let expected = prices.get(&id).copied().unwrap_or(0);
                if record.sum != record.times * expected {
                    return Err(Mismatch { id, record, expected });
                }
                stored += record.times;
            }
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use greenprof_runtime::{Runtime, spawn};

    use super::*;

    #[test]
    fn what_is_put_is_stored_and_checked() {
        let store = std::sync::Arc::new(Store::default());
        Runtime::builder().workers(2).build().unwrap().run(|| {
            let writer = spawn({
                let store = store.clone();
                move || store.write()
            });
            let puts = (0..8_u64).map(|id| {
                let store = store.clone();
                spawn(move || (0..20).for_each(|_| store.put(Handled { id, total: 10 * id })))
            });
            puts.collect::<Vec<_>>().into_iter().for_each(|task| task.join().unwrap());
            store.close();
            writer.join().unwrap();
        });
        let mut prices: BTreeMap<u64, u64> = (0..8).map(|id| (id, 10 * id)).collect();
        assert_eq!(store.verify(&prices), Ok(160));
        assert_eq!(store.get(3), Record { times: 20, sum: 600 });
        prices.insert(3, 31);
        assert_eq!(store.verify(&prices).unwrap_err(), Mismatch { id: 3, record: store.get(3), expected: 31 });
        let error = store.verify(&prices).unwrap_err().to_string();
        assert_eq!(error, "order 3 was stored 20 times with 600 in all, but costs 31 each time");
    }
}
