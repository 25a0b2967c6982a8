//! Leak detectors on the corpus. Its rows are made by `crate::detectors`: what they are depends on the corpus.

use super::{Layout, Section};
use crate::detectors::NAME;

pub(super) const SECTION: Section =
    Section { name: NAME, title: "Leak detectors on the corpus", layout: Layout::Detectors, rows: &[] };
