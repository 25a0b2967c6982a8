//! How right the instruments are: estimates beside the truth. `greenprof_benches::accuracy` has the programs.

use greenprof_benches::case::Case;

use super::{Against, Layout, Row, Section, Target};

pub(super) const SECTION: Section =
    Section { name: "accuracy", title: "How right the instruments are", layout: Layout::Estimates, rows: &ROWS };

const fn row(name: &'static str, case: Case, value: &'static str, unit: &'static str, against: Against) -> Row {
    Row { name, case, value, unit, workers: &[2], against, target: None, error: None }
}

const fn within(far: f64, row: Row) -> Row {
    Row { target: Some(Target::Within(far)), ..row }
}

const fn at_least(share: f64, row: Row) -> Row {
    Row { target: Some(Target::AtLeast(share)), ..row }
}

const fn one_worker(row: Row) -> Row {
    Row { workers: &[1], ..row }
}

/// An estimate beside its truth, with the error of one.
macro_rules! estimate {
    ($case:ident $value:expr, $name:expr, $unit:literal) => {
        Row {
            error: Some(concat!($value, ", error")),
            ..row($name, Case::$case, $value, $unit, Against::Truth { name: "truth", value: concat!($value, ", true") })
        }
    };
}

/// A chi-square statistic per degree of freedom, beside what it exceeds once in 20 times.
macro_rules! fit {
    ($case:ident $value:literal, $name:literal) => {
        row($name, Case::$case, $value, "", Against::Own { name: "95 % limit", value: concat!($value, ", limit") })
            .at_most(1.0)
    };
}

/// The error of a part's share, beside that of as many independent samples.
macro_rules! part {
    ($case:ident $name:literal) => {
        row($name, Case::$case, "part", "", Against::Own { name: "independent samples", value: "part, independent" })
    };
}

/// The four numbers of a heap profile at one setting: bias, and where it is asked how the intervals are.
macro_rules! heap {
    ($setting:literal, $far:expr; $($number:literal $unit:literal),*) => {
        [$(within(
            $far,
            estimate!(AccuracyHeap concat!($number, " at ", $setting), concat!("heap ", $setting, ": ", $number), $unit),
        )),*]
    };
    (intervals $setting:literal; $($number:literal),*) => {
        [$(
            within(0.03, row(
                concat!("heap ", $setting, ": 95 % intervals of ", $number, " that cover"),
                Case::AccuracyHeap,
                concat!($number, " covered at ", $setting),
                "",
                Against::Truth { name: "nominal", value: "nominal" },
            )),
            row(
                concat!("heap ", $setting, ": error of a site's ", $number),
                Case::AccuracyHeap,
                concat!($number, " off at ", $setting),
                "",
                Against::Own { name: "stated", value: concat!($number, " stated at ", $setting) },
            ),
        )*]
    };
}

/// Both figures of a contention profile at some rates, and their errors beside those of theory. (At a rate of 1 there is none.)
macro_rules! contention {
    ($case:ident $profile:literal; $first:literal $(, $rate:literal)*) => {
        [
            within(0.001, estimate!($case concat!("contentions at ", $first), concat!($profile, " ", $first, ": contentions"), "")),
            within(0.001, estimate!($case concat!("delay at ", $first), concat!($profile, " ", $first, ": delay"), "ms")),
            $(
                within(0.05, estimate!($case concat!("contentions at ", $rate), concat!($profile, " ", $rate, ": contentions"), "")),
                contention!(@ $case $profile, $rate, "contentions"),
                within(0.05, estimate!($case concat!("delay at ", $rate), concat!($profile, " ", $rate, ": delay"), "ms")),
                contention!(@ $case $profile, $rate, "delay"),
            )*
        ]
    };
    (@ $case:ident $profile:literal, $rate:literal, $figure:literal) => {
        row(
            concat!($profile, " ", $rate, ": error of ", $figure),
            Case::$case,
            concat!($figure, " at ", $rate, ", error"),
            "",
            Against::Own { name: "theory", value: concat!($figure, " at ", $rate, ", theory") },
        )
    };
}

const CPU: [Row; 29] = [
    estimate!(AccuracyShares "share at 100 Hz, 1/4", "80/20: share, 100 Hz, a quarter of the time", ""),
    within(0.05, estimate!(AccuracyShares "share at 100 Hz, whole", "80/20: share, 100 Hz", "")),
    estimate!(AccuracyShares "share at 1000 Hz, 1/4", "80/20: share, 1000 Hz, a quarter of the time", ""),
    within(0.05, estimate!(AccuracyShares "share at 1000 Hz, whole", "80/20: share, 1000 Hz", "")),
    fit!(AccuracyShares "chi-square at 100 Hz, whole", "80/20: chi-square, 100 Hz"),
    fit!(AccuracyShares "chi-square at 1000 Hz, whole", "80/20: chi-square, 1000 Hz"),
    within(0.05, estimate!(AccuracyShares "seconds at 100 Hz, whole", "80/20: CPU time of the process, 100 Hz", "s")),
    within(0.05, estimate!(AccuracyShares "seconds at 1000 Hz, whole", "80/20: CPU time of the process, 1000 Hz", "s")),
    part!(AccuracyFunctions "24 small functions: error of a share"),
    fit!(AccuracyFunctions "chi-square", "24 small functions: chi-square"),
    part!(AccuracyShortTasks "tasks of 60 to 240 us: error of a share"),
    fit!(AccuracyShortTasks "chi-square", "tasks of 60 to 240 us: chi-square"),
    within(0.05, estimate!(AccuracyShortTasks "seconds", "tasks of 60 to 240 us: CPU time of the process", "s")),
    part!(AccuracyMigrating "migrating tasks: error of a share"),
    fit!(AccuracyMigrating "chi-square", "migrating tasks: chi-square"),
    within(0.001, estimate!(AccuracyMigrating "agreeing", "migrating tasks: samples with the label of their task", "")),
    row("migrating tasks: moves between threads", Case::AccuracyMigrating, "moves", "", Against::Nobody),
    at_least(0.95, estimate!(AccuracyRates "captures at 100 Hz", "stacks captured in a second of CPU, 100 Hz", "")),
    at_least(0.95, estimate!(AccuracyRates "captures at 250 Hz", "stacks captured in a second of CPU, 250 Hz", "")),
    at_least(0.95, estimate!(AccuracyRates "captures at 500 Hz", "stacks captured in a second of CPU, 500 Hz", "")),
    at_least(0.95, estimate!(AccuracyRates "captures at 1000 Hz", "stacks captured in a second of CPU, 1000 Hz", "")),
    within(0.05, estimate!(AccuracyRates "seconds at 100 Hz", "CPU time of two busy threads, 100 Hz", "s")),
    within(0.05, estimate!(AccuracyRates "seconds at 250 Hz", "CPU time of two busy threads, 250 Hz", "s")),
    within(0.05, estimate!(AccuracyRates "seconds at 500 Hz", "CPU time of two busy threads, 500 Hz", "s")),
    within(0.05, estimate!(AccuracyRates "seconds at 1000 Hz", "CPU time of two busy threads, 1000 Hz", "s")),
    estimate!(AccuracyRates "seconds of new threads", "CPU time of two threads that start meanwhile, 1000 Hz", "s"),
    // How the error depends on time and rate stands in the column of the error; as a row, what theory says of four times as much.
    shrinks("80/20: error, 4 times as long, 100 Hz", "share at 100 Hz, whole, error", "share at 100 Hz, 1/4, error"),
    shrinks("80/20: error, 4 times as long, 1000 Hz", "share at 1000 Hz, whole, error", "share at 1000 Hz, 1/4, error"),
    shrinks("80/20: error, 10 times as often", "share at 1000 Hz, whole, error", "share at 100 Hz, whole, error"),
];

const fn shrinks(name: &'static str, value: &'static str, before: &'static str) -> Row {
    row(name, Case::AccuracyShares, value, "", Against::Own { name: "before", value: before })
}

const HEAP: [[Row; 4]; 4] = [
    heap!("512 KiB, 70 MB", 0.1; "alloc_objects" "", "alloc_space" "B", "inuse_objects" "", "inuse_space" "B"),
    heap!("512 KiB, 280 MB", 0.05; "alloc_objects" "", "alloc_space" "B", "inuse_objects" "", "inuse_space" "B"),
    heap!("64 KiB, 70 MB", 0.05; "alloc_objects" "", "alloc_space" "B", "inuse_objects" "", "inuse_space" "B"),
    heap!("64 KiB, 280 MB", 0.02; "alloc_objects" "", "alloc_space" "B", "inuse_objects" "", "inuse_space" "B"),
];

const INTERVALS: [[Row; 8]; 2] = [
    heap!(intervals "512 KiB, 280 MB"; "alloc_objects", "alloc_space", "inuse_objects", "inuse_space"),
    heap!(intervals "64 KiB, 280 MB"; "alloc_objects", "alloc_space", "inuse_objects", "inuse_space"),
];

const CONTENTION: [[Row; 10]; 2] = [
    contention!(AccuracyBlock "block"; "1 ns", "10 us", "1 ms"),
    contention!(AccuracyMutex "mutex"; "1", "1 in 10", "1 in 100"),
];

const TRACE: [Row; 5] = [
    within(0.01, one_worker(estimate!(AccuracyTrace "sleeping", "trace: sleeping", "ms"))),
    within(0.01, one_worker(estimate!(AccuracyTrace "computing", "trace: computing", "ms"))),
    within(0.01, one_worker(estimate!(AccuracyTrace "waiting for the lock", "trace: waiting for a lock", "ms"))),
    within(0.01, one_worker(estimate!(AccuracyTrace "runnable", "trace: runnable", "ms"))),
    within(0.01, one_worker(estimate!(AccuracyTrace "blocking", "trace: blocking", "ms"))),
];

const COUNT: usize = 29 + 16 + 16 + 20 + 5;

static ROWS: [Row; COUNT] = {
    let mut rows = [CPU[0]; COUNT];
    let parts: [&[Row]; 5] = [&CPU, HEAP.as_flattened(), INTERVALS.as_flattened(), CONTENTION.as_flattened(), &TRACE];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let mut i = 0;
        while i < parts[part].len() {
            rows[at] = parts[part][i];
            (i, at) = (i + 1, at + 1);
        }
        part += 1;
    }
    assert!(at == COUNT, "every part is in the table");
    rows
};
