//! The programs that instruments are measured on.
//!
//! | program | an operation is | for an instrument it is |
//! |---|---|---|
//! | compute | some 5 us of arithmetic, in tasks of 40 of them | the case in which nothing happens but time |
//! | allocate | a block of 16 to 1024 bytes, replacing one of 64 | the worst for the heap profile |
//! | ping-pong | a rendezvous round trip of two tasks that do nothing else | the worst of all for what watches waits and switches |
//! | lock | a lock and unlock by one of eight tasks that do nothing else | the worst for the mutex profile |
//! | orders | an order of the service of the demos: decoded, priced, stored | the realistic one |

use std::{hint::black_box, thread, time::Duration};

use anyhow::Context;
use greenprof_demos::orders::{Service, latency::Times, load::IN_FLIGHT};
use greenprof_runtime::{Runtime, labels, spawn};

use crate::{case::Case, workload};

/// Labels as a service has them.
const LABELS: [(&str, &str); 2] = [("tenant", "acme"), ("route", "/orders")];
/// Operations of a task that computes.
const PIECE: u64 = 40;
/// Blocks that a task which allocates keeps.
const KEPT: usize = 64;

/// A program that runs.
pub(super) enum Program {
    OnRuntime(Runtime, fn(&Runtime, u64)),
    Orders(Service),
}

/// Starts the program of a case; nothing if the case has none.
pub(super) fn start(case: Case, workers: usize) -> anyhow::Result<Option<Program>> {
    let run: fn(&Runtime, u64) = match case {
        Case::OverheadCompute => compute,
        Case::OverheadAllocate => allocate,
        Case::OverheadPingPong => |runtime, operations| _ = workload::ping_pong(runtime, 0, operations),
        Case::OverheadLock => |runtime, operations| _ = workload::mutex_shared(runtime, operations),
        Case::OverheadOrders => {
            return Ok(Some(Program::Orders(Service::start(Some(workers)).context("orders cannot be started")?)));
        }
        _ => return Ok(None),
    };
    let runtime = Runtime::builder().workers(workers).build().context("greenprof cannot be started")?;
    Ok(Some(Program::OnRuntime(runtime, run)))
}

impl Program {
    /// Runs so many operations, or some more. Gives how many.
    pub(super) fn run(&mut self, operations: u64) -> u64 {
        match self {
            Self::OnRuntime(runtime, run) => {
                run(runtime, operations);
                operations
            }
            Self::Orders(service) => {
                let before = service.counts().total();
                loop {
                    thread::sleep(Duration::from_millis(1));
                    let done = service.counts().total() - before;
                    if done >= operations {
                        return done;
                    }
                }
            }
        }
    }

    /// Lets what was begun before come to its end, for what is in the works would be counted half.
    pub(super) fn settle(&mut self) {
        if let Self::Orders(_) = self {
            self.run(IN_FLIGHT as u64);
        }
    }

    /// How long orders took so far; nothing if the program has none.
    pub(super) fn times(&self) -> Option<Times> {
        match self {
            Self::OnRuntime(..) => None,
            Self::Orders(service) => Some(service.times()),
        }
    }

    /// The same in tasks that have labels. (Those of `orders` have theirs anyway.)
    pub(super) fn run_labelled(&mut self, operations: u64) -> u64 {
        labels::with(&LABELS, || self.run(operations))
    }

    /// Ends the program, and checks what it did.
    pub(super) fn end(self) -> anyhow::Result<()> {
        if let Self::Orders(service) = self {
            service.stop()?;
        }
        Ok(())
    }
}

fn compute(runtime: &Runtime, operations: u64) {
    runtime.run(move || {
        let piece = |seed| move || (0..PIECE).fold(seed, |x, _| arithmetic(x));
        let tasks: Vec<_> = (0..operations.div_ceil(PIECE)).map(|seed| spawn(piece(seed))).collect();
        tasks.into_iter().for_each(|task| drop(black_box(task.join())));
    });
}

/// Some 5 us of multiplications, each of which needs the one before.
fn arithmetic(seed: u64) -> u64 {
    (0..3500).fold(seed | 1, |x, i| black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i))
}

fn allocate(runtime: &Runtime, operations: u64) {
    let workers = runtime.handle().workers() as u64;
    runtime.run(move || {
        let task = |index| {
            move || {
                let mut kept: [Vec<u8>; KEPT] = [const { Vec::new() }; KEPT];
                let mut random = index + 1;
                for i in 0..workload::share(operations, workers, index) as usize {
                    random = u64::wrapping_mul(random, 0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    kept[i % KEPT] = black_box(Vec::with_capacity(16 + (random >> 33) as usize % 1009));
                }
            }
        };
        let tasks: Vec<_> = (0..workers).map(|index| spawn(task(index))).collect();
        tasks.into_iter().for_each(|task| task.join().expect("no panic"));
    });
}
