//! The hot channel: a meter hands its readings to a collector, one by one.

use greenprof_runtime::{spawn, sync::Chan};

use super::Version;

/// Readings of a round.
const READINGS: u64 = 20_000;

/// Readings that the repaired meter hands over at once, and messages that may lie in its channel.
const BATCH: usize = 256;
const WAITING_BATCHES: usize = 4;

/// The functions that wait for each other.
pub(super) const HOT: [&str; 2] =
    ["greenprof_demos::contention::readings::hand_over", "greenprof_demos::contention::readings::collect"];

/// What a round collects.
pub(super) const SUM: u64 = READINGS * (READINGS - 1) / 2;

/// Waits for the collector with every reading.
#[inline(never)]
fn hand_over(readings: &Chan<u64>) {
    (0..READINGS).for_each(|reading| readings.send(reading).expect("closed only here"));
    readings.close();
}

/// Waits for the meter with every reading.
#[inline(never)]
fn collect(readings: &Chan<u64>) -> u64 {
    readings.iter().sum()
}

#[inline(never)]
fn hand_over_batches(batches: &Chan<Vec<u64>>) {
    let readings: Vec<u64> = (0..READINGS).collect();
    readings.chunks(BATCH).for_each(|batch| batches.send(batch.to_vec()).expect("closed only here"));
    batches.close();
}

#[inline(never)]
fn collect_batches(batches: &Chan<Vec<u64>>) -> u64 {
    batches.iter().flatten().sum()
}

/// All readings are handed over. To be called in a task; gives their sum.
pub(super) fn round(version: Version) -> u64 {
    match version {
        Version::Before => {
            let readings = Chan::new();
            let meter = readings.clone();
            drop(spawn(move || hand_over(&meter)));
            collect(&readings)
        }
        Version::After => {
            let batches = Chan::with_capacity(WAITING_BATCHES);
            let meter = batches.clone();
            drop(spawn(move || hand_over_batches(&meter)));
            collect_batches(&batches)
        }
    }
}
