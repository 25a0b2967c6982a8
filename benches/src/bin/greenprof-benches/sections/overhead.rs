//! What each instrument costs five programs: the ratio of CPU time with it on to that with everything off.

use greenprof_benches::case::Case;

use super::{Against, Layout, Row, Section, Target};

pub(super) const SECTION: Section =
    Section { name: "overhead", title: "What instruments cost", layout: Layout::Costs, rows: &ROWS };

/// What is meant to stay on may cost this much of the realistic program.
const STAYS_ON: f64 = 1.02;

const fn row(name: &'static str, case: Case, value: &'static str, off: &'static str) -> Row {
    let against = Against::Own { name: "off", value: off };
    Row { name, case, value, unit: "ns", workers: &[2], against, target: None, error: None }
}

/// The rows of one program, one for each setting.
macro_rules! rows {
    ($($program:literal $case:ident),*; $settings:tt) => {
        [$(rows!(@ $program $case $settings)),*]
    };
    (@ $program:literal $case:ident [$($setting:literal),* $(,)?]) => {
        [$(row(
            concat!($program, ": ", $setting),
            Case::$case,
            $setting,
            concat!($setting, ", off"),
        )),*]
    };
}

const TABLE: [[Row; 17]; 5] = rows!(
    "orders" OverheadOrders, "compute" OverheadCompute, "allocate" OverheadAllocate,
    "ping-pong (worst case)" OverheadPingPong, "contended lock" OverheadLock;
    [
        "CPU 100 Hz", "CPU 250 Hz", "CPU 1000 Hz",
        "heap 512 KiB", "heap 64 KiB", "heap, everything",
        "block 1 ms", "block 10 us", "block 1 ns",
        "mutex 1 in 100", "mutex 1 in 10", "mutex, everything",
        "trace", "flight recorder", "two labels", "a leak scan each second", "all that stays on",
    ]
);

static ROWS: [Row; 85] = {
    let mut rows = [TABLE[0][0]; 85];
    let mut i = 0;
    while i < rows.len() {
        rows[i] = TABLE[i / 17][i % 17];
        i += 1;
    }
    // The last of the first program.
    rows[16].target = Some(Target::AtMost(STAYS_ON));
    rows
};

#[cfg(test)]
mod tests {
    use greenprof_benches::overhead::{SETTINGS, off};

    use super::*;

    #[test]
    fn every_setting_has_its_row_in_every_program() {
        for (i, row) in ROWS.iter().enumerate() {
            let (name, _) = SETTINGS[i % SETTINGS.len()];
            assert_eq!(row.value, name);
            assert!(matches!(row.against, Against::Own { value, .. } if value == off(name)), "{}", row.name);
        }
        assert_eq!((ROWS[16].name, ROWS[16].target), ("orders: all that stays on", Some(Target::AtMost(STAYS_ON))));
    }
}
