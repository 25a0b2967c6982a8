//! Ours: the functions of [`workload`].

use anyhow::{Context, bail};
use greenprof_profiler::{set_block_profile_rate, set_mutex_profile_fraction};
use greenprof_runtime::{Runtime, task};

use super::of_crowd;
use crate::values::{ADDED, OFF, ON, P99, TIME, Values, one};
use crate::{
    case::{Case, Effort},
    signals,
    workload::{
        self, BATCH, Crowd, Tracing, YIELDERS,
        leaks::{self, Shape},
    },
};

pub(super) fn measure(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    let shape = match case {
        Case::LeakOwn => Some(Shape::Own),
        Case::LeakShared => Some(Shape::Shared),
        Case::LeakChain => Some(Shape::Chain),
        _ => None,
    };
    if let Some(shape) = shape {
        // In a runtime of their own, with smaller stacks.
        return leaks::detections(shape, workers, effort).map(Some);
    }
    if let Some(depth) = signals::depth(case) {
        return signals::greenprof(depth, effort).map(Some);
    }
    let runtime = Runtime::builder().workers(workers).build().context("greenprof cannot be started")?;
    let time = |run: fn(&Runtime, u64) -> _| one(TIME, effort.time(|operations| run(&runtime, operations)));
    Ok(Some(match case {
        Case::Switch => one(TIME, effort.time(task::switch_round_trips)),
        Case::Yield => {
            let tasks = YIELDERS * workers as u64;
            one(TIME, effort.time(|operations| workload::yields(&runtime, tasks, operations)))
        }
        Case::SpawnJoin => time(|runtime, operations| workload::spawn_join(runtime, BATCH, operations)),
        Case::PingPong => time(|runtime, operations| workload::ping_pong(runtime, 0, operations)),
        Case::Spsc => time(workload::spsc),
        Case::Mpmc => time(workload::mpmc),
        Case::MutexAlone => time(workload::mutex_alone),
        Case::MutexShared => time(workload::mutex_shared),
        Case::Select => time(workload::select_two),
        Case::Skynet => time(workload::skynet),
        Case::Parked => of_crowd(&Crowd::run(effort, |tasks| workload::parked(&runtime, tasks))),
        Case::Sleepers => one(P99, workload::p99_milliseconds(workload::sleepers(&runtime, effort.operations))),
        Case::SleepersBesideLoop => {
            one(P99, workload::p99_milliseconds(workload::sleepers_beside_loop(&runtime, effort.operations)))
        }
        Case::StopWorld => workload::stops(&runtime, effort.operations)?,
        Case::TaskProfile => workload::task_profiles(&runtime, effort)?,
        Case::TracePingPong => workload::traced(effort, Tracing::Trace, |operations| {
            workload::ping_pong(&runtime, 0, operations);
        }),
        Case::TraceService => {
            workload::traced(effort, Tracing::Trace, |operations| workload::service(&runtime, operations))
        }
        Case::FlightService => {
            workload::traced(effort, Tracing::Flight, |operations| workload::service(&runtime, operations))
        }
        Case::TraceEdges => workload::trace_edges(&runtime, effort.operations),
        // Those of instruments are measured elsewhere or above, those of allocators by another program.
        Case::SampleShallow
        | Case::SampleDeep
        | Case::AccuracyShares
        | Case::AccuracyFunctions
        | Case::AccuracyShortTasks
        | Case::AccuracyMigrating
        | Case::AccuracyRates
        | Case::AccuracyHeap
        | Case::AccuracyBlock
        | Case::AccuracyMutex
        | Case::AccuracyTrace
        | Case::OverheadOrders
        | Case::OverheadCompute
        | Case::OverheadAllocate
        | Case::OverheadPingPong
        | Case::OverheadLock
        | Case::InstructionsAllocate
        | Case::InstructionsPingPong
        | Case::InstructionsLock
        | Case::HeapImmediate
        | Case::HeapRing
        | Case::HeapCrossing
        | Case::HeapCrowd
        | Case::HeapSampling
        | Case::HeapEvery
        | Case::HeapInstructions
        | Case::HeapResident
        | Case::LeakOwn
        | Case::LeakShared
        | Case::LeakChain => return Ok(None),
        // Two builds of another program.
        Case::HooksOff | Case::HooksInstructions => bail!("the report runs {case} with builds of its own"),
        Case::BlockProfile => {
            let switch = |on| set_block_profile_rate(u64::from(on)).expect("nothing else is installed");
            off_and_on(effort.time_off_and_on(switch, |operations| workload::ping_pong(&runtime, 0, operations)))
        }
        Case::MutexProfile => {
            let switch = |on| set_mutex_profile_fraction(u64::from(on)).expect("nothing else is installed");
            off_and_on(effort.time_off_and_on(switch, |operations| workload::mutex_shared(&runtime, operations)))
        }
    }))
}

fn off_and_on(figures: [f64; 3]) -> Values {
    [OFF, ON, ADDED].into_iter().map(str::to_owned).zip(figures).collect()
}
