//! The report: plan, samples, lines, table, result set.

pub(crate) mod document;
mod sampling;
pub(crate) mod table;

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use greenprof_benches::{builds, case::Case, instructions, peers::Peer, program};

use crate::{
    detectors, go, heap,
    results::{
        RESULTS, Set,
        line::Line,
        machine::{Machine, Run},
    },
    sections::{self, Section},
};
use sampling::{Job, Plan};
pub(crate) use sampling::{Samples, output_in_time};
use table::Length;

/// Samples of each peer: the whole report with its hundreds of cases takes a quarter of an hour so. Of nine, an interval can leave
/// one outlier out at each end.
const SAMPLES: usize = FEWEST;
/// The fewest that may be judged by.
pub(crate) const FEWEST: usize = 5;
const QUICK_SAMPLES: usize = 2;
/// With so many, an interval leaves a third of them out, and is about half as wide as with nine.
const FULL_SAMPLES: usize = 25;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this section: scheduler, heap, cpu, contention, tasks, trace, leak, overhead, accuracy, detectors
    #[arg(long, value_name = "SECTION")]
    only: Option<String>,
    /// Only these cases, of those that the section has
    #[arg(long, value_delimiter = ',', value_name = "CASE")]
    cases: Vec<Case>,
    /// Two short samples instead of five, one of what cannot be shortened, and no corpus of leaks: to look, not to judge
    #[arg(long)]
    quick: bool,
    /// Twenty-five samples instead of five, for narrower intervals
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Samples of each peer, instead of five, which are the fewest
    #[arg(long, conflicts_with_all = ["quick", "full"])]
    samples: Option<usize>,
    /// Print a line of JSON for each row instead of a table
    #[arg(long)]
    json: bool,
    /// Also put the tables into this Markdown file, each below the line that names its section
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "cases"])]
    into: Option<PathBuf>,
    /// Also write tables, rows and plots into this folder; what it has of other sections stays [default folder: docs/results]
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = RESULTS, conflicts_with = "cases")]
    results: Option<PathBuf>,
    /// Operations of a batch, instead of each case's own number
    #[arg(long, hide = true)]
    operations: Option<u64>,
}

impl Options {
    fn rounds(&self) -> usize {
        match (self.quick, self.full) {
            (true, _) => QUICK_SAMPLES,
            (_, true) => FULL_SAMPLES,
            _ => self.samples.unwrap_or(SAMPLES),
        }
    }
}

/// Takes all samples and returns what is to be printed.
pub(crate) fn run(options: &Options) -> anyhow::Result<String> {
    let began = Instant::now();
    let sections = chosen(options.only.as_deref())?;
    let rounds = options.rounds();
    ensure!(options.quick || rounds >= FEWEST, "{rounds} samples are too few to judge by: take {FEWEST} at least");
    let mut set = options.results.as_deref().map(Set::prepare).transpose()?;

    let mut jobs = jobs(&sections, &options.cases);
    let has_detectors = options.cases.is_empty() && sections.iter().any(|section| section.name == detectors::NAME);
    // A minute of its own, which no fewer samples make shorter.
    let wants_detectors = has_detectors && !(options.quick && options.only.is_none());
    ensure!(!jobs.is_empty() || wants_detectors, "no section that was asked for has such a case");
    let wants_go = wants_detectors || jobs.iter().any(|job| job.peers.contains(&Peer::Go));
    let go = if wants_go { go::build()? } else { None };
    let go_version = go.as_ref().map(|program| program.version.clone());
    let mut notes = Vec::new();
    if has_detectors && !wants_detectors {
        notes.push("The corpus of leaks is left out of a quick report: `--only detectors` runs it.".to_owned());
    }
    if cfg!(debug_assertions) {
        notes.push("This is a debug build: its figures say nothing of a release build's.".to_owned());
    }
    match &go {
        Some(program) => notes.push(format!("Go is {}.", program.version)),
        None if wants_go => {
            jobs.iter_mut().for_each(|job| job.peers.retain(|peer| *peer != Peer::Go));
            notes.push(
                "No Go toolchain was found (GREENPROF_GO, or go on the path): its rows have no peer and no verdict."
                    .to_owned(),
            );
        }
        None => {}
    }

    let wants_console = jobs.iter().any(|job| job.peers.contains(&Peer::TokioConsole));
    let tokio_console = match wants_console.then(tokio_console).transpose() {
        Ok(program) => program,
        Err(error) => {
            jobs.iter_mut().for_each(|job| job.peers.retain(|peer| *peer != Peer::TokioConsole));
            notes.push(format!("tokio-console has no rows: {error:#}."));
            None
        }
    };

    if jobs.iter().any(|job| job.case.is_counted()) {
        let why = match options.quick && options.only.is_none() && options.cases.is_empty() {
            true => Some("Instructions are not counted in a quick report: `--only` with their section counts them."),
            false if instructions::is_available() => None,
            false => Some("No valgrind was found: the rows that count instructions are left out."),
        };
        if let Some(why) = why {
            jobs.retain(|job| !job.case.is_counted());
            notes.push(why.to_owned());
        }
    }

    let of_allocators = jobs.iter().any(|job| job.case.is_of_allocators());
    let heap = of_allocators.then(heap::Programs::build).transpose()?;
    let has_builds = jobs.iter().any(|job| matches!(job.case, Case::HooksOff | Case::HooksInstructions));
    let builds = has_builds.then(builds::build).transpose()?;

    let plan =
        Plan { jobs, rounds, quick: options.quick, operations: options.operations, go, tokio_console, heap, builds };
    let (samples, failures) = sampling::sample(&plan)?;
    notes.extend(failures);
    let mut lines = Vec::new();
    // What belongs under their table only.
    let mut of_detectors = Vec::new();
    for section in &sections {
        for row in section.rows.iter().filter(|row| plan.has(row.case)) {
            for &workers in row.workers {
                lines.push(Line::new(section.name, row, workers, &samples, options.quick));
            }
        }
    }
    if wants_detectors {
        // There is little that chance decides in a program whose interleaving is forced.
        let runs = (rounds / 8).max(1);
        lines.extend(detectors::measure(plan.go.as_ref(), runs, options.quick, &mut of_detectors)?);
    }
    let length = Length { rounds, quick: options.quick };
    for section in sections.iter().filter_map(|section| Some((section, options.into.as_ref()?))) {
        let (section, file) = section;
        let notes = if section.name == detectors::NAME { &of_detectors } else { &notes };
        document::update(file, section.name, &table::markdown(section.name, &lines, notes, length))?;
    }
    if let Some((set, folder)) = set.as_mut().zip(options.results.as_deref()) {
        let machine = Machine::here();
        let seconds = began.elapsed().as_secs();
        for section in &sections {
            let is_detectors = section.name == detectors::NAME;
            let samples = lines.iter().find(|line| is_detectors && line.section == section.name);
            let length = (samples.map_or(rounds, |line| line.samples), options.quick);
            let notes = if is_detectors { &of_detectors } else { &notes };
            let run = Run::now(&machine, go_version.as_deref(), length, seconds, notes);
            set.replace(section.name, run, &lines);
        }
        let names: Vec<&str> = sections.iter().map(|section| section.name).collect();
        set.write(folder, &names)?;
    }
    notes.extend(of_detectors);
    if options.json {
        // The notes belong to people; whoever reads the lines sees a missing peer by its null.
        notes.iter().for_each(|note| eprintln!("{note}"));
        let lines: Result<Vec<String>, _> = lines.iter().map(serde_json::to_string).collect();
        return Ok(lines?.join("\n"));
    }
    Ok(table::render(&lines, &notes, length))
}

/// Builds tokio under tokio-console's subscriber.
fn tokio_console() -> anyhow::Result<PathBuf> {
    program::build_apart("tokio-console", "tokio with tokio-console's subscriber", "--cfg tokio_unstable")
}

fn chosen(only: Option<&str>) -> anyhow::Result<Vec<&'static Section>> {
    let chosen: Vec<_> =
        sections::ALL.into_iter().filter(|section| only.is_none_or(|name| section.name == name)).collect();
    let names = || sections::ALL.map(|section| section.name).join(", ");
    ensure!(!chosen.is_empty(), "there is no section `{}`; there are {}", only.unwrap_or_default(), names());
    Ok(chosen)
}

/// What has to be run for the rows: each case once for each number of workers, with all peers that some row wants.
fn jobs(sections: &[&Section], cases: &[Case]) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    let rows = sections.iter().flat_map(|section| section.rows);
    for row in rows.filter(|row| cases.is_empty() || cases.contains(&row.case)) {
        for &workers in row.workers {
            let job = match jobs.iter_mut().find(|job| job.case == row.case && job.workers == workers) {
                Some(job) => job,
                None => {
                    jobs.push(Job { case: row.case, workers, peers: vec![Peer::Greenprof] });
                    jobs.last_mut().expect("pushed just now")
                }
            };
            job.peers.extend(row.peer().filter(|peer| !job.peers.contains(peer)));
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_run_once_for_all_its_rows() {
        let jobs = jobs(&chosen(None).unwrap(), &[Case::Parked, Case::Switch]);
        let peers = |job: &Job| job.peers.clone();
        let names: Vec<_> = jobs.iter().map(|job| (job.case, job.workers)).collect();
        assert_eq!(names, [(Case::Switch, 1), (Case::Parked, 1), (Case::Parked, 2)]);
        assert_eq!(peers(&jobs[0]), [Peer::Greenprof, Peer::Corosensei]);
        assert_eq!(peers(&jobs[1]), [Peer::Greenprof, Peer::Go, Peer::Tokio]);
    }

    #[test]
    fn an_unknown_section_is_an_error_that_names_the_others() {
        let error = chosen(Some("nothing")).err().unwrap();
        assert_eq!(
            error.to_string(),
            "there is no section `nothing`; there are scheduler, heap, cpu, contention, tasks, trace, leak, overhead, accuracy, \
             detectors"
        );
    }
}
