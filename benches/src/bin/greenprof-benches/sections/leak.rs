//! What a leak detection costs: beside Go's `goroutineleak` profile with `WriteTo(io.Discard, 0)`, and in a copy of the process beside
//! itself.
//!
//! What it costs while nobody asks has no row: a build with plain handles would be another runtime, see
//! `docs/leak-detection.md`.

use greenprof_benches::{
    case::Case,
    peers::Peer,
    values::{FOUND, SCAN, STOP, STOP_FORK},
};

use super::{Layout, Row, Section};

pub(super) const SECTION: Section =
    Section { name: "leak", title: "Leak detection", layout: Layout::Costs, rows: &ROWS };

const OWN: Row = Row::new("100 000 blocked tasks, 10 000 leaked, 109 MB of pointers", Case::LeakOwn, Peer::Go)
    .of(SCAN, "ms")
    .with_workers(TWO)
    .at_most(0.7);
const SHARED: Row = Row::new("the same, all leaked ones on one channel", Case::LeakShared, Peer::Go)
    .of(SCAN, "ms")
    .with_workers(TWO)
    .at_most(0.7);

/// Go's collector and ours take what processors there are; the tasks wait.
const TWO: &[usize] = &[2];

/// A detector that finds fewer is not compared: ours must find as many as Go, all.
const fn found(name: &'static str, row: Row) -> Row {
    Row { target: None, ..row.of(FOUND, "").named(name) }
}

const fn copied(name: &'static str, row: Row) -> Row {
    row.of(STOP_FORK, "ms").compared_with_own("stop mode", STOP).at_most(0.4).named(name)
}

const ROWS: [Row; 7] = [
    OWN,
    SHARED,
    found("leaked tasks found", OWN),
    found("leaked tasks found, all on one channel", SHARED),
    copied("pause, in a copy of the process", OWN),
    copied("pause, in a copy of the process, all on one channel", SHARED),
    Row::new("a chain of 1000 tasks, none leaked but one beside it", Case::LeakChain, Peer::Go)
        .of(SCAN, "ms")
        .with_workers(TWO),
];
