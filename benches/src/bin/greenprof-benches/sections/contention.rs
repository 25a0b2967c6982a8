//! What it costs to watch waits and locks, and not to watch them.

use greenprof_benches::{
    case::Case,
    peers::Peer,
    values::{ADDED, INSTRUCTIONS, OFF, ON, TIME},
};

use super::{Against, Layout, Row, Section, Target};

pub(super) const SECTION: Section =
    Section { name: "contention", title: "Contention profiles", layout: Layout::Costs, rows: &ROWS };

const BOTH: &[usize] = &[1, 2];

/// A profile that records everything against the same program with the profile off, in pairs in one process.
const ROWS: [Row; 5] = [
    Row {
        name: "block rate 1, added to a rendezvous round trip",
        case: Case::BlockProfile,
        value: ADDED,
        unit: "ns",
        workers: BOTH,
        against: Against::Peer(Peer::Go),
        target: Some(Target::AtMost(0.4)),
        error: None,
    },
    Row {
        name: "rendezvous round trip, block rate 1",
        case: Case::BlockProfile,
        value: ON,
        unit: "ns",
        workers: BOTH,
        against: Against::Own { name: "off", value: OFF },
        target: None,
        error: None,
    },
    Row {
        name: "mutex, 8 tasks, fraction 1",
        case: Case::MutexProfile,
        value: ON,
        unit: "ns",
        workers: BOTH,
        against: Against::Own { name: "off", value: OFF },
        target: Some(Target::AtMost(1.02)),
        error: None,
    },
    Row {
        name: "rendezvous round trip, all off",
        case: Case::HooksOff,
        value: TIME,
        unit: "ns",
        workers: BOTH,
        against: Against::Peer(Peer::Hookless),
        target: Some(Target::AtMost(1.005)),
        error: None,
    },
    Row::new("rendezvous round trip, all off, instructions (valgrind)", Case::HooksInstructions, Peer::Hookless)
        .of(INSTRUCTIONS, "")
        .with_workers(&[1]),
];
