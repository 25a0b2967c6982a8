//! What the execution tracer costs. Go's `runtime/trace` does the same to the same programs. What tokio-console's subscriber keeps is
//! less, the polls of each task without their stacks, and it costs its own runtime.

use greenprof_benches::{
    case::Case,
    peers::Peer,
    values::{BYTES, COST, EVENT, LOST, P99, P99_OFF, TIME},
};

use super::{Layout, Row, Section};

pub(super) const SECTION: Section =
    Section { name: "trace", title: "Execution tracer", layout: Layout::Costs, rows: &ROWS };

const SERVICE: &str = "service, 10 us a request, traced";
const FLIGHT: &str = "service, 10 us a request, flight recorder";

const PING_PONG: Row = Row::new("CPU of an event, stacks included", Case::TracePingPong, Peer::Go);

const EDGES: Row = Row::new("longest standstill at a trace's edges, p99", Case::TraceEdges, Peer::Greenprof);

const ROWS: [Row; 10] = [
    PING_PONG.of(EVENT, "ns").at_most(0.4),
    Row { name: "bytes of an event, tables included", ..PING_PONG }.of(BYTES, "B").at_most(1.0),
    Row { name: "events lost, of 100", ..PING_PONG }.of(LOST, "").alone(),
    Row::new(SERVICE, Case::TraceService, Peer::Go).of(COST, "x off").limited_to(1.02),
    Row::new(SERVICE, Case::TraceService, Peer::Go).of(COST, "x off"),
    Row::new(SERVICE, Case::TraceService, Peer::TokioConsole).of(COST, "x off"),
    Row::new(FLIGHT, Case::FlightService, Peer::Go).of(COST, "x off").limited_to(1.02),
    // Of a task that does nothing but yield.
    EDGES.of(P99, "ms").limited_to(1.0),
    Row { name: "the same without a trace", ..EDGES }.of(P99_OFF, "ms").alone(),
    // Beside the count of instructions, which a test disassembles.
    Row::new("rendezvous round trip, built in and off", Case::HooksOff, Peer::Hookless).of(TIME, "ns").at_most(1.005),
];
