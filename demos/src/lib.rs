//! Programs that show what greenprof shows: a service under load ([`orders`]), a [`tour`] of its profiles, two programs
//! that use memory badly ([`churn`], [`retain`]), one that waits too often ([`contention`]), one whose tasks grow
//! ([`growth`]), one that computes too much ([`hotpath`]), one that waits for ever ([`deadlock`]), one that is slow without using the processor ([`latency`]), one that is captured when it goes wrong
//! ([`mod@watch`]), and many that leak tasks ([`leaks`]). [`trace_report`] sums up any execution trace.
//!
//! The binary `greenprof-demos` is a thin shell over this library, which exists so that everything can be tested.

#![deny(missing_docs)]

pub mod allocations;
pub mod catalog;
pub mod churn;
pub mod console;
pub mod contention;
pub mod deadlock;
pub mod growth;
pub mod guide;
pub mod hotpath;
pub mod interrupt;
pub mod latency;
pub mod leaks;
pub mod orders;
pub mod retain;
pub mod scenario;
pub mod serve;
pub mod setup;
pub mod table;
pub mod tour;
pub mod trace_report;
pub mod watch;
