//! The format that Go's tools read: generations of batches of events, each with its own strings and stacks.
//!
//! [`wire`] has the numbers, [`generation`] builds one generation out of events that are valid already, `tables` ends it with
//! the stacks and strings that it uses.

pub(crate) mod generation;
pub(crate) mod tables;
pub(crate) mod wire;
