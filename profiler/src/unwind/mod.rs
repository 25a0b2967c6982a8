//! Stack walks that cross code without frame pointers, by tables that are made outside of the signal handler.
//!
//! The program and std keep a chain of frame pointers; the C library, and most libraries of a system, use that register
//! for something else. Such code says in its `.eh_frame` section, for each instruction, where its caller is. That
//! needs an interpreter; here it is run ahead of time, once for each module, and what it says is kept as a sorted array
//! of eight bytes a row ([`rule`]), in which the handler searches. Functions of the usual shape, which keep the frame
//! pointer, need no rows: there the walk follows the frame pointers.
//!
//! # What the handler sees
//! One pointer to a list of modules, each with its range and its rows. Neither lists nor rows are ever freed, and rows
//! are made once for each file; a list that equals an earlier one is used again. So memory grows only with the number
//! of different libraries and arrangements of them that the program had.
//!
//! # How it cannot go wrong
//! Every word is read inside the known bounds of the interrupted stack, and each step goes to a higher address. So
//! whatever the stack holds, and whatever the tables say, the walk ends and does not fault; the result may be wrong or
//! short, and then says so ([`step::Stepped::Broken`]).

mod compile;
mod list;
mod rule;
pub(crate) mod step;

pub(crate) use list::{current, refresh};
