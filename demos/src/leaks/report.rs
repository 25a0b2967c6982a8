//! Figures of all runs of a form, and of all forms.

use serde::Serialize;

use super::{
    program::{Form, Kind, Program},
    runner::Settings,
    scene::Frame,
    sites::{Counted, Sites},
    verdict::Verdict,
};

/// All runs of one form with one frame.
pub struct Row {
    pub program: &'static Program,
    pub form: &'static Form,
    pub frame: Frame,
    pub runs: u32,
    /// Summed over all runs, as the next two.
    pub expected: Sites,
    pub found: Sites,
    pub false_positives: Sites,
    /// Runs in which the program was not what it claims to be, and why in the first of them.
    pub defects: Vec<String>,
    /// Runs that the detector called incomplete, and why in the first of them.
    pub incomplete: Vec<String>,
    /// Why some were missed, in the first run in which that was so and was asked for.
    pub why: Vec<String>,
    /// Runs in which something leaked.
    pub leaking: u32,
    /// The median of the detector's times.
    pub micros: u64,
}

impl Row {
    pub fn new(program: &'static Program, form: &'static Form, frame: Frame, verdicts: Vec<Verdict>) -> Self {
        let mut row = Self {
            program,
            form,
            frame,
            runs: verdicts.len() as u32,
            expected: Sites::default(),
            found: Sites::default(),
            false_positives: Sites::default(),
            defects: Vec::new(),
            incomplete: Vec::new(),
            why: Vec::new(),
            leaking: 0,
            micros: 0,
        };
        let mut times: Vec<u64> = verdicts.iter().map(|verdict| verdict.micros).collect();
        times.sort_unstable();
        row.micros = times.get(times.len() / 2).copied().unwrap_or(0);
        for verdict in verdicts {
            row.leaking += u32::from(!verdict.expected.is_empty());
            row.expected = row.expected.plus(verdict.expected);
            row.found = row.found.plus(verdict.found);
            row.false_positives = row.false_positives.plus(verdict.false_positives);
            row.defects.extend(verdict.defect);
            row.incomplete.extend(verdict.incomplete);
            if row.why.is_empty() {
                row.why = verdict.why;
            }
        }
        row
    }

    /// The share of what leaked that was found; nothing if nothing leaked.
    pub fn recall(&self) -> Option<f64> {
        let (found, expected) = (self.found.total(), self.expected.total());
        (expected > 0).then(|| f64::from(found) / f64::from(expected))
    }

    /// Whether the program was what it should be, and nothing was reported that should not.
    pub fn is_sound(&self) -> bool {
        self.defects.is_empty() && self.false_positives.is_empty()
    }
}

/// The mean recall over the programs of a kind and a frame.
#[derive(Serialize)]
pub struct Mean {
    pub form: &'static str,
    pub frame: &'static str,
    /// Forms in which something leaked.
    pub programs: usize,
    pub recall: f64,
    /// Below this it is a failure; there is none for natural forms.
    pub floor: Option<f64>,
}

/// Figures over all rows.
pub struct Summary {
    pub means: Vec<Mean>,
    pub false_positives: u32,
    pub defects: usize,
    pub ok: bool,
}

/// The floor where no frame of the program is left.
const RETURNED_FLOOR: f64 = 1.0;

impl Summary {
    pub fn of(rows: &[Row], floor_percent: f64) -> Self {
        let mut means = Vec::new();
        for kind in Kind::ALL {
            for frame in [Frame::Alive, Frame::Returned] {
                let of = |row: &&Row| row.form.kind == kind && row.frame == frame;
                let recalls: Vec<f64> = rows.iter().filter(of).filter_map(Row::recall).collect();
                if recalls.is_empty() {
                    continue;
                }
                let floor = match (kind, frame) {
                    (Kind::Natural, _) => None,
                    (_, Frame::Alive) => Some(floor_percent / 100.0),
                    (_, Frame::Returned) => Some(RETURNED_FLOOR),
                };
                let recall = recalls.iter().sum::<f64>() / recalls.len() as f64;
                means.push(Mean { form: kind.name(), frame: frame.name(), programs: recalls.len(), recall, floor });
            }
        }
        let false_positives = rows.iter().map(|row| row.false_positives.total()).sum();
        let defects = rows.iter().map(|row| row.defects.len()).sum();
        let enough = means.iter().all(|mean| mean.floor.is_none_or(|floor| mean.recall >= floor));
        Self { means, false_positives, defects, ok: enough && false_positives == 0 && defects == 0 }
    }

    pub fn json(&self, rows: &[Row], settings: &Settings) -> Result<String, serde_json::Error> {
        let report = Report {
            detector: settings.detector,
            workers: settings.workers,
            ok: self.ok,
            false_positives: self.false_positives,
            defects: self.defects,
            means: &self.means,
            programs: rows.iter().map(Line::of).collect(),
        };
        Ok(format!("{}\n", serde_json::to_string_pretty(&report)?))
    }
}

#[derive(Serialize)]
struct Report<'a> {
    detector: &'static str,
    workers: Option<usize>,
    ok: bool,
    false_positives: u32,
    defects: usize,
    means: &'a [Mean],
    programs: Vec<Line<'a>>,
}

/// A row as it is written.
#[derive(Serialize)]
struct Line<'a> {
    id: &'static str,
    form: String,
    frame: &'static str,
    runs: u32,
    leaking_runs: u32,
    expected: Vec<Counted>,
    found: Vec<Counted>,
    missed: Vec<Counted>,
    false_positives: Vec<Counted>,
    recall: Option<f64>,
    median_micros: u64,
    defects: &'a [String],
    incomplete: &'a [String],
    why: &'a [String],
}

impl<'a> Line<'a> {
    fn of(row: &'a Row) -> Self {
        Self {
            id: row.program.id,
            form: row.form.name(),
            frame: row.frame.name(),
            runs: row.runs,
            leaking_runs: row.leaking,
            expected: row.expected.counted(),
            found: row.found.counted(),
            missed: row.expected.minus(&row.found).counted(),
            false_positives: row.false_positives.counted(),
            recall: row.recall(),
            median_micros: row.micros,
            defects: &row.defects,
            incomplete: &row.incomplete,
            why: &row.why,
        }
    }
}
