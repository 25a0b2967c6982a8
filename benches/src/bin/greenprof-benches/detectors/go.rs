//! Go's `goroutineleak` profile, on programs of the corpus that were written for Go: `corpus.go` in the Go peer.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use anyhow::Context;
use greenprof_benches::{statistics::Summary, values::Values};

use super::{Detector, Judged};
use crate::{go::Program, report::output_in_time};

/// A program settles within a fraction of a second, or gives up after some.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Go {
    program: PathBuf,
    version: String,
}

impl Go {
    pub(super) fn new(program: &Program) -> Self {
        Self { program: program.path.clone(), version: program.version.clone() }
    }

    fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("corpus").args(arguments).env("GOMAXPROCS", "2");
        output_in_time(&mut command, PATIENCE)
    }

    fn run(&self, id: &str) -> anyhow::Result<Values> {
        serde_json::from_str(&self.ask(&[id])?).context("its answer is not understood")
    }
}

impl Detector for Go {
    fn name(&self) -> &str {
        "go"
    }

    fn what(&self) -> String {
        format!("the goroutineleak profile of {}, on programs of the corpus that were written for it", self.version)
    }

    fn judge(&self, runs: usize, complaints: &mut Vec<String>) -> anyhow::Result<BTreeMap<String, Judged>> {
        let mut all = BTreeMap::new();
        for id in self.ask(&[]).context("Go's part of the corpus cannot be run")?.lines() {
            let samples: anyhow::Result<Vec<Values>> = (0..runs).map(|_| self.run(id)).collect();
            match samples {
                Ok(samples) => {
                    let of = |name: &str| -> Vec<f64> {
                        samples.iter().map(|values| values.get(name).copied().unwrap_or(0.0)).collect()
                    };
                    let sum = |name: &str| of(name).iter().sum();
                    let micros = Summary::of(&of("micros")).median;
                    let (expected, found) = (sum("expected"), sum("found"));
                    // No frame of the program is left when it is looked at.
                    let judged = Judged { expected, found, returned: (expected, found), wrong: sum("false"), micros };
                    all.insert(id.to_owned(), judged);
                }
                Err(error) => complaints.push(format!("go: {id}: {error:#}")),
            }
        }
        Ok(all)
    }
}
