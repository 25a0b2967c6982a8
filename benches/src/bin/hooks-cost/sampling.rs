//! Running the variants in turn.

use std::process::Command;

use anyhow::{Context, bail};
use greenprof_benches::{
    builds::Programs,
    progress,
    sample::{Hooks, Sample},
    workload::Workload,
};

/// What is to be run.
pub(crate) struct Plan {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) workers: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) operations: u64,
}

/// A workload with a number of workers, and its samples: one of each variant per round, in the order of [`Hooks::ALL`].
pub(crate) struct Row {
    pub(crate) workload: Workload,
    pub(crate) workers: usize,
    pub(crate) rounds: Vec<[Sample; 3]>,
}

/// Runs the plan. The rounds are the outer loop, so that the samples of one row are spread over the whole time.
pub(crate) fn sample(plan: &Plan, programs: &Programs) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = plan
        .workloads
        .iter()
        .flat_map(|&workload| plan.workers.iter().map(move |&workers| Row { workload, workers, rounds: Vec::new() }))
        .collect();
    let progress = progress::bar(plan.rounds * rows.len());
    for round in 0..plan.rounds {
        for row in &mut rows {
            progress.set_message(format!("{}, workers: {}", row.workload.name(), row.workers));
            let samples = one_round(round, row, plan.operations, programs)?;
            row.rounds.push(samples);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(rows)
}

/// A sample of each variant. Which comes first rotates, so that none always runs after the same other one.
fn one_round(round: usize, row: &Row, operations: u64, programs: &Programs) -> anyhow::Result<[Sample; 3]> {
    let mut samples = [const { None }; 3];
    for turn in 0..samples.len() {
        let variant = (round + turn) % samples.len();
        samples[variant] = Some(one_sample(row, Hooks::ALL[variant], operations, programs)?);
    }
    Ok(samples.map(|sample| sample.expect("every variant has had its turn")))
}

fn one_sample(row: &Row, hooks: Hooks, operations: u64, programs: &Programs) -> anyhow::Result<Sample> {
    let output = Command::new(programs.path(hooks))
        .arg(row.workload.name())
        .arg(format!("--workers={}", row.workers))
        .arg(format!("--operations={operations}"))
        .args((hooks == Hooks::On).then_some("--instrument"))
        .output()
        .context("the workload cannot be started")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("a run of {} ended with {}: {}", row.workload.name(), output.status, message.trim());
    }
    let sample: Sample = serde_json::from_slice(&output.stdout).context("the workload's answer is not understood")?;
    if sample.hooks != hooks {
        bail!("the program that was to run with hooks {hooks:?} has run with hooks {:?}", sample.hooks);
    }
    Ok(sample)
}
