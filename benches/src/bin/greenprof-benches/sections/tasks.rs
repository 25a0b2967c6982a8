//! What a profile of all tasks costs. Ours are compared with Go's `WriteTo(io.Discard, debug)`.

use greenprof_benches::{
    case::Case,
    peers::Peer,
    values::{FILE, STOPS, TEXT},
};

use super::{Layout, Row, Section};

pub(super) const SECTION: Section =
    Section { name: "tasks", title: "Task profile", layout: Layout::Costs, rows: &ROWS };

const PROFILE: Row =
    Row::new("goroutine profile of 100 000 tasks", Case::TaskProfile, Peer::Go).of(FILE, "ms").at_most(0.3);

const ROWS: [Row; 3] = [
    PROFILE,
    Row { name: "goroutine profile of 100 000 tasks, debug=1", ..PROFILE }.of(TEXT, "ms"),
    Row { name: "stops of the world for all of these", target: None, ..PROFILE }.of(STOPS, "").alone(),
];
