//! What is measured, whoever does it: the names of the cases, and how much of each makes a sample.
//!
//! What an operation is stands at the functions of [`workload`](crate::workload); the peers' functions, and Go's in
//! `go/`, count the same.

use std::{fmt, time::Duration};

use clap::ValueEnum;

use crate::statistics::Summary;

/// A program that several runtimes can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Case {
    Switch,
    Yield,
    SpawnJoin,
    PingPong,
    Spsc,
    Mpmc,
    MutexAlone,
    MutexShared,
    Select,
    Skynet,
    Parked,
    Sleepers,
    SleepersBesideLoop,
    HeapImmediate,
    HeapRing,
    HeapCrossing,
    HeapCrowd,
    HeapSampling,
    HeapEvery,
    HeapInstructions,
    HeapResident,
    StopWorld,
    SampleShallow,
    SampleDeep,
    BlockProfile,
    MutexProfile,
    HooksOff,
    HooksInstructions,
    TaskProfile,
    TracePingPong,
    TraceService,
    FlightService,
    TraceEdges,
    LeakOwn,
    LeakShared,
    LeakChain,
    OverheadOrders,
    OverheadCompute,
    OverheadAllocate,
    OverheadPingPong,
    OverheadLock,
    InstructionsAllocate,
    InstructionsPingPong,
    InstructionsLock,
    AccuracyShares,
    AccuracyFunctions,
    AccuracyShortTasks,
    AccuracyMigrating,
    AccuracyRates,
    AccuracyHeap,
    AccuracyBlock,
    AccuracyMutex,
    AccuracyTrace,
}

/// How much of a case a sample does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Effort {
    /// Operations of a batch; a tenth of them runs before the first, unmeasured
    #[arg(long)]
    pub operations: u64,
    /// How many batches; the median one counts
    #[arg(long, default_value_t = 1)]
    pub batches: u64,
}

impl Case {
    /// By which the command lines of all peers know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Yield => "yield",
            Self::SpawnJoin => "spawn-join",
            Self::PingPong => "ping-pong",
            Self::Spsc => "spsc",
            Self::Mpmc => "mpmc",
            Self::MutexAlone => "mutex-alone",
            Self::MutexShared => "mutex-shared",
            Self::Select => "select",
            Self::Skynet => "skynet",
            Self::Parked => "parked",
            Self::Sleepers => "sleepers",
            Self::SleepersBesideLoop => "sleepers-beside-loop",
            Self::HeapImmediate => "heap-immediate",
            Self::HeapRing => "heap-ring",
            Self::HeapCrossing => "heap-crossing",
            Self::HeapCrowd => "heap-crowd",
            Self::HeapSampling => "heap-sampling",
            Self::HeapEvery => "heap-every",
            Self::HeapInstructions => "heap-instructions",
            Self::HeapResident => "heap-resident",
            Self::StopWorld => "stop-world",
            Self::SampleShallow => "sample-shallow",
            Self::SampleDeep => "sample-deep",
            Self::BlockProfile => "block-profile",
            Self::MutexProfile => "mutex-profile",
            Self::HooksOff => "hooks-off",
            Self::HooksInstructions => "hooks-instructions",
            Self::TaskProfile => "task-profile",
            Self::TracePingPong => "trace-ping-pong",
            Self::TraceService => "trace-service",
            Self::FlightService => "flight-service",
            Self::TraceEdges => "trace-edges",
            Self::LeakOwn => "leak-own",
            Self::LeakShared => "leak-shared",
            Self::LeakChain => "leak-chain",
            Self::OverheadOrders => "overhead-orders",
            Self::OverheadCompute => "overhead-compute",
            Self::OverheadAllocate => "overhead-allocate",
            Self::OverheadPingPong => "overhead-ping-pong",
            Self::OverheadLock => "overhead-lock",
            Self::InstructionsAllocate => "instructions-allocate",
            Self::InstructionsPingPong => "instructions-ping-pong",
            Self::InstructionsLock => "instructions-lock",
            Self::AccuracyShares => "accuracy-shares",
            Self::AccuracyFunctions => "accuracy-functions",
            Self::AccuracyShortTasks => "accuracy-short-tasks",
            Self::AccuracyMigrating => "accuracy-migrating",
            Self::AccuracyRates => "accuracy-rates",
            Self::AccuracyHeap => "accuracy-heap",
            Self::AccuracyBlock => "accuracy-block",
            Self::AccuracyMutex => "accuracy-mutex",
            Self::AccuracyTrace => "accuracy-trace",
        }
    }

    /// A sample of a fifth of a second to a second. A batch lasts longer than a tick of the kernel, mostly, so that one
    /// preemption does not decide over it; and it is the same for all peers.
    pub fn effort(self) -> Effort {
        let (operations, batches) = match self {
            Self::Switch => (5_000_000, 7),
            Self::Yield | Self::Spsc | Self::Mpmc | Self::Select => (200_000, 7),
            Self::SpawnJoin | Self::PingPong => (100_000, 7),
            Self::MutexAlone => (1_000_000, 7),
            Self::MutexShared => (400_000, 7),
            // Signals, no more than the buffers take before they are emptied.
            Self::SampleShallow | Self::SampleDeep => (100, 15),
            // Pairs so short that most are not preempted: what is looked for is a difference.
            Self::BlockProfile | Self::HooksOff => (2000, 401),
            Self::MutexProfile => (20_000, 401),
            Self::Skynet => (1_000_000, 1),
            // Waves of tasks: the first one on fresh stacks.
            Self::Parked => (100_000, 3),
            Self::Sleepers => (100_000, 1),
            Self::SleepersBesideLoop => (1000, 1),
            Self::HeapImmediate | Self::HeapRing => (2_000_000, 3),
            Self::HeapCrossing | Self::HeapCrowd => (1_000_000, 3),
            // Pairs, of which many are needed to tell a hundredth.
            Self::HeapSampling => (2_000_000, 15),
            Self::HeapEvery => (200_000, 7),
            // Under valgrind.
            Self::HeapInstructions => (200_000, 1),
            Self::HooksInstructions => (10_000, 1),
            Self::InstructionsAllocate => (40_000, 1),
            Self::InstructionsPingPong => (1500, 1),
            Self::InstructionsLock => (20_000, 1),
            Self::HeapResident => (1_000_000, 1),
            Self::StopWorld => (1000, 1),
            // Tasks that wait, and profiles of them.
            Self::TaskProfile => (100_000, 3),
            // Pairs; a trace's beginning and end take some milliseconds.
            Self::TracePingPong => (200_000, 3),
            Self::TraceService => (20_000, 3),
            // One long batch, so that a flight recorder passes over most of it.
            Self::FlightService => (100_000, 1),
            // Traces that begin and end.
            Self::TraceEdges => (50, 1),
            // Tasks that wait, and detections among them.
            Self::LeakOwn | Self::LeakShared => (100_000, 3),
            Self::LeakChain => (1001, 11),
            // Pairs for each setting, of batches of some 30 ms.
            Self::OverheadOrders => (1000, 3),
            Self::OverheadCompute => (8000, 3),
            Self::OverheadAllocate => (2_000_000, 3),
            Self::OverheadPingPong => (200_000, 3),
            Self::OverheadLock => (1_000_000, 3),
            // Milliseconds of a capture, and captures.
            Self::AccuracyShares => (800, 3),
            Self::AccuracyFunctions | Self::AccuracyShortTasks => (600, 3),
            // Of CPU time, of all tasks; of each thread.
            Self::AccuracyMigrating => (600, 3),
            Self::AccuracyRates => (500, 1),
            // Runs, all of the same size.
            Self::AccuracyHeap => (1, 8),
            // Operations of a run, and runs.
            Self::AccuracyBlock => (10_000, 5),
            Self::AccuracyMutex => (500, 5),
            Self::AccuracyTrace => (15, 1),
        };
        Effort { operations, batches }
    }

    /// Whether the program `heap-cost` runs it, in a build of its own.
    pub fn is_of_allocators(self) -> bool {
        matches!(
            self,
            Self::HeapImmediate
                | Self::HeapRing
                | Self::HeapCrossing
                | Self::HeapCrowd
                | Self::HeapSampling
                | Self::HeapEvery
                | Self::HeapInstructions
                | Self::HeapResident
        )
    }

    /// Whether valgrind counts its instructions.
    pub fn is_counted(self) -> bool {
        matches!(
            self,
            Self::HeapInstructions
                | Self::HooksInstructions
                | Self::InstructionsAllocate
                | Self::InstructionsPingPong
                | Self::InstructionsLock
        )
    }

    /// Whether its figures are the same each time, to some thousandths, so that one sample says all.
    pub fn is_repeatable(self) -> bool {
        matches!(self, Self::HeapInstructions | Self::HooksInstructions | Self::HeapResident)
    }

    /// Whether less effort gives the same figure with more noise; false where the number of operations is the question, or there
    /// is only one batch.
    pub fn can_be_shortened(self) -> bool {
        !matches!(self, Self::Parked | Self::LeakOwn | Self::LeakShared) && self.effort().batches > 1
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Effort {
    /// The fewer batches of a quick run.
    pub fn quick(self) -> Self {
        Self { batches: self.batches.div_ceil(3), ..self }
    }

    /// Runs a tenth of a batch, and then the batches; gives the nanoseconds of an operation in each.
    pub fn time_batches(self, mut run: impl FnMut(u64) -> Duration) -> Vec<f64> {
        run(self.operations / 10);
        (0..self.batches).map(|_| nanoseconds_each(run(self.operations), self.operations)).collect()
    }

    /// Runs a tenth of a batch, and then the batches; gives the median of what they return.
    pub fn median(self, mut run: impl FnMut(u64) -> f64) -> f64 {
        run((self.operations / 10).max(1));
        let batches: Vec<f64> = (0..self.batches).map(|_| run(self.operations)).collect();
        Summary::of(&batches).median
    }

    /// Runs each batch twice, with something off and on, in changing order. Gives the nanoseconds of an operation in the
    /// median batch without it, in the median one with it, and by how much those of a pair differ, in the median pair.
    pub fn time_off_and_on(self, switch: impl Fn(bool), mut run: impl FnMut(u64) -> Duration) -> [f64; 3] {
        let mut time = |is_on| {
            switch(is_on);
            nanoseconds_each(run(self.operations), self.operations)
        };
        let _warm_up = [time(false), time(true)];
        let pairs: Vec<(f64, f64)> = (0..self.batches)
            .map(|batch| {
                if batch % 2 == 0 {
                    let off = time(false);
                    (off, time(true))
                } else {
                    let on = time(true);
                    (time(false), on)
                }
            })
            .collect();
        let median = |of: fn(&(f64, f64)) -> f64| Summary::of(&pairs.iter().map(of).collect::<Vec<_>>()).median;
        [median(|pair| pair.0), median(|pair| pair.1), median(|pair| pair.1 - pair.0)]
    }

    /// Nanoseconds of an operation in the median batch.
    pub fn time(self, run: impl FnMut(u64) -> Duration) -> f64 {
        Summary::of(&self.time_batches(run)).median
    }
}

/// A duration's share of one of `operations`.
pub fn nanoseconds_each(duration: Duration, operations: u64) -> f64 {
    duration.as_nanos() as f64 / operations as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for case in Case::value_variants() {
            assert_eq!(Case::from_str(case.name(), false), Ok(*case));
        }
    }

    #[test]
    fn pairs_are_compared_whatever_their_order() {
        let is_on = std::cell::Cell::new(false);
        let mut drift = 0;
        let figures = Effort { operations: 1, batches: 3 }.time_off_and_on(
            |on| is_on.set(on),
            |_| {
                drift += 10;
                Duration::from_nanos(1000 + drift + if is_on.get() { 50 } else { 0 })
            },
        );
        assert_eq!(figures, [1060.0, 1100.0, 60.0]);
    }

    #[test]
    fn the_median_batch_counts_and_the_warm_up_does_not() {
        let mut runs = Vec::new();
        let time = Effort { operations: 100, batches: 3 }.time(|operations| {
            runs.push(operations);
            Duration::from_nanos(operations * runs.len() as u64)
        });
        assert_eq!(runs, [10, 100, 100, 100]);
        assert_eq!(time, 3.0);
    }
}
