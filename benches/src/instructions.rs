//! Instructions instead of time: the same number on a machine that does other things meanwhile. It says nothing on what the
//! instructions wait for.
//!
//! valgrind counts them. [`of_operations`] takes the difference of two processes, so that what a process does at its start and end is
//! not counted; with [`between_marks`] one process says where each of many counts begins and ends.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

/// Whether there is a valgrind to count with.
pub fn is_available() -> bool {
    let output = Command::new("valgrind").arg("--version").stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

/// Instructions of one operation. `program` says how to run so many of them, after a tenth as many that warm up; its program and arguments
/// count, its environment is that of the caller.
///
/// # Errors
/// If valgrind, or the program under it, fails.
pub fn of_operations(operations: u64, program: impl Fn(u64) -> Command) -> anyhow::Result<f64> {
    let more = of_process(&program(2 * operations))?;
    let less = of_process(&program(operations))?;
    ensure!(more > less, "twice the work has taken {more} instructions, and once {less}");
    Ok((more - less) as f64 / (operations as f64 * 1.1))
}

fn of_process(program: &Command) -> anyhow::Result<u64> {
    let (_, said) = run(&["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"], program)?;
    total_of_cachegrind(&said).context("valgrind has not told how many instructions there were")
}

/// Runs a program by its name and arguments, and gives what it has printed, and how many instructions there were until each [`mark`] since [`begin`].
///
/// # Errors
/// If valgrind, or the program under it, fails, or its counts cannot be read.
pub fn between_marks(program: &Command, folder: &Path) -> anyhow::Result<(String, BTreeMap<String, u64>)> {
    let counts = format!("--callgrind-out-file={}", folder.join("counts").display());
    let (printed, _) = run(&["--tool=callgrind", &counts], program)?;
    let mut marks = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path()).context("valgrind's counts cannot be read")?;
        // The last file is not about a mark, but about the end of the process.
        marks.extend(mark_of_callgrind(&text));
    }
    Ok((printed, marks))
}

/// What a program prints under valgrind, and what valgrind says.
fn run(tool: &[&str], program: &Command) -> anyhow::Result<(String, String)> {
    let mut command = Command::new("valgrind");
    // Or a thread that computes may keep the others waiting for ever: valgrind runs one at a time.
    command.arg("--fair-sched=try").args(tool).arg(program.get_program()).args(program.get_args());
    let output = command.stdin(Stdio::null()).output().context("valgrind cannot be run")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("valgrind: {}: {}", output.status, said.trim().lines().last().unwrap_or("no reason given"));
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said))
}

/// The total in what cachegrind says.
fn total_of_cachegrind(text: &str) -> Option<u64> {
    let total =
        text.lines().find_map(|line| line.split_once("refs:").filter(|(name, _)| name.trim_end().ends_with('I')))?;
    total.1.trim().replace(',', "").parse().ok()
}

/// The name of the mark that a file of callgrind's was written at, and its count.
fn mark_of_callgrind(text: &str) -> Option<(String, u64)> {
    let after = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).map(str::trim);
    let name = after("desc: Trigger: Client Request:")?;
    Some((name.to_owned(), after("totals:")?.parse().ok()?))
}

/// The first of callgrind's requests, from its header file: its letters.
const REQUESTS: usize = (b'C' as usize) << 24 | (b'T' as usize) << 16;

/// Begins to count anew. Without valgrind it does nothing.
pub fn begin() {
    const ZERO_STATS: usize = REQUESTS | 1;
    request([ZERO_STATS, 0, 0, 0, 0, 0]);
}

/// Ends a count, which gets this name. Without valgrind it does nothing.
///
/// # Panics
/// If the name contains a zero.
pub fn mark(name: &str) {
    const DUMP_STATS_AT: usize = REQUESTS | 3;
    let name = CString::new(name).expect("no zero in it");
    request([DUMP_STATS_AT, name.as_ptr().addr(), 0, 0, 0, 0]);
}

#[cfg(target_arch = "x86_64")]
fn request(arguments: [usize; 6]) {
    // SAFETY: rotations by 128 bits altogether and an exchange of a register with itself leave all as it was. valgrind knows the
    // sequence, reads the arguments, which outlive it, and the name that one of them points to, and puts its answer into rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") 0_usize => _,
            options(nostack),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_: [usize; 6]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found() {
        assert_eq!(total_of_cachegrind("==1== Cachegrind\n==1== \n==1== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(total_of_cachegrind("==1== D   refs:      1,234,567\n"), None);
        assert_eq!(total_of_cachegrind("==1== I   refs:      many\n"), None);
        let file = "version: 1\npid: 1\npart: 2\ndesc: Trigger: Client Request: heap, twice\n\nevents: Ir\nfn=(1)\ntotals: 42\n";
        assert_eq!(mark_of_callgrind(file), Some(("heap, twice".to_owned(), 42)));
        assert_eq!(mark_of_callgrind("desc: Trigger: Program termination\ntotals: 42\n"), None);
    }

    #[test]
    fn marks_do_nothing_by_themselves() {
        begin();
        mark("here");
    }
}
