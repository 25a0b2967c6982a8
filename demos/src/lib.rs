//! Programs that show what greenprof shows: a service under load ([`orders`]), and a [`tour`] of its profiles.
//!
//! The binary `greenprof-demos` is a thin shell over this library, which exists so that everything can be tested.

#![warn(missing_docs)]

pub mod catalog;
pub mod console;
pub mod interrupt;
pub mod orders;
pub mod serve;
pub mod setup;
pub mod table;
pub mod tour;
