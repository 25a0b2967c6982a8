//! What the report compares, section by section. A section is a table of rows; a later one is another module here.

mod accuracy;
mod contention;
mod cpu;
mod detectors;
mod heap;
mod leak;
mod overhead;
mod scheduler;
mod tasks;
mod trace;

use greenprof_benches::{case::Case, peers::Peer, values::TIME};

/// All of them, in the order of the report.
pub(crate) const ALL: [&Section; 10] = [
    &scheduler::SECTION,
    &heap::SECTION,
    &cpu::SECTION,
    &contention::SECTION,
    &tasks::SECTION,
    &trace::SECTION,
    &leak::SECTION,
    &overhead::SECTION,
    &accuracy::SECTION,
    &detectors::SECTION,
];

/// A part of the report.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) layout: Layout,
    pub(crate) rows: &'static [Row],
}

/// How a section's rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Ours beside a peer's, as a ratio.
    Costs,
    /// Estimates beside the truth, as a bias.
    Estimates,
    /// What detectors say of programs.
    Detectors,
}

/// A comparison, for each of some numbers of workers.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) case: Case,
    /// Which of the sample's values.
    pub(crate) value: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) workers: &'static [usize],
    pub(crate) against: Against,
    /// What the ratio must be; nothing if the row is there for orientation only.
    pub(crate) target: Option<Target>,
    /// Of rows that are compared with the truth: the value that says how far a single measurement is from it.
    pub(crate) error: Option<&'static str>,
}

/// What a ratio must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// No further from 1 than this.
    Within(f64),
}

impl Target {
    pub(crate) fn value(self) -> f64 {
        match self {
            Self::AtMost(value) | Self::AtLeast(value) | Self::Within(value) => value,
        }
    }
}

/// What ours is divided by.
#[derive(Clone, Copy)]
pub(crate) enum Against {
    /// The same value of a peer.
    Peer(Peer),
    /// Another value of our own sample.
    Own { name: &'static str, value: &'static str },
    /// What our own sample knows to be true.
    Truth { name: &'static str, value: &'static str },
    /// A number.
    Limit(f64),
    /// Nothing: the value stands for itself.
    Nobody,
}

/// With one worker, and with two.
const BOTH: &[usize] = &[1, 2];

impl Row {
    const fn new(name: &'static str, case: Case, peer: Peer) -> Self {
        Self {
            name,
            case,
            value: TIME,
            unit: "ns",
            workers: BOTH,
            against: Against::Peer(peer),
            target: None,
            error: None,
        }
    }

    const fn at_most(self, target: f64) -> Self {
        Self { target: Some(Target::AtMost(target)), ..self }
    }

    const fn of(self, value: &'static str, unit: &'static str) -> Self {
        Self { value, unit, ..self }
    }

    const fn with_workers(self, workers: &'static [usize]) -> Self {
        Self { workers, ..self }
    }

    /// No peer: the value itself must not exceed `limit`.
    const fn limited_to(self, limit: f64) -> Self {
        Self { against: Against::Limit(limit), target: Some(Target::AtMost(1.0)), ..self }
    }

    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    const fn compared_with_own(self, name: &'static str, value: &'static str) -> Self {
        Self { against: Against::Own { name, value }, ..self }
    }

    const fn alone(self) -> Self {
        Self { against: Against::Nobody, ..self }
    }

    /// Who has to run the case for this row, besides us.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match self.against {
            Against::Peer(peer) => Some(peer),
            Against::Own { .. } | Against::Truth { .. } | Against::Limit(_) | Against::Nobody => None,
        }
    }

    pub(crate) fn peer_name(&self) -> &'static str {
        match self.against {
            Against::Peer(peer) => peer.name(),
            Against::Own { name, .. } | Against::Truth { name, .. } => name,
            Against::Limit(_) => "limit",
            Against::Nobody => "nobody",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_comparison_is_there_twice() {
        for section in ALL {
            for (index, row) in section.rows.iter().enumerate() {
                let same = |other: &Row| other.name == row.name && other.peer_name() == row.peer_name();
                assert!(!section.rows[..index].iter().any(same), "{} with {}", row.name, row.peer_name());
                assert!(row.target.is_none_or(|target| target.value() > 0.0));
                assert!(row.workers.iter().all(|workers| *workers > 0));
            }
        }
    }
}
