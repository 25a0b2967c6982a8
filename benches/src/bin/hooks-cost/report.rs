//! From samples to sentences.

use std::fmt;

use greenprof_benches::{
    sample::{Hooks, Sample},
    statistics::{CONFIDENCE, Summary},
};
use serde::Serialize;

use crate::{Clock, sampling::Row};

/// The result of a run of `hooks-cost`; with `--json` it is printed as it stands here.
#[derive(Serialize)]
pub(crate) struct Report {
    clock: Clock,
    confidence: f64,
    rows: Vec<Line>,
}

/// A workload with a number of workers.
#[derive(Serialize)]
struct Line {
    workload: &'static str,
    workers: usize,
    /// Nanoseconds of an operation in each variant.
    nanoseconds: Variants,
    off_to_absent: Effect,
    on_to_absent: Effect,
    samples: Vec<[Sample; 3]>,
}

#[derive(Serialize)]
struct Variants {
    absent: Summary,
    off: Summary,
    on: Summary,
}

/// How one variant compares with another.
#[derive(Serialize)]
struct Effect {
    /// Of the ratios, one per round.
    ratio: Summary,
    /// Whether the interval of the median ratio excludes 1.
    resolved: bool,
}

impl Report {
    pub(crate) fn new(clock: Clock, rows: Vec<Row>) -> Self {
        let rows = rows.into_iter().map(|row| Line::new(clock, row)).collect();
        Self { clock, confidence: CONFIDENCE, rows }
    }
}

impl Line {
    fn new(clock: Clock, row: Row) -> Self {
        let times = |hooks: Hooks| -> Vec<f64> {
            row.rounds.iter().map(|round| nanoseconds(clock, &round[hooks as usize])).collect()
        };
        let [absent, off, on] = Hooks::ALL.map(times);
        Self {
            workload: row.workload.name(),
            workers: row.workers,
            nanoseconds: Variants { absent: Summary::of(&absent), off: Summary::of(&off), on: Summary::of(&on) },
            off_to_absent: Effect::new(&off, &absent),
            on_to_absent: Effect::new(&on, &absent),
            samples: row.rounds,
        }
    }
}

fn nanoseconds(clock: Clock, sample: &Sample) -> f64 {
    match clock {
        Clock::Wall => sample.wall_ns,
        Clock::Cpu => sample.cpu_ns,
    }
}

impl Effect {
    fn new(times: &[f64], baseline: &[f64]) -> Self {
        let ratios: Vec<f64> = times.iter().zip(baseline).map(|(time, base)| time / base).collect();
        let ratio = Summary::of(&ratios);
        Self { resolved: ratio.excludes(1.0), ratio }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { median, low, high, first_quartile, third_quartile } = self.ratio;
        let verdict = match (self.resolved, (median - 1.0) * 100.0) {
            (false, _) => "not resolved".to_owned(),
            (true, percent) => format!("{percent:+.1} %"),
        };
        let interval = format!("[{low:.3}, {high:.3}]");
        let spread = third_quartile - first_quartile;
        write!(f, "{median:.3} {interval:<15} spread {spread:.3}  {verdict:<12}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rows.first().map_or(0, |line| line.samples.len());
        let clock = match self.clock {
            Clock::Wall => "wall time",
            Clock::Cpu => "processor time of all threads",
        };
        writeln!(f, "What do hooks cost? Nanoseconds of {clock} per operation, medians of {rounds} processes each.")?;
        writeln!(f, "none: built without hooks; off: built in, nobody listens; on: every event is counted.\n")?;
        writeln!(f, "{:<11} {:>7} {:>9} {:>9} {:>9}", "workload", "workers", "none", "off", "on")?;
        for line in &self.rows {
            let Variants { absent, off, on } = &line.nanoseconds;
            writeln!(
                f,
                "{:<11} {:>7} {:>9.1} {:>9.1} {:>9.1}",
                line.workload, line.workers, absent.median, off.median, on.median
            )?;
        }
        let percent = self.confidence * 100.0;
        writeln!(
            f,
            "\nRatios of the runs of one round: median, its {percent:.0} % interval, spread of the middle half."
        )?;
        writeln!(f, "\"not resolved\": the interval includes 1, so the difference is not told from noise.\n")?;
        for (name, effect) in [("off / none", Line::off as fn(&Line) -> &Effect), ("on / none", Line::on)] {
            writeln!(f, "{:<11} {:>7}   {name}", "workload", "workers")?;
            for line in &self.rows {
                writeln!(f, "{:<11} {:>7}   {}", line.workload, line.workers, effect(line).to_string().trim_end())?;
            }
            writeln!(f)?;
        }
        write!(f, "Two builds differ in where their code lies, too: a few percent between off and none can be that.")
    }
}

impl Line {
    fn off(&self) -> &Effect {
        &self.off_to_absent
    }

    fn on(&self) -> &Effect {
        &self.on_to_absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenprof_benches::workload::Workload;

    fn row(times: impl Fn(usize) -> [f64; 3]) -> Row {
        let sample = |hooks, wall_ns| Sample {
            workload: "yield".to_owned(),
            workers: 1,
            hooks,
            operations: 1,
            wall_ns,
            cpu_ns: 2.0 * wall_ns,
            events: None,
        };
        let rounds = (0..15)
            .map(|round| {
                let [absent, off, on] = times(round);
                [sample(Hooks::Absent, absent), sample(Hooks::Off, off), sample(Hooks::On, on)]
            })
            .collect();
        Row { workload: Workload::Yield, workers: 1, rounds }
    }

    #[test]
    fn drift_that_all_variants_share_leaves_the_ratios_alone() {
        let line = Line::new(Clock::Wall, row(|round| [1.0, 1.02, 3.0].map(|time| time * (10 + round) as f64)));
        assert!((line.off_to_absent.ratio.median - 1.02).abs() < 1e-9);
        assert!(line.off_to_absent.resolved && line.on_to_absent.resolved);
        assert_eq!(line.nanoseconds.absent.median, 17.0);
    }

    #[test]
    fn noise_on_both_sides_is_not_resolved() {
        let report = Report::new(Clock::Cpu, vec![row(|round| [1.0, if round % 2 == 0 { 0.97 } else { 1.04 }, 3.0])]);
        assert!(!report.rows[0].off_to_absent.resolved);
        let text = report.to_string();
        assert!(text.contains("not resolved"), "{text}");
        assert!(text.contains("+200.0 %"), "{text}");
        assert!(text.contains("       2.0 "), "cpu times are twice the wall times: {text}");
    }
}
