//! Situations in which no task is leaked.
use crate::Case;
pub const CASES: &[Case] = &[];
