//! What memory costs: ours always with the heap profiler on, at 512 KiB.

use greenprof_benches::{
    case::Case,
    peers::Peer,
    values::{ADDED, INSTRUCTIONS, OFF, P50, P99, PEAK, RESIDENT},
};

use super::{Layout, Row, Section};

pub(super) const SECTION: Section = Section { name: "heap", title: "Heap", layout: Layout::Costs, rows: &ROWS };

const ONE: &[usize] = &[1];

const IMMEDIATE: &str = "malloc + free at once, 16 to 1024 B";
const IMMEDIATE_INSTRUCTIONS: &str = "malloc + free at once, instructions (valgrind)";
const RING: &str = "ring of 4096 live blocks";
const CROSSING: &str = "freed by another thread";
const CROWD: &str = "100 000 live blocks, at random";
const SAMPLING: &str = "sampling at 512 KiB, malloc + free";
const SAMPLING_INSTRUCTIONS: &str = "sampling at 512 KiB, instructions (valgrind)";
const EVERY: &str = "every allocation recorded, added";
const RESIDENT_MEAN: &str = "resident on a trace, mean";
const RESIDENT_PEAK: &str = "resident on a trace, peak";
const STOP_P50: &str = "all threads stopped, p50";
const STOP_P99: &str = "all threads stopped, p99";

/// What recording every allocation may add, in nanoseconds.
const EVERY_LIMIT: f64 = 150.0;

const ROWS: [Row; 26] = [
    Row::new(IMMEDIATE, Case::HeapImmediate, Peer::JemallocProfiling).at_most(1.0),
    Row::new(IMMEDIATE, Case::HeapImmediate, Peer::JemallocSampling),
    Row::new(IMMEDIATE, Case::HeapImmediate, Peer::Jemalloc),
    Row::new(IMMEDIATE, Case::HeapImmediate, Peer::Mimalloc),
    Row::new(IMMEDIATE, Case::HeapImmediate, Peer::Malloc),
    Row::new(IMMEDIATE_INSTRUCTIONS, Case::HeapInstructions, Peer::JemallocProfiling)
        .of(INSTRUCTIONS, "")
        .with_workers(ONE),
    Row::new(IMMEDIATE_INSTRUCTIONS, Case::HeapInstructions, Peer::Mimalloc).of(INSTRUCTIONS, "").with_workers(ONE),
    Row::new(RING, Case::HeapRing, Peer::Jemalloc).at_most(1.0),
    Row::new(RING, Case::HeapRing, Peer::Mimalloc),
    Row::new(RING, Case::HeapRing, Peer::Malloc),
    Row::new(CROSSING, Case::HeapCrossing, Peer::Jemalloc).with_workers(ONE).at_most(1.0),
    Row::new(CROSSING, Case::HeapCrossing, Peer::Mimalloc).with_workers(ONE),
    Row::new(CROSSING, Case::HeapCrossing, Peer::Malloc).with_workers(ONE),
    Row::new(CROWD, Case::HeapCrowd, Peer::Jemalloc),
    Row::new(CROWD, Case::HeapCrowd, Peer::Mimalloc),
    Row::new(CROWD, Case::HeapCrowd, Peer::Malloc),
    Row::new(SAMPLING, Case::HeapSampling, Peer::Greenprof).compared_with_own("off", OFF).at_most(1.01),
    Row::new(SAMPLING_INSTRUCTIONS, Case::HeapInstructions, Peer::Greenprof)
        .of(INSTRUCTIONS, "")
        .with_workers(ONE)
        .compared_with_own("off", OFF),
    Row::new(EVERY, Case::HeapEvery, Peer::Greenprof).of(ADDED, "ns").limited_to(EVERY_LIMIT),
    Row::new(RESIDENT_MEAN, Case::HeapResident, Peer::Mimalloc).of(RESIDENT, "bytes").with_workers(ONE).at_most(1.25),
    Row::new(RESIDENT_MEAN, Case::HeapResident, Peer::Jemalloc).of(RESIDENT, "bytes").with_workers(ONE),
    Row::new(RESIDENT_MEAN, Case::HeapResident, Peer::Malloc).of(RESIDENT, "bytes").with_workers(ONE),
    Row::new(RESIDENT_PEAK, Case::HeapResident, Peer::Mimalloc).of(PEAK, "bytes").with_workers(ONE).at_most(1.25),
    Row::new(RESIDENT_PEAK, Case::HeapResident, Peer::Jemalloc).of(PEAK, "bytes").with_workers(ONE),
    Row::new(STOP_P50, Case::StopWorld, Peer::Greenprof).of(P50, "ms").alone(),
    Row::new(STOP_P99, Case::StopWorld, Peer::Greenprof).of(P99, "ms").alone(),
];
