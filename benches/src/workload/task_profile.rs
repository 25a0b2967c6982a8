//! Profiles of a crowd of tasks that all wait on one channel.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::Context;
use greenprof_profiler::{http::NamedProfile, tasks::TaskProfile};
use greenprof_runtime::{
    Runtime, spawn,
    sync::Chan,
    world::{self, stop::pauses},
};

use crate::{
    case::Effort,
    statistics::Summary,
    values::{FILE, STOPS, TEXT, Values},
};

/// Takes `effort.batches` profiles of `effort.operations` waiting tasks in each form, after one that reads the symbols.
///
/// # Errors
/// If there is no profile.
pub fn task_profiles(runtime: &Runtime, effort: Effort) -> anyhow::Result<Values> {
    let gate = Chan::<()>::new();
    let waits = gate.clone();
    runtime.run(move || {
        for _ in 0..effort.operations {
            let gate = waits.clone();
            drop(spawn(move || gate.recv()));
        }
    });
    while (world::states().waiting as u64) < effort.operations {
        std::thread::sleep(Duration::from_millis(1));
    }
    let stops = || pauses().stopped.count();
    let before = stops();
    let file = milliseconds(effort.batches, 0);
    let text = milliseconds(effort.batches, 1);
    let stopped = stops() - before;
    gate.close();
    while runtime.handle().alive_tasks() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let values = [(FILE, file?), (TEXT, text?), (STOPS, stopped as f64)];
    Ok(values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Of the median profile in the form of `debug`.
fn milliseconds(profiles: u64, debug: i64) -> anyhow::Result<f64> {
    let take = || TaskProfile.write(debug).context("there is no task profile");
    black_box(take()?);
    let times: anyhow::Result<Vec<f64>> = (0..profiles)
        .map(|_| {
            let start = Instant::now();
            black_box(take()?);
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
        .collect();
    Ok(Summary::of(&times?).median)
}
