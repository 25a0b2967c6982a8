//! What instruments cost: the CPU time of an operation of a program with one of them on, beside the same with all of them off.
//!
//! Both are measured in one process, in pairs of batches that follow each other in changing order, so whatever else the machine does
//! meets both alike. The time is the processor time of the whole process: what an instrument's own threads use is in it, and what other
//! programs take away is not. Starting an instrument, and writing its file, happens between batches and is not counted.
//!
//! Of `orders`, also the latency of an order is measured: of all that were handled in batches with the instrument on, beside those with it
//! off. The service has as many orders at a time as it can take, so this is how long they wait for their turn, too.
//!
//! A scan for leaks has a row as if one were made every second: each batch that it is on for has one scan, and what that adds is
//! spread over a second of the program.

mod counted;
mod programs;
mod settings;

use std::{cell::Cell, time::Duration};

use greenprof_demos::orders::latency::Times;
use nix::time::{ClockId, clock_gettime};

use crate::{
    case::{Case, Effort},
    values::Values,
};
pub use counted::{COUNTED, count, run_marked};
pub use settings::{SETTINGS, Setting};

/// How many times as many pairs of batches as another setting the one gets that is judged, on the program where it is.
const MANY: u64 = 12;

/// The name of the value with everything off, beside the one of a setting.
pub fn off(setting: &str) -> String {
    format!("{setting}, off")
}

/// The quantiles of an order's latency, and how their values' names end. Milliseconds.
pub const LATENCIES: [(f64, &str); 3] = [(0.5, ", p50"), (0.99, ", p99"), (0.999, ", p99.9")];

/// Runs a case with each setting; nothing if it is not one of this module's.
///
/// # Errors
/// If the program cannot be started, or what it did is wrong.
pub fn measure(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    let Some(mut program) = programs::start(case, workers)? else { return Ok(None) };
    settings::all_off();
    let mut values = Values::new();
    for (name, setting) in SETTINGS {
        let is_on = Cell::new(false);
        let mut times = [Times::default(), Times::default()];
        let mut run = |operations: u64| {
            let on = is_on.get().then(|| setting.switch_on());
            program.settle();
            let (before, times_before) = (cpu(), program.times());
            let done = match is_on.get() && *setting == Setting::Labels {
                true => program.run_labelled(operations),
                false => program.run(operations),
            };
            if is_on.get() && *setting == Setting::LeakScan {
                settings::scan();
            }
            let used = cpu() - before;
            if let Some((now, before)) = program.times().zip(times_before) {
                times[usize::from(is_on.get())].add(&now.since(&before));
            }
            drop(on);
            used.mul_f64(operations as f64 / done as f64)
        };
        // A limit is set for this one, of a few hundredths.
        let is_judged = *setting == Setting::AlwaysOn && case == Case::OverheadOrders;
        let pairs = if is_judged { effort.batches * MANY } else { effort.batches };
        let effort = Effort { batches: pairs, ..effort };
        let [without, mut with, added] = effort.time_off_and_on(|on| is_on.set(on), &mut run);
        if *setting == Setting::LeakScan {
            // Nanoseconds of a scan, of which a second has one.
            let scan = added * effort.operations as f64;
            with = without * (1.0 + scan * 1e-9);
        }
        values.insert((*name).to_owned(), with);
        values.insert(off(name), without);
        for (quantile, ending) in LATENCIES.iter().filter(|_| program.times().is_some()) {
            let [without, with] = times.each_ref().map(|times| times.quantile(*quantile).as_secs_f64() * 1e3);
            values.insert(format!("{name}{ending}"), with);
            values.insert(format!("{}{ending}", off(name)), without);
        }
    }
    program.end()?;
    Ok(Some(values))
}

/// The processor time of all threads so far.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock that every Linux has").into()
}
