//! The workloads: each runs a number of operations on a runtime and says how long that took.
//!
//! The clock runs inside the runtime, from the moment when all tasks that wait for the start are there; so building a
//! runtime and handing the main task to a worker is not counted. What an operation is stands at each function.

mod channels;
mod crowd;
#[cfg(feature = "allocators")]
pub mod leaks;
mod locks;
mod sleepers;
mod stops;
#[cfg(feature = "allocators")]
mod task_profile;
#[cfg(feature = "peers")]
mod tracing;
mod tree;

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

pub use channels::{CAPACITY, ENDS, mpmc, select_two, spsc};
pub use crowd::{Crowd, Wave, parked, resident};
use greenprof_runtime::{
    JoinHandle, Runtime, spawn,
    sync::{Chan, WaitGroup},
    yield_now,
};
pub use locks::{SHARERS, mutex_alone, mutex_shared};
pub use sleepers::{durations, lateness, p99_milliseconds, sleepers, sleepers_beside_loop};
pub use stops::stops;
#[cfg(feature = "allocators")]
pub use task_profile::task_profiles;
#[cfg(feature = "peers")]
pub use tracing::{Tracing, edges as trace_edges, service, traced};
pub use tree::{CHILDREN, skynet, sum_of};

/// Tasks spawned before the first of them is joined. Large enough that a batch overflows the run queue (256 tasks) and
/// the worker's cache of stacks, as programs do that spawn in bursts.
pub const BATCH: u64 = 1000;

/// Tasks per worker that yield to each other: more than the few for which everything stays in the nearest cache.
pub const YIELDERS: u64 = 16;

/// A workload of the `workload` binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// [`yields`] with [`YIELDERS`] tasks per worker.
    Yield,
    /// [`spawn_join`] in batches of [`BATCH`].
    SpawnJoin,
    /// [`ping_pong`] over rendezvous channels.
    PingPong,
}

impl Workload {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Yield, Self::SpawnJoin, Self::PingPong];

    /// The name by which the command line and the reports know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yield => "yield",
            Self::SpawnJoin => "spawn-join",
            Self::PingPong => "ping-pong",
        }
    }

    /// Runs `operations` of it and returns the time of one worker that they took: see the functions.
    pub fn run(self, runtime: &Runtime, operations: u64) -> Duration {
        match self {
            Self::Yield => yields(runtime, YIELDERS * runtime.handle().workers() as u64, operations),
            Self::SpawnJoin => spawn_join(runtime, BATCH, operations),
            Self::PingPong => ping_pong(runtime, 0, operations),
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|workload| workload.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no workload `{name}`; there are {names}")
        })
    }
}

/// Starts a runtime, or says why not.
///
/// # Panics
/// If the runtime cannot be started.
pub fn runtime(workers: usize) -> Runtime {
    match Runtime::builder().workers(workers).build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime with {workers} workers: {error}"),
    }
}

/// The part of `total` that number `index` of `count` does, so that the parts are equal and their sum is exact.
pub fn share(total: u64, count: u64, index: u64) -> u64 {
    total / count + u64::from(index < total % count)
}

/// An operation is one `yield_now`; the tasks do `operations` of them together.
///
/// Returns the wall time multiplied by the number of workers that the tasks can keep busy: so a quotient is the cost on
/// one worker, and equal costs give equal numbers whatever the number of workers.
pub fn yields(runtime: &Runtime, tasks: u64, operations: u64) -> Duration {
    let busy = tasks.min(runtime.handle().workers() as u64) as u32;
    let wall = runtime.run(move || {
        let gate = Arc::new(Gate::new(tasks));
        let tasks: Vec<JoinHandle<()>> = (0..tasks)
            .map(|index| {
                let gate = gate.clone();
                spawn(move || {
                    gate.wait();
                    (0..share(operations, tasks, index)).for_each(|_| yield_now());
                })
            })
            .collect();
        let start = gate.open();
        tasks.into_iter().for_each(finished);
        start.elapsed()
    });
    wall * busy
}

/// An operation is one `yield_now` of a task that is alone on its runtime: the main task itself yields, and nobody else
/// is runnable.
pub fn yields_alone(runtime: &Runtime, operations: u64) -> Duration {
    runtime.run(move || {
        let start = Instant::now();
        (0..operations).for_each(|_| yield_now());
        start.elapsed()
    })
}

/// An operation is one task that is spawned, runs an empty closure, and is joined. Up to `batch` of them are spawned
/// before the first is joined.
pub fn spawn_join(runtime: &Runtime, batch: u64, operations: u64) -> Duration {
    runtime.run(move || {
        let mut handles = Vec::with_capacity(batch.min(operations) as usize);
        let start = Instant::now();
        let mut left = operations;
        while left > 0 {
            let now = left.min(batch);
            handles.extend((0..now).map(|_| spawn(|| ())));
            handles.drain(..).for_each(finished);
            left -= now;
        }
        start.elapsed()
    })
}

/// An operation is a round trip: a number goes to the partner over one channel and comes back over another, so two
/// sends and two receives. With capacity 0 both are rendezvous.
pub fn ping_pong(runtime: &Runtime, capacity: usize, operations: u64) -> Duration {
    runtime.run(move || {
        let (there, back) = (Chan::with_capacity(capacity), Chan::with_capacity(capacity));
        let partner = spawn({
            let (there, back) = (there.clone(), back.clone());
            move || {
                for number in &there {
                    back.send(number).expect("nobody closes this channel");
                }
            }
        });
        // One round before the clock starts: then the partner is there, and waits.
        let round = |number: u64| {
            there.send(number).expect("closed only below");
            assert_eq!(back.recv(), Some(number), "the partner sends what it gets");
        };
        round(0);
        let start = Instant::now();
        (1..=operations).for_each(round);
        let elapsed = start.elapsed();
        there.close();
        finished(partner);
        elapsed
    })
}

fn finished(task: JoinHandle<()>) {
    task.join().expect("the task of a workload does not panic");
}

/// Holds tasks back until all of them have arrived.
struct Gate {
    arrived: WaitGroup,
    opened: Chan<()>,
}

impl Gate {
    fn new(tasks: u64) -> Self {
        let arrived = WaitGroup::new();
        arrived.add(tasks as usize);
        Self { arrived, opened: Chan::new() }
    }

    /// Arrives, and waits until the gate is opened.
    fn wait(&self) {
        self.arrived.done();
        self.opened.recv();
    }

    /// Waits for all tasks, lets them go, and returns the moment before that.
    fn open(&self) -> Instant {
        self.arrived.wait();
        let start = Instant::now();
        self.opened.close();
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (total, count) in [(0, 3), (1, 3), (10, 4), (1000, 7)] {
            assert_eq!((0..count).map(|index| share(total, count, index)).sum::<u64>(), total);
        }
    }

    #[test]
    fn workloads_do_any_number_of_operations() {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            for workload in Workload::ALL {
                for operations in [0, 1, 1001] {
                    assert!(workload.run(&runtime, operations) < Duration::from_secs(60), "{workload:?}");
                }
            }
            yields_alone(&runtime, 10);
            ping_pong(&runtime, 1, 10);
        }
    }

    #[test]
    fn the_other_workloads_end_too() {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            for operations in [1, 10, 1000] {
                spsc(&runtime, operations);
                mpmc(&runtime, operations);
                select_two(&runtime, operations);
                mutex_alone(&runtime, operations);
                mutex_shared(&runtime, operations);
                skynet(&runtime, operations);
                assert_eq!(sleepers(&runtime, operations).len() as u64, operations);
                let wave = parked(&runtime, operations);
                assert!(wave.resident < 1 << 30, "{}", wave.resident);
            }
        }
        assert_eq!(sleepers_beside_loop(&runtime(2), 10).len(), 10);
    }

    #[test]
    fn names_are_parsed_back() {
        for workload in Workload::ALL {
            assert_eq!(workload.name().parse(), Ok(workload));
        }
        assert!("pingpong".parse::<Workload>().unwrap_err().contains("ping-pong"));
    }
}
