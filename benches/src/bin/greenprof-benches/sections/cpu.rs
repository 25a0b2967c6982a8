//! What a sample of a CPU profile costs, the signal included.

use greenprof_benches::{case::Case, peers::Peer};

use super::{Layout, Row, Section};

pub(super) const SECTION: Section = Section { name: "cpu", title: "CPU profile", layout: Layout::Costs, rows: &ROWS };

const SHALLOW: &str = "CPU of a sample, signal included, 2 functions deep";
const DEEP: &str = "CPU of a sample, signal included, 30 functions deep";

/// One thread is sampled.
const ONE: &[usize] = &[1];

const ROWS: [Row; 4] = [
    Row::new(SHALLOW, Case::SampleShallow, Peer::Go).with_workers(ONE).at_most(0.7),
    Row::new(SHALLOW, Case::SampleShallow, Peer::PprofRs).with_workers(ONE),
    Row::new(DEEP, Case::SampleDeep, Peer::Go).with_workers(ONE).at_most(0.7),
    Row::new(DEEP, Case::SampleDeep, Peer::PprofRs).with_workers(ONE),
];
