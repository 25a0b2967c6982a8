//! Switching, queueing, waiting, waking, stacks, time: what a user of a scheduler pays for.

use greenprof_benches::{
    case::Case,
    peers::{FRESH, P99, Peer, RECYCLED, RESIDENT, TIME, WAKE},
};

use super::{Against, Row, Section};

pub(super) const SECTION: Section =
    Section { name: "scheduler", title: "Scheduler, stacks, primitives, time", rows: &ROWS };

const BOTH: &[usize] = &[1, 2];

const fn row(name: &'static str, case: Case, peer: Peer) -> Row {
    Row { name, case, value: TIME, unit: "ns", workers: BOTH, against: Against::Peer(peer), target: None }
}

impl Row {
    const fn at_most(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }

    const fn of(self, value: &'static str, unit: &'static str) -> Self {
        Self { value, unit, ..self }
    }

    const fn with_workers(self, workers: &'static [usize]) -> Self {
        Self { workers, ..self }
    }

    /// No peer: the value itself must not exceed `limit`.
    const fn limited_to(self, limit: f64) -> Self {
        Self { against: Against::Limit(limit), target: Some(1.0), ..self }
    }

    const fn compared_with_own(self, name: &'static str, value: &'static str) -> Self {
        Self { against: Against::Own { name, value }, ..self }
    }
}

const SWITCH: &str = "context switch alone";
const YIELD: &str = "yield_now";
const SPAWN: &str = "spawn + join, batches of 1000";
const PING_PONG: &str = "rendezvous ping-pong, round trip";
const SPSC: &str = "1 producer, 1 consumer, capacity 128";
const MPMC: &str = "4 producers, 4 consumers, capacity 128";
const MUTEX_ALONE: &str = "mutex, uncontended";
const MUTEX_SHARED: &str = "mutex, 8 tasks";
const SELECT: &str = "select over two channels, capacity 128";
const SKYNET: &str = "skynet, 10^6 leaves, per leaf";
const PARKED_FRESH: &str = "100 000 parked: spawn on fresh stacks";
const PARKED_RECYCLED: &str = "100 000 parked: spawn on recycled stacks";
const PARKED_WAKE: &str = "100 000 parked: wake";
const PARKED_RESIDENT: &str = "100 000 parked: resident, each";
const SLEEPERS: &str = "100 000 sleepers, p99 lateness";
const BESIDE_LOOP: &str = "1000 sleepers beside an endless loop, p99";

/// One page of 4 KiB, and the task's share of page tables: 4.7 KiB.
const RESIDENT_LIMIT: f64 = 4.7 * 1024.0;

const ROWS: [Row; 34] = [
    row(SWITCH, Case::Switch, Peer::Corosensei).with_workers(&[1]).at_most(1.0),
    row(YIELD, Case::Yield, Peer::May).at_most(0.6),
    row(YIELD, Case::Yield, Peer::Go),
    row(YIELD, Case::Yield, Peer::Tokio),
    row(SPAWN, Case::SpawnJoin, Peer::Go).at_most(0.6),
    row(SPAWN, Case::SpawnJoin, Peer::Tokio),
    row(SPAWN, Case::SpawnJoin, Peer::May),
    row(PING_PONG, Case::PingPong, Peer::Go).at_most(0.5),
    row(PING_PONG, Case::PingPong, Peer::Tokio),
    row(SPSC, Case::Spsc, Peer::Go).at_most(0.8),
    row(SPSC, Case::Spsc, Peer::Tokio),
    row(SPSC, Case::Spsc, Peer::Crossbeam),
    row(MPMC, Case::Mpmc, Peer::Go).at_most(0.8),
    row(MPMC, Case::Mpmc, Peer::Flume),
    row(MPMC, Case::Mpmc, Peer::Crossbeam),
    row(MUTEX_ALONE, Case::MutexAlone, Peer::Std).at_most(1.0),
    row(MUTEX_ALONE, Case::MutexAlone, Peer::Go),
    row(MUTEX_SHARED, Case::MutexShared, Peer::Go).at_most(1.0),
    row(MUTEX_SHARED, Case::MutexShared, Peer::Std),
    row(SELECT, Case::Select, Peer::Go).at_most(0.7),
    row(SELECT, Case::Select, Peer::Tokio),
    row(SELECT, Case::Select, Peer::Crossbeam),
    row(SKYNET, Case::Skynet, Peer::Go).at_most(0.7),
    row(SKYNET, Case::Skynet, Peer::Tokio),
    row(PARKED_FRESH, Case::Parked, Peer::Go).of(FRESH, "ns").at_most(1.0),
    row(PARKED_RECYCLED, Case::Parked, Peer::Greenprof)
        .of(RECYCLED, "ns")
        .compared_with_own("fresh stacks", FRESH)
        .at_most(0.3),
    row(PARKED_RECYCLED, Case::Parked, Peer::Go).of(RECYCLED, "ns"),
    row(PARKED_WAKE, Case::Parked, Peer::Go).of(WAKE, "ns").at_most(0.6),
    row(PARKED_WAKE, Case::Parked, Peer::Tokio).of(WAKE, "ns"),
    row(PARKED_RESIDENT, Case::Parked, Peer::Greenprof).of(RESIDENT, "bytes").limited_to(RESIDENT_LIMIT),
    row(PARKED_RESIDENT, Case::Parked, Peer::Go).of(RESIDENT, "bytes"),
    row(SLEEPERS, Case::Sleepers, Peer::Go).of(P99, "ms").at_most(0.5),
    row(SLEEPERS, Case::Sleepers, Peer::Tokio).of(P99, "ms").at_most(0.5),
    row(BESIDE_LOOP, Case::SleepersBesideLoop, Peer::Greenprof).of(P99, "ms").with_workers(&[2]).limited_to(2.0),
];
