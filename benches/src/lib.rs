//! What the benches share: the workloads, an instrument that counts, and the statistics of paired samples.
//!
//! The criterion suites in `benches/` and the binaries `workload` and `hooks-cost` run the same functions of
//! [`workload`], so their numbers mean the same. `README.md` says which question each of them answers.

pub mod sample;
pub mod statistics;
pub mod workload;
