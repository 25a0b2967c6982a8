//! What each instrument costs five programs: the ratio of CPU time with it on to that with everything off. And of the realistic
//! one, how long its requests take.

use greenprof_benches::case::Case;

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

static ROWS: [Row; SETTINGS * PROGRAMS] = {
    let mut rows = [TABLE[0][0]; SETTINGS * PROGRAMS];
    let mut i = 0;
    while i < rows.len() {
        rows[i] = TABLE[i / SETTINGS][i % SETTINGS];
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
        for (i, row) in ROWS.iter().enumerate() {
            let (name, _) = overhead::SETTINGS[i % SETTINGS];
            let (_, ending) = row.value.split_at(name.len());
            assert_eq!(row.value, format!("{name}{ending}"));
            let wanted = format!("{}{ending}", off(name));
            assert!(matches!(row.against, Against::Own { value, .. } if value == wanted), "{}", row.name);
            assert!(ending.is_empty() || overhead::LATENCIES.iter().any(|(_, known)| *known == ending), "{}", row.name);
        }
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
