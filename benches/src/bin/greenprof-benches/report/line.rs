//! A row with its figures and its verdict; with `--json` it is printed as it stands here.

use greenprof_benches::{peers::Peer, statistics::Summary};
use serde::Serialize;

use super::sampling::Samples;
use crate::sections::{Against, Row};

/// By how much of the target an interval may reach across it and still count as on one side: differences below a
/// twentieth are within what two runs of the same program show.
pub(super) const MARGIN: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    #[serde(rename = "met")]
    Met,
    #[serde(rename = "missed")]
    Missed,
    #[serde(rename = "not resolved")]
    NotResolved,
}

#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) workers: usize,
    /// Medians of the samples.
    pub(super) ours: Option<f64>,
    pub(super) peer: Option<f64>,
    pub(super) peer_name: &'static str,
    /// Of the medians.
    pub(super) ratio: Option<f64>,
    /// The interval of the ratios of the samples of one round.
    pub(super) ratio_low: Option<f64>,
    pub(super) ratio_high: Option<f64>,
    /// What the ratio must not exceed.
    pub(super) target: Option<f64>,
    pub(super) unit: &'static str,
    pub(super) samples: usize,
    pub(super) quick: bool,
    /// Nothing without a target or without the peer.
    pub(super) verdict: Option<Verdict>,
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
    fn of(ours: &[f64], peer: &[f64]) -> Self {
        let pairs: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
        let Summary { low, high, .. } = Summary::of(&pairs);
        Self { ratio: Summary::of(ours).median / Summary::of(peer).median, low, high }
    }

    /// Met: the ratio is at or below the target, and the interval does not exceed it by more than [`MARGIN`]. Missed: the
    /// ratio is above, and the interval does not fall below it by more than that. All else is not resolved.
    fn verdict(self, target: f64) -> Verdict {
        if self.ratio <= target && self.high <= target * (1.0 + MARGIN) {
            Verdict::Met
        } else if self.ratio > target && self.low >= target * (1.0 - MARGIN) {
            Verdict::Missed
        } else {
            Verdict::NotResolved
        }
    }
}

impl Line {
    pub(super) fn new(
        section: &'static str,
        row: &'static Row,
        workers: usize,
        samples: &Samples,
        quick: bool,
    ) -> Self {
        let get = |peer, value| samples.get(row.case, workers, peer, value);
        let ours = get(Peer::Greenprof, row.value);
        let count = ours.as_ref().map_or(0, Vec::len);
        let peer = match row.against {
            Against::Peer(peer) => get(peer, row.value),
            Against::Own { value, .. } => get(Peer::Greenprof, value),
            Against::Limit(limit) => Some(vec![limit; count]),
            Against::Nobody => None,
        };
        let median = |values: &Option<Vec<f64>>| values.as_deref().map(|values| Summary::of(values).median);
        let ratio = ours.as_deref().zip(peer.as_deref()).map(|(ours, peer)| Ratio::of(ours, peer));
        Self {
            section,
            name: row.name,
            workers,
            ours: median(&ours),
            peer: median(&peer),
            peer_name: row.peer_name(),
            ratio: ratio.map(|ratio| ratio.ratio),
            ratio_low: ratio.map(|ratio| ratio.low),
            ratio_high: ratio.map(|ratio| ratio.high),
            target: row.target,
            unit: row.unit,
            samples: count,
            quick,
            verdict: ratio.zip(row.target).map(|(ratio, target)| ratio.verdict(target)),
        }
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
        target: Some(0.6),
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
        let verdict = |ratio, low, high| Ratio { ratio, low, high }.verdict(1.0);
        assert_eq!(verdict(0.8, 0.7, 0.9), Verdict::Met);
        assert_eq!(verdict(1.0, 0.98, 1.04), Verdict::Met);
        assert_eq!(verdict(0.8, 0.7, 1.2), Verdict::NotResolved);
        assert_eq!(verdict(1.01, 0.97, 1.04), Verdict::Missed);
        assert_eq!(verdict(1.3, 0.8, 1.9), Verdict::NotResolved);
        assert_eq!(verdict(1.3, 1.1, 1.5), Verdict::Missed);
        assert_eq!(verdict(1.01, 0.5, 1.01), Verdict::NotResolved);
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
        static LIMITED: Row = Row { against: Against::Limit(20.0), target: Some(1.0), ..ROW };
        static OWN: Row = Row { against: Against::Own { name: "itself", value: TIME }, ..ROW };
        let samples = samples(&[(10.0, 100.0)]);
        let line = Line::new("scheduler", &LIMITED, 2, &samples, false);
        assert_eq!((line.peer, line.peer_name, line.ratio), (Some(20.0), "limit", Some(0.5)));
        assert_eq!(line.verdict, Some(Verdict::Met));
        let line = Line::new("scheduler", &OWN, 2, &samples, false);
        assert_eq!((line.peer_name, line.ratio, line.verdict), ("itself", Some(1.0), Some(Verdict::Missed)));
    }

    #[test]
    fn json_has_the_documented_fields_in_their_order() {
        let line = Line::new("scheduler", &ROW, 2, &samples(&[(10.0, 100.0)]), true);
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"section":"scheduler","name":"a row","workers":2,"ours":10.0,"peer":100.0,"peer_name":"go","ratio":0.1,"ratio_low":0.1,"ratio_high":0.1,"target":0.6,"unit":"ns","samples":1,"quick":true,"verdict":"met"}"#
        );
    }
}
