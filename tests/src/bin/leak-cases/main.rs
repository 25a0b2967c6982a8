//! Situations in which a leak detector must keep silent, and others in which it should speak: one a process.
//!
//! `leak-cases` lists them; `leak-cases NAME [WORKERS [fork]]` runs one, in the second form with
//! detections in a copy of the process. Of a *live* situation, all tasks are woken and joined after the
//! detection: so the program proves itself that nobody was leaked. Of a *leaked* one it prints what was missed.
//!
//! It is a program, not a test, so that it can be built in each build profile.

mod lab;
mod leaked;
mod live;

use std::process::ExitCode;

use greenprof_profiler::leak::Mode;
use greenprof_runtime::{Runtime, heap::Heap};
use lab::Lab;

#[global_allocator]
static HEAP: Heap = Heap::new();

/// A situation: its name, the names of the tasks that are leaked in it, and what makes it.
pub struct Case {
    name: &'static str,
    leaked: &'static [&'static str],
    run: fn(&Lab),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let cases: Vec<&Case> = live::CASES.iter().chain(leaked::CASES).collect();
    let Some(name) = arguments.next() else {
        cases
            .iter()
            .for_each(|case| println!("{} {}", if case.leaked.is_empty() { "live" } else { "leaked" }, case.name));
        return ExitCode::SUCCESS;
    };
    let Some(case) = cases.into_iter().find(|case| case.name == name) else {
        eprintln!("there is no case {name:?}; without arguments, all are listed");
        return ExitCode::from(2);
    };
    let workers = arguments.next().map_or(Ok(2), |text| text.parse());
    let Ok(workers) = workers else {
        eprintln!("the number of workers is a number");
        return ExitCode::from(2);
    };
    let mode = match arguments.next().as_deref() {
        None => Mode::Stop,
        Some("fork") => Mode::Fork,
        Some(other) => {
            eprintln!("there is no mode {other:?}: say fork, or nothing");
            return ExitCode::from(2);
        }
    };
    let lab = Lab::new(case.leaked, mode);
    let runtime = Runtime::builder().workers(workers).build().expect("a runtime");
    runtime.run(|| (case.run)(&lab));
    lab.verdict()
}
