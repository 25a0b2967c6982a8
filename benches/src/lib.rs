//! What the benches share: the workloads, the peers that run the same, and the statistics of paired samples.
//!
//! The criterion suites in `benches/` and the binaries run the same functions of [`workload`] and [`peers`], so their
//! numbers mean the same. `README.md` says which question each of them answers.

#[cfg(feature = "accuracy")]
pub mod accuracy;
#[cfg(feature = "allocators")]
pub mod allocators;
pub mod builds;
pub mod case;
#[cfg(feature = "allocators")]
pub mod instructions;
#[cfg(feature = "overhead")]
pub mod overhead;
#[cfg(feature = "peers")]
pub mod peers;
pub mod program;
pub mod progress;
pub mod sample;
#[cfg(feature = "peers")]
pub mod signals;
pub mod statistics;
pub mod values;
pub mod workload;
