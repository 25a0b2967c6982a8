//! Taking the samples: a process for each, the peers of a case in turn.

use std::{
    collections::HashMap,
    env,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use greenprof_benches::{
    builds,
    case::{Case, Effort},
    instructions,
    peers::Peer,
    progress,
    sample::{Hooks, Sample},
    values::{INSTRUCTIONS, TIME, Values},
};

use crate::{go, heap::Programs};

/// A sample takes a second or two. One that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A case to be run with a number of workers. Ours is the first of the peers.
pub(super) struct Job {
    pub(super) case: Case,
    pub(super) workers: usize,
    pub(super) peers: Vec<Peer>,
}

/// What is to be run.
pub(super) struct Plan {
    pub(super) jobs: Vec<Job>,
    pub(super) rounds: usize,
    pub(super) quick: bool,
    /// Instead of each case's own.
    pub(super) operations: Option<u64>,
    pub(super) go: Option<go::Program>,
    pub(super) tokio_console: Option<PathBuf>,
    pub(super) heap: Option<Programs>,
    /// For [`Case::HooksOff`].
    pub(super) builds: Option<builds::Programs>,
}

/// The samples of each peer, one of each round. A peer that has failed is not there.
#[derive(Default)]
pub(crate) struct Samples(HashMap<(Case, usize, Peer), Vec<Values>>);

impl Plan {
    pub(super) fn has(&self, case: Case) -> bool {
        self.jobs.iter().any(|job| job.case == case)
    }

    fn effort(&self, case: Case) -> Effort {
        let effort = case.effort();
        let effort = if self.quick && case.can_be_shortened() { effort.quick() } else { effort };
        Effort { operations: self.operations.unwrap_or(effort.operations), ..effort }
    }
}

impl Samples {
    /// A value in every round; nothing if the peer did not run, or has no such value.
    pub(crate) fn get(&self, case: Case, workers: usize, peer: Peer, value: &str) -> Option<Vec<f64>> {
        self.0.get(&(case, workers, peer))?.iter().map(|values| values.get(value).copied()).collect()
    }

    /// Takes the last sample once more.
    fn repeat(&mut self, key: (Case, usize, Peer)) {
        if let Some(samples) = self.0.get_mut(&key)
            && let Some(last) = samples.last().cloned()
        {
            samples.push(last);
        }
    }

    #[cfg(test)]
    pub(crate) fn put(&mut self, case: Case, workers: usize, peer: Peer, values: Values) {
        self.0.entry((case, workers, peer)).or_default().push(values);
    }
}

/// Runs the plan. The rounds are the outer loop, so that the samples of one row are spread over the whole time. Gives a
/// sentence for each peer that has failed; that we fail is an error.
pub(super) fn sample(plan: &Plan) -> anyhow::Result<(Samples, Vec<String>)> {
    let mut samples = Samples::default();
    let mut failed: Vec<(Case, usize, Peer)> = Vec::new();
    let mut failures = Vec::new();
    let progress = progress::bar(plan.rounds * plan.jobs.iter().map(|job| job.peers.len()).sum::<usize>());
    for round in 0..plan.rounds {
        for job in &plan.jobs {
            for turn in 0..job.peers.len() {
                // Who comes first rotates, so that nobody always runs after the same other one.
                let peer = job.peers[(round + turn) % job.peers.len()];
                progress.set_message(format!("{}: {peer}, workers: {}", job.case, job.workers));
                let key = (job.case, job.workers, peer);
                let once = job.case.is_repeatable() || plan.quick && !job.case.can_be_shortened();
                if round > 0 && once {
                    // As many as of the others, so that the rounds can be compared.
                    samples.repeat(key);
                } else if !failed.contains(&key) {
                    match one_sample(plan, job, peer) {
                        Ok(values) => samples.0.entry(key).or_default().push(values),
                        Err(error) if peer == Peer::Greenprof => return Err(error),
                        Err(error) => {
                            samples.0.remove(&key);
                            failed.push(key);
                            failures.push(format!("{error:#}"));
                        }
                    }
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok((samples, failures))
}

fn one_sample(plan: &Plan, job: &Job, peer: Peer) -> anyhow::Result<Values> {
    let &Job { case, workers, .. } = job;
    let effort = plan.effort(case);
    if matches!(case, Case::HooksOff | Case::HooksInstructions) {
        return one_build(plan, job, effort, peer);
    }
    let mut command = if peer == Peer::Go {
        let program = plan.go.as_ref().context("the Go peer has not been built")?;
        let mut command = Command::new(&program.path);
        command.arg(case.name()).arg(effort.operations.to_string()).arg(effort.batches.to_string());
        command.env("GOMAXPROCS", workers.to_string());
        command
    } else if peer == Peer::TokioConsole {
        let mut command = Command::new(plan.tokio_console.as_ref().context("the peer has not been built")?);
        command.args([workers as u64, effort.operations, effort.batches].map(|number| number.to_string()));
        command
    } else if case.is_of_allocators() {
        let mut command = plan.heap.as_ref().context("the allocators have not been built")?.command(peer)?;
        command.arg(format!("--workload={case}")).arg(format!("--workers={workers}"));
        command.arg(format!("--operations={}", effort.operations)).arg(format!("--batches={}", effort.batches));
        command
    } else {
        let mut command = Command::new(env::current_exe().context("this program does not know where it is")?);
        command.arg("measure").arg(format!("--peer={peer}")).arg(format!("--workload={case}"));
        command.arg(format!("--workers={workers}"));
        command.arg(format!("--operations={}", effort.operations)).arg(format!("--batches={}", effort.batches));
        command
    };
    let who = || format!("{peer}'s sample of {case} with {workers} workers failed");
    let output = output_in_time(&mut command, PATIENCE).with_context(who)?;
    serde_json::from_str(&output).context("its answer is not understood").with_context(who)
}

/// A rendezvous round trip, in a program of its own with or without hooks.
fn one_build(plan: &Plan, job: &Job, effort: Effort, peer: Peer) -> anyhow::Result<Values> {
    let hooks = if peer == Peer::Hookless { Hooks::Absent } else { Hooks::Off };
    let programs = plan.builds.as_ref().context("the builds are missing")?;
    let command = |operations: u64| {
        let mut command = Command::new(programs.path(hooks));
        command.arg("ping-pong").arg(format!("--workers={}", job.workers)).arg(format!("--operations={operations}"));
        command.arg(format!("--batches={}", effort.batches));
        command
    };
    if job.case == Case::HooksInstructions {
        return Ok([(INSTRUCTIONS.to_owned(), instructions::of_operations(effort.operations, command)?)].into());
    }
    let mut command = command(effort.operations * effort.batches);
    let sample: Sample = serde_json::from_str(&output_in_time(&mut command, PATIENCE)?)?;
    ensure!(sample.hooks == hooks, "the build with hooks {hooks:?} says that it has hooks {:?}", sample.hooks);
    Ok([(TIME.to_owned(), sample.wall_ns)].into())
}

/// Runs a program that prints less than a pipe holds.
pub(crate) fn output_in_time(command: &mut Command, patience: Duration) -> anyhow::Result<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {} seconds", patience.as_secs_f64());
        }
        thread::sleep(Duration::from_millis(2));
    };
    let Child { stdout, stderr, .. } = child;
    let (mut output, mut message) = (String::new(), String::new());
    stdout.context("its output is a pipe")?.read_to_string(&mut output)?;
    stderr.context("its errors are a pipe")?.read_to_string(&mut message)?;
    if !status.success() {
        bail!("{status}: {}", message.trim().lines().next().unwrap_or("no reason given"));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> anyhow::Result<String> {
        output_in_time(Command::new("sh").args(["-c", script]), Duration::from_millis(500))
    }

    #[test]
    fn output_errors_and_hanging_are_told_apart() {
        assert_eq!(shell("echo yes").unwrap(), "yes\n");
        assert_eq!(shell("echo no >&2; exit 3").unwrap_err().to_string(), "exit status: 3: no");
        assert_eq!(shell("exec sleep 20").unwrap_err().to_string(), "it did not end within 0.5 seconds");
    }
}
