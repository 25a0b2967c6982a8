//! What the tests of this crate trace: a program with all kinds of events that the tracer writes.

use std::time::Duration;

use greenprof_runtime::{Runtime, sleep, spawn, sync::Chan, task, yield_now};
use parking_lot::{Mutex, MutexGuard};

/// Traces and counts are of all runtimes of the process: tests of this crate run their programs one after the other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

/// So many numbers are sent from task to task, within a task and a region of the program's own; then all else.
pub(crate) fn run(count: u32) {
    Runtime::builder().workers(2).build().expect("a runtime").run(|| {
        let numbers = Chan::new();
        let sender = numbers.clone();
        let user = crate::Task::new("request");
        let sending = task::Builder::new().name("sender").spawn(move || {
            for number in 0..count {
                sender.send(number).expect("nobody closes it");
                yield_now();
            }
            sender.close();
        });
        let region = user.region("receiving");
        numbers.iter().for_each(|_| crate::log("test", "received"));
        drop(region);
        let part = user.subtask("part");
        sending.expect("memory").join().expect("no panic");
        task::blocking(|| std::thread::sleep(Duration::from_millis(1)));
        spawn(|| sleep(Duration::from_millis(2))).join().expect("no panic");
        drop(part);
    });
}

/// Its trace, in Go's format.
pub(crate) fn traced(count: u32) -> Vec<u8> {
    let _alone = alone();
    let trace = crate::start(Vec::new()).expect("hooks are built in");
    run(count);
    trace.stop().expect("a whole trace").0
}
