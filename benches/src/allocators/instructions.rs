//! Instructions of an allocation and its free.

use std::{env, process::Command};

use anyhow::Context;

use super::Allocator;
use crate::{
    case::Case,
    instructions::of_operations,
    values::{INSTRUCTIONS, OFF, Values},
};

/// For ours both with the profiler, and without sampling as [`OFF`].
pub(super) fn count(allocator: Allocator, operations: u64) -> anyhow::Result<Values> {
    let mut values = Values::from([(INSTRUCTIONS.to_owned(), each(allocator, operations)?)]);
    if allocator == Allocator::Greenprof {
        values.insert(OFF.to_owned(), each(Allocator::Unsampled, operations)?);
    }
    Ok(values)
}

fn each(allocator: Allocator, operations: u64) -> anyhow::Result<f64> {
    let program = env::current_exe().context("this program does not know where it is")?;
    of_operations(operations, |operations| {
        let mut command = Command::new(&program);
        command.arg(format!("--allocator={allocator}")).arg(format!("--workload={}", Case::HeapImmediate));
        command.args([format!("--operations={operations}"), "--batches=1".to_owned()]);
        command
    })
}
