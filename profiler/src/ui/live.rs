//! `live`: the figures of now. Sums are since the start; the page subtracts the ones before, so that nothing is kept here for it.
//!
//! Cost: that of `/metrics`, some 10 ns for each stack that was ever used.

use std::time::Duration;

use greenprof_runtime::{
    heap,
    world::{self, Distribution},
};
use serde_json::{Value, json};

use crate::{
    contention,
    http::{Ask, NamedProfile, Page, Registry, reply::Reply},
    leak::LeakProfile,
    process,
    profile::wall_clock_nanos,
};

pub(super) struct Live;

impl Page for Live {
    fn path(&self) -> &str {
        "/debug/pprof/ui/live"
    }

    fn description(&self) -> &str {
        ""
    }

    fn answer(&self, ask: &Ask) -> Reply {
        super::json(&figures(&ask.registry))
    }
}

fn figures(registry: &Registry) -> Value {
    let states = world::states();
    let figures = world::figures();
    let block = contention::block_totals();
    let mutex = contention::mutex_totals();
    let rates = registry.rates().into_iter().map(|rate| (rate.name().to_owned(), rate.get().into()));
    json!({
        "time_nanoseconds": wall_clock_nanos(),
        "tasks": {
            "running": states.running,
            "runnable": states.runnable,
            "waiting": states.waiting,
            "created": figures.spawned,
            "ended": figures.finished,
        },
        "scheduler": {
            "runtimes": figures.runtimes,
            "workers": figures.workers,
            "idle_workers": figures.idle,
            "threads": figures.threads,
            "queued_local": figures.queued_local,
            "queued_global": figures.queued_global,
            "runs": figures.runs,
            "parks": figures.parks,
            "yields": figures.yields,
            "steals": figures.steals,
            "latencies": latencies(&figures.latencies),
        },
        "heap": heap::is_active().then(memory),
        "contention": {
            "block_waits": block.0,
            "block_nanoseconds": block.1,
            "mutex_waits": mutex.0,
            "mutex_nanoseconds": mutex.1,
        },
        "process": {
            "cpu_seconds": process::cpu_time().as_secs_f64(),
            "port_cpu_seconds": process::threads::cpu_time().as_secs_f64(),
            "resident_bytes": process::resident(),
            "limit_bytes": process::memory_limit(),
        },
        "leaked": LeakProfile.count(),
        "rates": rates.collect::<serde_json::Map<String, Value>>(),
    })
}

/// Pairs of a bucket's exclusive upper bound in nanoseconds, nothing for the last, and how many were in it since the start.
fn latencies(all: &Distribution) -> Vec<Value> {
    let bound = |bound: Duration| (bound != Duration::MAX).then_some(bound.as_nanos() as u64);
    all.buckets().map(|(upper, count)| json!([bound(upper), count])).collect()
}

fn memory() -> Value {
    let stats = heap::stats();
    json!({
        "in_use_bytes": stats.in_use.bytes,
        "in_use_objects": stats.in_use.objects,
        "allocated_bytes": stats.allocated.bytes,
        "allocated_objects": stats.allocated.objects,
        "profilers_bytes": stats.untracked.bytes,
        "idle_page_bytes": stats.idle_pages,
    })
}
