//! The same in instructions, which valgrind counts: of one operation with an instrument on, and with all of them off.
//!
//! Only of instruments that do the same however slow the program is: not of those that go by time (the CPU profile, the block profile's
//! longer rates), nor of what is done once a second; and not on `orders`, which goes by time itself and has hundreds of orders in the
//! works at a time, so that where a count begins and ends decides over it. What threads do every few milliseconds (the monitor, the
//! tracer's reader) is more than it is: valgrind makes the program fifty times slower, and not the clock.
//!
//! For each setting so many operations run, and twice as many; the difference has what they cost, with what an instrument does later of
//! it, and without its beginning and its end.

use std::{env, process::Command};

use anyhow::Context;

use super::{
    programs,
    settings::{self, Setting},
};
use crate::{
    case::{Case, Effort},
    instructions::{begin, between_marks, mark},
    values::{OFF, Values},
};

/// The settings that are counted, by the names of their values.
pub const COUNTED: &[(&str, Setting)] = &[
    ("heap 512 KiB", Setting::Heap(512 << 10)),
    ("heap 64 KiB", Setting::Heap(64 << 10)),
    ("heap, everything", Setting::Heap(1)),
    ("block 1 ns", Setting::Block(1)),
    ("mutex 1 in 100", Setting::Mutex(100)),
    ("mutex, everything", Setting::Mutex(1)),
    ("trace", Setting::Trace),
    ("flight recorder", Setting::Flight),
    ("two labels", Setting::Labels),
    ("all that stays on, but CPU", Setting::AlwaysOnButCpu),
];

/// The program that is counted; nothing if the case is not one of this module's.
fn program_of(case: Case) -> Option<Case> {
    Some(match case {
        Case::InstructionsAllocate => Case::OverheadAllocate,
        Case::InstructionsPingPong => Case::OverheadPingPong,
        Case::InstructionsLock => Case::OverheadLock,
        _ => return None,
    })
}

const ONCE: &str = "once";
const TWICE: &str = "twice";

/// The mark of a setting's run.
fn mark_of(setting: &str, run: &str) -> String {
    format!("{setting}: {run}")
}

/// All settings, the first of which is none.
fn all() -> impl Iterator<Item = (&'static str, Option<Setting>)> {
    std::iter::once((OFF, None)).chain(COUNTED.iter().map(|(name, setting)| (*name, Some(*setting))))
}

/// Instructions of an operation with each setting, and as [`OFF`]; nothing if the case is not one of this module's. Runs this program
/// again under valgrind, as [`run_marked`].
///
/// # Errors
/// If valgrind fails.
pub fn count(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    if program_of(case).is_none() {
        return Ok(None);
    }
    let mut program = Command::new(env::current_exe().context("this program does not know where it is")?);
    program.args(["measure", "--peer=greenprof", "--marked"]).arg(format!("--workload={case}"));
    program.arg(format!("--workers={workers}")).arg(format!("--operations={}", effort.operations));
    let folder = tempfile::tempdir().context("there is no folder for valgrind's counts")?;
    let (printed, marks) = between_marks(&program, folder.path())?;
    let done: Values = serde_json::from_str(&printed).context("what the program says is not understood")?;
    let instructions = |setting: &str, run| {
        let mark = mark_of(setting, run);
        marks.get(&mark).map(|count| *count as f64).with_context(|| format!("valgrind has no count of {mark:?}"))
    };
    let each = |setting: &'static str| {
        let operations = done.get(setting).context("the program does not say how much it did")?;
        let more = instructions(setting, TWICE)? - instructions(setting, ONCE)?;
        anyhow::ensure!(more > 0.0, "twice the work has taken no more instructions with {setting}");
        Ok((setting.to_owned(), more / operations))
    };
    all().map(|(setting, _)| each(setting)).collect::<anyhow::Result<_>>().map(Some)
}

/// Runs the program of a case with each setting, and marks what belongs to which. Gives how many operations the second run of a setting
/// had more than the first; nothing if the case is not one of this module's.
///
/// # Errors
/// If the program cannot be started, or what it did is wrong.
pub fn run_marked(case: Case, workers: usize, operations: u64) -> anyhow::Result<Option<Values>> {
    let Some(case) = program_of(case) else { return Ok(None) };
    let Some(mut program) = programs::start(case, workers)? else { return Ok(None) };
    settings::all_off();
    let mut done = Values::new();
    for (name, setting) in all() {
        let mut run = |operations, run| {
            let on = setting.map(Setting::switch_on);
            begin();
            let done = match setting {
                Some(Setting::Labels) => program.run_labelled(operations),
                _ => program.run(operations),
            };
            drop(on);
            if let Some(run) = run {
                mark(&mark_of(name, run));
            }
            done
        };
        run(operations / 10 + 1, None);
        let once = run(operations, Some(ONCE));
        let twice = run(2 * operations, Some(TWICE));
        done.insert(name.to_owned(), (twice - once) as f64);
    }
    program.end()?;
    Ok(Some(done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_run_between_marks() {
        for case in [Case::InstructionsAllocate, Case::InstructionsLock] {
            let done = run_marked(case, 1, 40).expect("it runs").expect("it is one of them");
            assert_eq!(done.len(), COUNTED.len() + 1, "{done:?}");
            assert!(done.values().all(|operations| *operations == 40.0), "{done:?}");
        }
        assert!(run_marked(Case::PingPong, 1, 40).expect("nothing runs").is_none());
    }
}
