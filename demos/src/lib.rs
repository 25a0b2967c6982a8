//! Programs that show what greenprof shows: a service under load ([`orders`]), a [`tour`] of its profiles, two programs
//! that use memory badly ([`churn`], [`retain`]), and many that leak tasks ([`leaks`]).
//!
//! The binary `greenprof-demos` is a thin shell over this library, which exists so that everything can be tested.

#![warn(missing_docs)]

pub mod allocations;
pub mod catalog;
pub mod churn;
pub mod console;
pub mod interrupt;
pub mod leaks;
pub mod orders;
pub mod retain;
pub mod scenario;
pub mod serve;
pub mod setup;
pub mod table;
pub mod tour;
