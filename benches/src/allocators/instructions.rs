//! Instructions instead of time: the same number on a machine that does other things meanwhile.
//!
//! valgrind counts those of two runs of this program, and the difference is that of their operations: so what a process does
//! at its start and end is not counted. It says nothing on what the instructions wait for.

use std::{env, process::Command};

use anyhow::{Context, bail, ensure};

use super::Allocator;
use crate::{
    case::Case,
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
    let more = of_process(allocator, 2 * operations)?;
    let less = of_process(allocator, operations)?;
    ensure!(more > less, "twice the work has taken {more} instructions, and once {less}");
    // A warm-up of a tenth of a batch comes with either.
    Ok((more - less) as f64 / (operations as f64 * 1.1))
}

fn of_process(allocator: Allocator, operations: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(env::current_exe().context("this program does not know where it is")?)
        .arg(format!("--allocator={allocator}"))
        .arg(format!("--workload={}", Case::HeapImmediate))
        .args([format!("--operations={operations}"), "--batches=1".to_owned()])
        .output()
        .context("valgrind cannot be run")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind: {}: {}", output.status, text.trim().lines().last().unwrap_or("no reason given"));
    }
    parse(&text).context("valgrind has not told how many instructions there were")
}

/// The total in what cachegrind says.
fn parse(text: &str) -> Option<u64> {
    let total =
        text.lines().find_map(|line| line.split_once("refs:").filter(|(name, _)| name.trim_end().ends_with('I')))?;
    total.1.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(parse("==1== Cachegrind\n==1== \n==1== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(parse("==1== D   refs:      1,234,567\n"), None);
        assert_eq!(parse("==1== I   refs:      many\n"), None);
    }
}
