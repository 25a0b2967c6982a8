//! What a sample has measured, as programs print it and the report reads it.

use std::collections::BTreeMap;

/// Figures of an operation by their names, which are those of this module.
pub type Values = BTreeMap<String, f64>;

/// Nanoseconds of an operation: the value of most cases.
pub const TIME: &str = "time";
/// Nanoseconds of a spawn on a stack that was never used.
pub const FRESH: &str = "fresh";
/// Nanoseconds of a spawn on a stack that was used.
pub const RECYCLED: &str = "recycled";
/// Nanoseconds of waking one of many tasks.
pub const WAKE: &str = "wake";
/// Resident bytes of a task; of allocators: of the process, on average.
pub const RESIDENT: &str = "resident";
/// Resident bytes of the process at most.
pub const PEAK: &str = "peak";
/// Milliseconds of lateness that 99 of 100 sleepers do not exceed; of stops: milliseconds until all threads were stopped;
/// of traces: the longest standstill around a beginning and an end.
pub const P99: &str = "p99";
/// What [`P99`] is while nothing is switched on or off.
pub const P99_OFF: &str = "p99-off";
/// Milliseconds until all threads were stopped, half of the time.
pub const P50: &str = "p50";
/// Milliseconds of a profile of all tasks, compressed.
pub const FILE: &str = "file";
/// Milliseconds of the same as text.
pub const TEXT: &str = "text";
/// How often the world was stopped for them.
pub const STOPS: &str = "stops";
/// Nanoseconds of an operation with what is measured switched off.
pub const OFF: &str = "off";
/// The same with it switched on.
pub const ON: &str = "on";
/// Nanoseconds that it adds when everything is recorded.
pub const ADDED: &str = "added";
/// Instructions of an operation.
pub const INSTRUCTIONS: &str = "instructions";

/// CPU time with what is measured switched on, divided by that without.
pub const COST: &str = "cost";
/// Nanoseconds of CPU time that an event of a trace costs.
pub const EVENT: &str = "event";
/// Bytes of an event.
pub const BYTES: &str = "bytes";
/// Events that were lost, of 100.
pub const LOST: &str = "lost";
/// Milliseconds of a leak profile, written and thrown away.
pub const SCAN: &str = "scan";
/// How many leaked tasks it had.
pub const FOUND: &str = "found";
/// Milliseconds for which the world was stopped.
pub const STOP: &str = "stop";
/// The same, where a copy of the process is looked at.
pub const STOP_FORK: &str = "stop-fork";

/// One value.
#[cfg(feature = "allocators")]
pub(crate) fn one(name: &str, value: f64) -> Values {
    Values::from([(name.to_owned(), value)])
}
