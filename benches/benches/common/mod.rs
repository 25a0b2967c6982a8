//! Settings of all suites.

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

/// Short enough that all suites together take a few minutes; criterion's command line overrides it.
pub fn criterion() -> Criterion {
    Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args()
}

/// A group named by its question. An iteration is one operation, so `time` is the cost of an operation.
pub fn question<'a>(criterion: &'a mut Criterion, question: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(question);
    group.throughput(Throughput::Elements(1));
    group
}
