//! What a CPU profile says: the functions that use the time, and whose orders they work on.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::profile::{Frame, Profile};

/// How many functions are shown.
const FUNCTIONS: usize = 12;

/// What stands for a label that a sample does not have.
pub const NO_LABEL: &str = "(none)";

/// A CPU profile in numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CpuReport {
    /// Timer expiries.
    pub samples: i64,
    /// The CPU time that they stand for, in seconds.
    pub cpu_seconds: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The functions with the most time of their own.
    pub functions: Vec<FunctionRow>,
    /// By the label `tenant`, largest first.
    pub tenants: Vec<LabelRow>,
    /// By the label `route`, largest first.
    pub routes: Vec<LabelRow>,
    /// What the profiler says about its losses.
    pub notes: Vec<String>,
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunctionRow {
    /// Its name.
    pub function: String,
    /// Its file.
    pub file: String,
    /// Its line with the most time.
    pub line: i64,
    /// Whether all of its own time is in copies that were inlined.
    pub inlined: bool,
    /// Its own time, in seconds.
    pub flat_seconds: f64,
    /// Its time and that of what it calls, in seconds.
    pub cum_seconds: f64,
}

/// A value of a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LabelRow {
    /// The value.
    pub label: String,
    /// Timer expiries.
    pub samples: i64,
    /// The CPU time that they stand for, in seconds.
    pub cpu_seconds: f64,
    /// Orders finished meanwhile; nothing where there are none.
    pub orders: Option<u64>,
}

/// Positions of the two values of a CPU profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    /// Timer expiries.
    pub samples: usize,
    /// Nanoseconds.
    pub cpu: usize,
}

impl Values {
    /// Those of a profile; nothing if it is no CPU profile.
    pub fn of(profile: &Profile) -> Option<Self> {
        Some(Self { samples: profile.value_index("samples")?, cpu: profile.value_index("cpu")? })
    }
}

impl CpuReport {
    /// Sums a profile up. The counts of orders are those finished while it was taken.
    pub fn new(
        profile: &Profile,
        values: Values,
        tenants: &BTreeMap<String, u64>,
        routes: &BTreeMap<String, u64>,
    ) -> Self {
        Self {
            samples: profile.sum(values.samples, |_| true),
            cpu_seconds: seconds(profile.sum(values.cpu, |_| true)),
            seconds: seconds(profile.duration),
            functions: functions(profile, values.cpu),
            tenants: by_label(profile, values, "tenant", tenants),
            routes: by_label(profile, values, "route", routes),
            notes: profile.comments.iter().map(|c| c.strip_prefix("greenprof ").unwrap_or(c).to_owned()).collect(),
        }
    }
}

fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Functions by their own time. The time of a sample is that of its innermost frame, an inlined one included, as in
/// `go tool pprof -top`.
fn functions(profile: &Profile, cpu: usize) -> Vec<FunctionRow> {
    #[derive(Default)]
    struct Sums {
        flat: i64,
        outlined: i64,
        cum: i64,
        lines: HashMap<i64, i64>,
    }
    let mut functions: HashMap<(&str, &str), Sums> = HashMap::new();
    fn key(frame: &Frame) -> (&str, &str) {
        (&frame.function, &frame.file)
    }
    for sample in &profile.samples {
        let value = sample.values[cpu];
        if let Some(leaf) = sample.frames.first() {
            let sums = functions.entry(key(leaf)).or_default();
            sums.flat += value;
            sums.outlined += if leaf.inlined { 0 } else { value };
            *sums.lines.entry(leaf.line).or_default() += value;
        }
        // A recursive function is counted once.
        let on_stack: HashSet<_> = sample.frames.iter().map(key).collect();
        for function in on_stack {
            functions.entry(function).or_default().cum += value;
        }
    }
    let mut rows: Vec<FunctionRow> = functions
        .into_iter()
        .filter(|(_, sums)| sums.flat > 0)
        .map(|((function, file), sums)| FunctionRow {
            function: function.to_owned(),
            file: file.to_owned(),
            // Code that belongs to no line is shown only if there is no other; ties go to the first line.
            line: sums
                .lines
                .iter()
                .max_by_key(|&(&line, &value)| (line > 0, value, -line))
                .map_or(0, |(&line, _)| line),
            inlined: sums.outlined == 0,
            flat_seconds: seconds(sums.flat),
            cum_seconds: seconds(sums.cum),
        })
        .collect();
    rows.sort_by(|a, b| {
        let order = b.flat_seconds.total_cmp(&a.flat_seconds).then(b.cum_seconds.total_cmp(&a.cum_seconds));
        order.then_with(|| a.function.cmp(&b.function))
    });
    rows.truncate(FUNCTIONS);
    rows
}

fn by_label(profile: &Profile, values: Values, key: &str, orders: &BTreeMap<String, u64>) -> Vec<LabelRow> {
    // Also those that have no sample at all.
    let mut sums: BTreeMap<&str, (i64, i64)> = orders.keys().map(|label| (label.as_str(), (0, 0))).collect();
    for sample in &profile.samples {
        let sum = sums.entry(sample.label(key).unwrap_or(NO_LABEL)).or_default();
        sum.0 += sample.values[values.samples];
        sum.1 += sample.values[values.cpu];
    }
    let rows = sums.into_iter().map(|(label, (samples, cpu))| LabelRow {
        label: label.to_owned(),
        samples,
        cpu_seconds: seconds(cpu),
        orders: orders.get(label).copied(),
    });
    let mut rows: Vec<LabelRow> = rows.collect();
    rows.sort_by(|a, b| (a.label == NO_LABEL).cmp(&(b.label == NO_LABEL)).then(b.samples.cmp(&a.samples)));
    rows
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::profile::Sample, *};

    /// A sample of `count` expiries at 100 Hz. Names of inlined functions start with `~`.
    pub fn sample(stack: &[&str], labels: &[(&str, &str)], count: i64) -> Sample {
        let frame = |name: &&str| Frame {
            function: name.trim_start_matches('~').to_owned(),
            file: "a.rs".to_owned(),
            line: name.len() as i64,
            inlined: name.starts_with('~'),
        };
        Sample {
            values: vec![count, count * 10_000_000],
            frames: stack.iter().map(frame).collect(),
            labels: labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    /// A CPU profile of these samples.
    pub fn profile(samples: Vec<Sample>) -> Profile {
        let types = [("samples", "count"), ("cpu", "nanoseconds")];
        let types = types.map(|(name, unit)| (name.to_owned(), unit.to_owned())).to_vec();
        Profile { types, samples, duration: 2_000_000_000, ..Profile::default() }
    }

    #[test]
    fn time_belongs_to_the_innermost_frame_and_to_all_callers_once() {
        let profile = profile(vec![
            sample(&["~add", "price", "run"], &[], 30),
            sample(&["price", "run"], &[], 50),
            sample(&["run", "run"], &[], 1),
        ]);
        let report = CpuReport::new(&profile, Values::of(&profile).unwrap(), &BTreeMap::new(), &BTreeMap::new());
        let rows: Vec<_> = report
            .functions
            .iter()
            .map(|row| (row.function.as_str(), row.inlined, row.flat_seconds, row.cum_seconds))
            .collect();
        assert_eq!(rows, [("price", false, 0.5, 0.8), ("add", true, 0.3, 0.3), ("run", false, 0.01, 0.81)]);
        assert_eq!((report.samples, report.seconds), (81, 2.0));
    }

    #[test]
    fn the_line_shown_is_the_one_with_the_most_time() {
        let mut late = sample(&["price"], &[], 30);
        late.frames[0].line = 70;
        let mut nowhere = sample(&["price"], &[], 90);
        nowhere.frames[0].line = 0;
        let profile = profile(vec![sample(&["price"], &[], 10), late, nowhere]);
        assert_eq!(functions(&profile, 1)[0].line, 70);
    }

    #[test]
    fn labels_are_summed_with_their_orders_and_the_rest_comes_last() {
        let profile = profile(vec![
            sample(&["a"], &[("tenant", "x")], 5),
            sample(&["b"], &[], 90),
            sample(&["b"], &[("tenant", "y")], 7),
            sample(&["c"], &[("tenant", "x")], 5),
        ]);
        let orders = [("x".to_owned(), 3), ("y".to_owned(), 2), ("z".to_owned(), 1)].into();
        let rows = by_label(&profile, Values::of(&profile).unwrap(), "tenant", &orders);
        let rows: Vec<_> = rows.iter().map(|row| (row.label.as_str(), row.samples, row.orders)).collect();
        assert_eq!(rows, [("x", 10, Some(3)), ("y", 7, Some(2)), ("z", 0, Some(1)), (NO_LABEL, 90, None)]);
    }
}
