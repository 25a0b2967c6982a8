//! What each instrument costs five programs: the ratio of CPU time with it on to that with everything off. And of the realistic
//! one, how long its requests take.

use greenprof_benches::{case::Case, peers::Peer, values::OFF};

use super::{Against, Layout, Row, Section, Target};

pub(super) const SECTION: Section =
    Section { name: "overhead", title: "What instruments cost", layout: Layout::Costs, rows: &ROWS };

/// What is meant to stay on may cost this much of the realistic program, and of its slowest requests.
const STAYS_ON: f64 = 1.02;
const STAYS_ON_P99: f64 = 1.05;

const fn row(name: &'static str, case: Case, unit: &'static str, value: &'static str, off: &'static str) -> Row {
    let against = Against::Own { name: "off", value: off };
    Row { name, case, value, unit, workers: &[2], against, target: None, error: None }
}

/// The rows of one program, one for each setting.
macro_rules! rows {
    ($($program:literal $case:ident $unit:literal $ending:literal),*; $settings:tt) => {
        [$(rows!(@ $program $case $unit $ending $settings)),*]
    };
    (@ $program:literal $case:ident $unit:literal $ending:literal [$($setting:literal),* $(,)?]) => {
        [$(row(
            concat!($program, ": ", $setting, $ending),
            Case::$case,
            $unit,
            concat!($setting, $ending),
            concat!($setting, ", off", $ending),
        )),*]
    };
}

/// Settings, and what each of them is measured on.
const SETTINGS: usize = 17;
const PROGRAMS: usize = 8;

static TABLE: [[Row; SETTINGS]; PROGRAMS] = rows!(
    "orders" OverheadOrders "ns" "", "orders" OverheadOrders "ms" ", p50", "orders" OverheadOrders "ms" ", p99",
    "orders" OverheadOrders "ms" ", p99.9", "compute" OverheadCompute "ns" "", "allocate" OverheadAllocate "ns" "",
    "ping-pong (worst case)" OverheadPingPong "ns" "", "contended lock" OverheadLock "ns" "";
    [
        "CPU 100 Hz", "CPU 250 Hz", "CPU 1000 Hz",
        "heap 512 KiB", "heap 64 KiB", "heap, everything",
        "block 1 ms", "block 10 us", "block 1 ns",
        "mutex 1 in 100", "mutex 1 in 10", "mutex, everything",
        "trace", "flight recorder", "two labels", "a leak scan each second", "all that stays on",
    ]
);

/// In instructions: for a program the rows of all settings that can be counted, always the same number.
macro_rules! counts {
    ($($program:literal $case:ident),*; $settings:tt) => {
        [$(counts!(@ $program $case $settings)),*]
    };
    (@ $program:literal $case:ident [$($setting:literal),* $(,)?]) => {
        [$(
            Row::new(concat!($program, ": ", $setting, ", instructions (valgrind)"), Case::$case, Peer::Greenprof)
                .of($setting, "")
                .with_workers(&[1])
                .compared_with_own("off", OFF),
        )*]
    };
}

const COUNTED: usize = 10;
const COUNTED_PROGRAMS: usize = 3;

static COUNTS: [[Row; COUNTED]; COUNTED_PROGRAMS] = counts!(
    "allocate" InstructionsAllocate, "ping-pong (worst case)" InstructionsPingPong, "contended lock" InstructionsLock;
    [
        "heap 512 KiB", "heap 64 KiB", "heap, everything", "block 1 ns", "mutex 1 in 100", "mutex, everything",
        "trace", "flight recorder", "two labels", "all that stays on, but CPU",
    ]
);

const TIMED_ROWS: usize = SETTINGS * PROGRAMS;

static ROWS: [Row; TIMED_ROWS + COUNTED * COUNTED_PROGRAMS] = {
    let mut rows = [TABLE[0][0]; TIMED_ROWS + COUNTED * COUNTED_PROGRAMS];
    let mut i = 0;
    while i < rows.len() {
        rows[i] = match i.checked_sub(TIMED_ROWS) {
            None => TABLE[i / SETTINGS][i % SETTINGS],
            Some(i) => COUNTS[i / COUNTED][i % COUNTED],
        };
        i += 1;
    }
    // The last setting of the first program, and of its third latency.
    rows[SETTINGS - 1].target = Some(Target::AtMost(STAYS_ON));
    rows[3 * SETTINGS - 1].target = Some(Target::AtMost(STAYS_ON_P99));
    rows
};

#[cfg(test)]
mod tests {
    use greenprof_benches::overhead::{self, off};

    use super::*;

    #[test]
    fn every_setting_has_its_row_in_every_program() {
        for (i, row) in ROWS[..TIMED_ROWS].iter().enumerate() {
            let (name, _) = overhead::SETTINGS[i % SETTINGS];
            let (_, ending) = row.value.split_at(name.len());
            assert_eq!(row.value, format!("{name}{ending}"));
            let wanted = format!("{}{ending}", off(name));
            assert!(matches!(row.against, Against::Own { value, .. } if value == wanted), "{}", row.name);
            assert!(ending.is_empty() || overhead::LATENCIES.iter().any(|(_, known)| *known == ending), "{}", row.name);
        }
        for (i, row) in ROWS[TIMED_ROWS..].iter().enumerate() {
            assert_eq!(row.value, overhead::COUNTED[i % COUNTED].0);
            assert!(row.case.is_counted() && matches!(row.against, Against::Own { value, .. } if value == OFF));
        }
        assert_eq!(overhead::COUNTED.len(), COUNTED);
        let targets: Vec<_> = ROWS.iter().filter_map(|row| Some((row.name, row.target?))).collect();
        assert_eq!(
            targets,
            [
                ("orders: all that stays on", Target::AtMost(STAYS_ON)),
                ("orders: all that stays on, p99", Target::AtMost(STAYS_ON_P99)),
            ]
        );
    }
}
