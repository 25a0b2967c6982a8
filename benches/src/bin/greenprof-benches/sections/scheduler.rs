//! Switching, queueing, waiting, waking, stacks, time: what a user of a scheduler pays for.

use greenprof_benches::{
    case::Case,
    peers::Peer,
    values::{FRESH, P99, RECYCLED, RESIDENT, WAKE},
};

use super::{Layout, Row, Section};

pub(super) const SECTION: Section =
    Section { name: "scheduler", title: "Scheduler, stacks, primitives, time", layout: Layout::Costs, rows: &ROWS };

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
    Row::new(SWITCH, Case::Switch, Peer::Corosensei).with_workers(&[1]).at_most(1.0),
    Row::new(YIELD, Case::Yield, Peer::May).at_most(0.6),
    Row::new(YIELD, Case::Yield, Peer::Go),
    Row::new(YIELD, Case::Yield, Peer::Tokio),
    Row::new(SPAWN, Case::SpawnJoin, Peer::Go).at_most(0.6),
    Row::new(SPAWN, Case::SpawnJoin, Peer::Tokio),
    Row::new(SPAWN, Case::SpawnJoin, Peer::May),
    Row::new(PING_PONG, Case::PingPong, Peer::Go).at_most(0.5),
    Row::new(PING_PONG, Case::PingPong, Peer::Tokio),
    Row::new(SPSC, Case::Spsc, Peer::Go).at_most(0.8),
    Row::new(SPSC, Case::Spsc, Peer::Tokio),
    Row::new(SPSC, Case::Spsc, Peer::Crossbeam),
    Row::new(MPMC, Case::Mpmc, Peer::Go).at_most(0.8),
    Row::new(MPMC, Case::Mpmc, Peer::Flume),
    Row::new(MPMC, Case::Mpmc, Peer::Crossbeam),
    Row::new(MUTEX_ALONE, Case::MutexAlone, Peer::Std).at_most(1.0),
    Row::new(MUTEX_ALONE, Case::MutexAlone, Peer::Go),
    Row::new(MUTEX_SHARED, Case::MutexShared, Peer::Go).at_most(1.0),
    Row::new(MUTEX_SHARED, Case::MutexShared, Peer::Std),
    Row::new(SELECT, Case::Select, Peer::Go).at_most(0.7),
    Row::new(SELECT, Case::Select, Peer::Tokio),
    Row::new(SELECT, Case::Select, Peer::Crossbeam),
    Row::new(SKYNET, Case::Skynet, Peer::Go).at_most(0.7),
    Row::new(SKYNET, Case::Skynet, Peer::Tokio),
    Row::new(PARKED_FRESH, Case::Parked, Peer::Go).of(FRESH, "ns").at_most(1.0),
    Row::new(PARKED_RECYCLED, Case::Parked, Peer::Greenprof)
        .of(RECYCLED, "ns")
        .compared_with_own("fresh stacks", FRESH)
        .at_most(0.3),
    Row::new(PARKED_RECYCLED, Case::Parked, Peer::Go).of(RECYCLED, "ns"),
    Row::new(PARKED_WAKE, Case::Parked, Peer::Go).of(WAKE, "ns").at_most(0.6),
    Row::new(PARKED_WAKE, Case::Parked, Peer::Tokio).of(WAKE, "ns"),
    Row::new(PARKED_RESIDENT, Case::Parked, Peer::Greenprof).of(RESIDENT, "bytes").limited_to(RESIDENT_LIMIT),
    Row::new(PARKED_RESIDENT, Case::Parked, Peer::Go).of(RESIDENT, "bytes"),
    Row::new(SLEEPERS, Case::Sleepers, Peer::Go).of(P99, "ms").at_most(0.5),
    Row::new(SLEEPERS, Case::Sleepers, Peer::Tokio).of(P99, "ms").at_most(0.5),
    Row::new(BESIDE_LOOP, Case::SleepersBesideLoop, Peer::Greenprof).of(P99, "ms").with_workers(&[2]).limited_to(2.0),
];
