//! A row with its figures and its verdict, as it is printed with `--json`, kept in a result set, and read from there.

use greenprof_benches::{
    peers::Peer,
    statistics::{Mean, Summary},
};
use serde::{Deserialize, Serialize};

use crate::{
    report::Samples,
    sections::{Against, Row, Target},
};

/// By how much of the target an interval may reach across it and still count as on one side: differences below a
/// twentieth are within what two runs of the same program show.
pub(crate) const MARGIN: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    #[serde(rename = "met")]
    Met,
    #[serde(rename = "missed")]
    Missed,
    #[serde(rename = "not resolved")]
    NotResolved,
}

/// How a ratio is held against its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Bound {
    #[default]
    #[serde(rename = "at most")]
    AtMost,
    #[serde(rename = "at least")]
    AtLeast,
    /// The target is how far from 1 it may be.
    #[serde(rename = "within")]
    Within,
}

/// What `ours` was divided by: some of it is the same wherever it is measured, so that it makes no ratio of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Basis {
    /// Something that was measured beside it.
    #[default]
    #[serde(rename = "measured")]
    Measured,
    /// What is known to be true.
    #[serde(rename = "truth")]
    Truth,
    /// A number.
    #[serde(rename = "number")]
    Number,
    /// Nothing.
    #[serde(rename = "nothing")]
    Nothing,
}

/// The first fourteen fields are older than the rest: a line without the rest is understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) workers: usize,
    /// Medians of the samples.
    pub(crate) ours: Option<f64>,
    pub(crate) peer: Option<f64>,
    pub(crate) peer_name: String,
    /// Of the medians; against the truth, the mean of those of one round.
    pub(crate) ratio: Option<f64>,
    /// The interval of the median of the ratios of one round; against the truth, of their mean.
    pub(crate) ratio_low: Option<f64>,
    pub(crate) ratio_high: Option<f64>,
    /// What the ratio must be: see `bound`.
    pub(crate) target: Option<f64>,
    pub(crate) unit: String,
    pub(crate) samples: usize,
    pub(crate) quick: bool,
    /// Nothing without a target or without the peer.
    pub(crate) verdict: Option<Verdict>,
    /// The interval of our samples.
    #[serde(default)]
    pub(crate) ours_low: Option<f64>,
    #[serde(default)]
    pub(crate) ours_high: Option<f64>,
    #[serde(default)]
    pub(crate) bound: Bound,
    #[serde(default)]
    pub(crate) basis: Basis,
    /// Against the truth: how far a single measurement is from it, as a share of it (root of the mean square).
    #[serde(default)]
    pub(crate) error: Option<f64>,
}

/// A ratio and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ratio {
    ratio: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    /// Of samples that belong together in pairs.
    fn of(ours: &[f64], peer: &[f64], basis: Basis) -> Self {
        let pairs: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
        if basis == Basis::Truth {
            // The truth differs from sample to sample, and to be right on average is what is asked.
            let Mean { mean, low, high } = Mean::of(&pairs);
            return Self { ratio: mean, low, high };
        }
        let Summary { low, high, .. } = Summary::of(&pairs);
        Self { ratio: Summary::of(ours).median / Summary::of(peer).median, low, high }
    }

    /// Met: the ratio is where it should be, and the interval does not leave that by more than [`MARGIN`] of the target.
    /// Missed: the ratio is not, and the interval does not come there by more than that. All else is not resolved.
    fn verdict(self, target: Target) -> Verdict {
        let Self { ratio, low, high } = self;
        let (met, missed) = match target {
            Target::AtMost(most) => {
                (ratio <= most && high <= most * (1.0 + MARGIN), ratio > most && low >= most * (1.0 - MARGIN))
            }
            Target::AtLeast(least) => {
                (ratio >= least && low >= least * (1.0 - MARGIN), ratio < least && high <= least * (1.0 + MARGIN))
            }
            Target::Within(far) => {
                let (inner, outer) = (far * (1.0 - MARGIN), far * (1.0 + MARGIN));
                (
                    (ratio - 1.0).abs() <= far && low >= 1.0 - outer && high <= 1.0 + outer,
                    (ratio - 1.0).abs() > far && (low >= 1.0 + inner || high <= 1.0 - inner),
                )
            }
        };
        match (met, missed) {
            (true, _) => Verdict::Met,
            (_, true) => Verdict::Missed,
            _ => Verdict::NotResolved,
        }
    }
}

impl Line {
    pub(crate) fn new(
        section: &'static str,
        row: &'static Row,
        workers: usize,
        samples: &Samples,
        quick: bool,
    ) -> Self {
        let get = |peer, value| samples.get(row.case, workers, peer, value);
        let ours = get(Peer::Greenprof, row.value);
        let count = ours.as_ref().map_or(0, Vec::len);
        let (peer, basis) = match row.against {
            Against::Peer(peer) => (get(peer, row.value), Basis::Measured),
            Against::Own { value, .. } => (get(Peer::Greenprof, value), Basis::Measured),
            Against::Truth { value, .. } => (get(Peer::Greenprof, value), Basis::Truth),
            Against::Limit(limit) => (Some(vec![limit; count]), Basis::Number),
            Against::Nobody => (None, Basis::Nothing),
        };
        let summary = |values: &Option<Vec<f64>>| values.as_deref().map(Summary::of);
        let median = |values: &Option<Vec<f64>>| summary(values).map(|summary| summary.median);
        let ratio = ours.as_deref().zip(peer.as_deref()).map(|(ours, peer)| Ratio::of(ours, peer, basis));
        // Nothing is no multiple of nothing.
        let ratio = ratio.filter(|ratio| [ratio.ratio, ratio.low, ratio.high].iter().all(|part| part.is_finite()));
        Self {
            section: section.to_owned(),
            name: row.name.to_owned(),
            workers,
            ours: median(&ours),
            peer: median(&peer),
            peer_name: row.peer_name().to_owned(),
            ratio: ratio.map(|ratio| ratio.ratio),
            ratio_low: ratio.map(|ratio| ratio.low),
            ratio_high: ratio.map(|ratio| ratio.high),
            target: row.target.map(Target::value),
            unit: row.unit.to_owned(),
            samples: count,
            quick,
            // A quick run is not judged by.
            verdict: ratio.zip(row.target).filter(|_| !quick).map(|(ratio, target)| ratio.verdict(target)),
            ours_low: summary(&ours).map(|summary| summary.low),
            ours_high: summary(&ours).map(|summary| summary.high),
            bound: match row.target {
                None | Some(Target::AtMost(_)) => Bound::AtMost,
                Some(Target::AtLeast(_)) => Bound::AtLeast,
                Some(Target::Within(_)) => Bound::Within,
            },
            basis,
            error: row.error.and_then(|error| median(&get(Peer::Greenprof, error))),
        }
    }

    /// What tells rows apart: that they have the same is that they are about the same thing.
    pub(crate) fn key(&self) -> (&str, &str, usize, &str, &str) {
        (&self.section, &self.name, self.workers, &self.peer_name, &self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenprof_benches::{case::Case, values::TIME};

    static ROW: Row = Row {
        name: "a row",
        case: Case::Yield,
        value: TIME,
        unit: "ns",
        workers: &[2],
        against: Against::Peer(Peer::Go),
        target: Some(Target::AtMost(0.6)),
        error: None,
    };

    fn samples(pairs: &[(f64, f64)]) -> Samples {
        let mut samples = Samples::default();
        for &(ours, go) in pairs {
            samples.put(Case::Yield, 2, Peer::Greenprof, [(TIME.to_owned(), ours)].into());
            samples.put(Case::Yield, 2, Peer::Go, [(TIME.to_owned(), go)].into());
        }
        samples
    }

    #[test]
    fn verdicts() {
        let verdict = |ratio, low, high| Ratio { ratio, low, high }.verdict(Target::AtMost(1.0));
        assert_eq!(verdict(0.8, 0.7, 0.9), Verdict::Met);
        assert_eq!(verdict(1.0, 0.98, 1.04), Verdict::Met);
        assert_eq!(verdict(0.8, 0.7, 1.2), Verdict::NotResolved);
        assert_eq!(verdict(1.01, 0.97, 1.04), Verdict::Missed);
        assert_eq!(verdict(1.3, 0.8, 1.9), Verdict::NotResolved);
        assert_eq!(verdict(1.3, 1.1, 1.5), Verdict::Missed);
        assert_eq!(verdict(1.01, 0.5, 1.01), Verdict::NotResolved);
    }

    #[test]
    fn verdicts_of_what_must_not_be_too_small_or_too_far_off() {
        let at_least = |ratio, low, high| Ratio { ratio, low, high }.verdict(Target::AtLeast(0.95));
        assert_eq!(at_least(0.99, 0.97, 1.0), Verdict::Met);
        assert_eq!(at_least(0.96, 0.5, 1.0), Verdict::NotResolved);
        assert_eq!(at_least(0.25, 0.24, 0.26), Verdict::Missed);
        let within = |ratio, low, high| Ratio { ratio, low, high }.verdict(Target::Within(0.02));
        assert_eq!(within(1.01, 0.99, 1.02), Verdict::Met);
        assert_eq!(within(1.01, 0.97, 1.02), Verdict::NotResolved);
        assert_eq!(within(0.9, 0.88, 0.97), Verdict::Missed);
        assert_eq!(within(1.1, 1.05, 1.2), Verdict::Missed);
        assert_eq!(within(1.03, 0.9, 1.1), Verdict::NotResolved);
    }

    #[test]
    fn the_ratio_is_of_medians_and_the_interval_of_pairs() {
        let line = Line::new(
            "scheduler",
            &ROW,
            2,
            &samples(&[(10.0, 100.0), (20.0, 20.0), (30.0, 60.0), (40.0, 80.0), (50.0, 90.0)]),
            false,
        );
        assert_eq!((line.ours, line.peer), (Some(30.0), Some(80.0)));
        assert_eq!((line.ratio, line.ratio_low, line.ratio_high), (Some(0.375), Some(0.1), Some(1.0)));
        assert_eq!((line.samples, line.verdict), (5, Some(Verdict::NotResolved)));
    }

    #[test]
    fn without_the_peer_there_is_no_ratio() {
        let mut samples = Samples::default();
        samples.put(Case::Yield, 2, Peer::Greenprof, [(TIME.to_owned(), 10.0)].into());
        let line = Line::new("scheduler", &ROW, 2, &samples, false);
        assert_eq!((line.ours, line.peer, line.ratio, line.verdict), (Some(10.0), None, None, None));
    }

    #[test]
    fn limits_and_own_values_need_no_peer() {
        static LIMITED: Row = Row { against: Against::Limit(20.0), target: Some(Target::AtMost(1.0)), ..ROW };
        static OWN: Row = Row { against: Against::Own { name: "itself", value: TIME }, ..ROW };
        let samples = samples(&[(10.0, 100.0)]);
        let line = Line::new("scheduler", &LIMITED, 2, &samples, false);
        assert_eq!((line.peer, line.peer_name.as_str(), line.ratio), (Some(20.0), "limit", Some(0.5)));
        assert_eq!(line.verdict, Some(Verdict::Met));
        let line = Line::new("scheduler", &OWN, 2, &samples, false);
        assert_eq!((line.peer_name.as_str(), line.ratio, line.verdict), ("itself", Some(1.0), Some(Verdict::Missed)));
    }

    #[test]
    fn the_truth_belongs_to_its_sample() {
        static TRUE: Row =
            Row { against: Against::Truth { name: "truth", value: "true" }, target: Some(Target::Within(0.1)), ..ROW };
        let mut samples = Samples::default();
        for (estimate, truth) in [(10.0, 10.0), (110.0, 100.0), (980.0, 1000.0), (5.0, 5.0), (51.0, 50.0)] {
            samples.put(
                Case::Yield,
                2,
                Peer::Greenprof,
                [(TIME.to_owned(), estimate), ("true".to_owned(), truth)].into(),
            );
        }
        let line = Line::new("accuracy", &TRUE, 2, &samples, false);
        assert_eq!((line.basis, line.bound), (Basis::Truth, Bound::Within));
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|value| (value - wanted).abs() < 1e-4);
        assert!(near(line.ratio, 1.02) && near(line.ratio_low, 0.96177) && near(line.ratio_high, 1.07823), "{line:?}");
    }

    #[test]
    fn json_has_the_documented_fields_in_their_order() {
        let line = Line::new("scheduler", &ROW, 2, &samples(&[(10.0, 100.0)]), true);
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"section":"scheduler","name":"a row","workers":2,"ours":10.0,"peer":100.0,"peer_name":"go","ratio":0.1,"ratio_low":0.1,"ratio_high":0.1,"target":0.6,"unit":"ns","samples":1,"quick":true,"verdict":null,"ours_low":10.0,"ours_high":10.0,"bound":"at most","basis":"measured","error":null}"#
        );
    }
}
