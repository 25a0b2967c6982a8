//! Leaks as they recur in large programs, after a study at Uber.

mod double_send;
mod early_return;
mod method_contract_violation;
mod timeout;

use super::program::Program;

/// All of them.
pub const PROGRAMS: &[&Program] =
    &[&method_contract_violation::PROGRAM, &double_send::PROGRAM, &early_return::PROGRAM, &timeout::PROGRAM];

/// Where they come from.
const STUDY: &str = "Unveiling and Vanquishing Goroutine Leaks, CGO 2024, doi:10.1109/CGO57630.2024.10444835";
