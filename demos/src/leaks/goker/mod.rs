//! Kernels.
use super::program::Program;
/// All.
pub const PROGRAMS: &[&Program] = &[];
