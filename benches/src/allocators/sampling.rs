//! What the heap profiler costs: batches of one process in turn, with it and without, so that the addresses, the code and
//! the neighbours of a pair are the same.

use greenprof_profiler::heap as profiler;
use greenprof_runtime::heap::{Heap, sampling};

use super::workloads;
use crate::{
    case::Effort,
    statistics::Summary,
    values::{ADDED, OFF, TIME, Values},
};

/// The medians of `effort.batches` batches at each of the two rates, and of the pairs' differences.
struct Pairs {
    on: f64,
    off: f64,
    difference: f64,
}

impl Pairs {
    fn take(heap: &'static Heap, rate: u64, threads: usize, effort: Effort) -> Self {
        profiler::start();
        let time = |rate, operations| {
            profiler::set_rate(rate);
            workloads::immediate(heap, threads, operations)
        };
        time(rate, effort.operations / 10);
        let (mut on, mut off) = (Vec::new(), Vec::new());
        for pair in 0..effort.batches {
            // Who is first changes from pair to pair.
            for second in [false, true] {
                if second == pair.is_multiple_of(2) {
                    on.push(time(rate, effort.operations));
                } else {
                    off.push(time(0, effort.operations));
                }
            }
        }
        let differences: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on - off).collect();
        let median = |samples: &[f64]| Summary::of(samples).median;
        Self { on: median(&on), off: median(&off), difference: median(&differences) }
    }
}

/// At the default rate.
pub(super) fn against_off(heap: &'static Heap, threads: usize, effort: Effort) -> Values {
    let Pairs { on, off, .. } = Pairs::take(heap, sampling::DEFAULT_RATE, threads, effort);
    Values::from([(TIME.to_owned(), on), (OFF.to_owned(), off)])
}

/// With every allocation recorded.
pub(super) fn every_one(heap: &'static Heap, threads: usize, effort: Effort) -> Values {
    let Pairs { on, off, difference } = Pairs::take(heap, 1, threads, effort);
    Values::from([(TIME.to_owned(), on), (OFF.to_owned(), off), (ADDED.to_owned(), difference)])
}
