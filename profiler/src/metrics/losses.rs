//! How many samples each profile has lost.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::writer::Writer;

/// A profile's name, and its counter.
type Loss = (&'static str, fn() -> u64);

/// Counters of lost samples, by the name of their profile: one family of metrics, to which every profiler may add.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// Guards the list only.
    list: Arc<Mutex<Vec<Loss>>>,
}

impl Losses {
    /// Adds a counter, which must only grow. The first of a name stays.
    pub fn add(&self, profile: &'static str, lost: fn() -> u64) {
        let mut list = self.list.lock();
        if list.iter().all(|(known, _)| *known != profile) {
            list.push((profile, lost));
        }
    }
}

impl Collector for Losses {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let list = self.list.lock().clone();
        if list.is_empty() {
            return Ok(());
        }
        let values: Vec<(&str, u64)> = list.iter().map(|(profile, lost)| (*profile, lost())).collect();
        let help = "Samples that were taken and could not be recorded, since the program began";
        Writer::new(encoder).counters("greenprof_profile_samples_lost", help, "profile", &values)
    }
}
