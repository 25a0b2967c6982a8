//! Tasks that are blocked and can be woken.
use super::program::Program;
/// All.
pub const PROGRAMS: &[&Program] = &[];
