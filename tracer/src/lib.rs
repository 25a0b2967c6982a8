//! What the scheduler of a greenprof runtime did, heard through its hooks.
//!
//! [`counts`] counts events. The recorder that writes them as an execution trace will stand beside it.

#![warn(missing_docs)]

pub mod counts;
