//! What `/metrics` says: figures of the runtime, the heap, the process and the profilers, in OpenMetrics.
//!
//! Names are those of Go's `runtime/metrics` in the form that Prometheus gives them, with `greenprof` for `go`, where Go has
//! the figure (`/sched/latencies:seconds` is `greenprof_sched_latencies_seconds`); `process_*` are those of every Prometheus client.
//! Nothing is counted for this that is not counted anyway, but for the latencies
//! ([`Figures::latencies`](greenprof_runtime::world::Figures::latencies)). An answer costs some 10 ns for each stack
//! that was ever used, to see what the tasks are doing, and some microseconds more.

mod losses;
mod writer;

use std::fmt;

use greenprof_runtime::{
    heap,
    world::{self, stop::pauses},
};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Unit};

use crate::{contention, http::Registry, leak, process};
pub use losses::Losses;
use writer::Writer;

/// Everything that this crate has to say about the process.
#[derive(Debug)]
struct Standard;

/// Puts the figures that are told here into a registry.
pub(crate) fn register(registry: &Registry) {
    registry.register_metrics(Box::new(Standard));
}

impl Collector for Standard {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer::new(encoder);
        scheduler(&mut to)?;
        if heap::is_active() {
            memory(&mut to)?;
        }
        waits(&mut to)?;
        leaks(&mut to)?;
        own_process(&mut to)
    }
}

fn scheduler(to: &mut Writer<'_>) -> fmt::Result {
    let states = world::states();
    let figures = world::figures();
    to.gauges(
        "greenprof_sched_tasks",
        "Tasks that have not ended, by what they are doing",
        "state",
        &[("running", states.running), ("runnable", states.runnable), ("waiting", states.waiting)],
    )?;
    to.gauges(
        "greenprof_sched_run_queue_tasks",
        "Tasks in run queues: of single workers, and shared by all workers of a runtime",
        "queue",
        &[("local", figures.queued_local), ("global", figures.queued_global)],
    )?;
    to.gauge("greenprof_sched_workers", "Workers that the runtimes were built with", figures.workers as f64)?;
    to.gauge("greenprof_sched_idle_workers", "Workers that sleep for want of tasks", figures.idle as f64)?;
    let threads = "Threads that run tasks, those included that stand in for blocked workers";
    to.gauge("greenprof_sched_threads", threads, figures.threads as f64)?;
    for (name, help, value) in [
        ("greenprof_sched_tasks_created", "Tasks that were spawned", figures.spawned),
        ("greenprof_sched_tasks_ended", "Tasks that have ended", figures.finished),
        ("greenprof_sched_runs", "How often a task was switched to", figures.runs),
        ("greenprof_sched_parks", "How often a task left its worker to wait", figures.parks),
        ("greenprof_sched_yields", "How often a task yielded", figures.yields),
        ("greenprof_sched_steals", "How often a worker took tasks from another", figures.steals),
        ("greenprof_sched_starved", "How often a stand-in for a blocked worker could not be had", figures.starved),
    ] {
        to.counter(name, help, value)?;
    }
    let latencies = "Time that tasks were runnable before they ran; of about one in sixty that were woken or spawned";
    to.histogram("greenprof_sched_latencies", latencies, &figures.latencies)?;
    let pauses = pauses();
    to.histogram("greenprof_sched_pauses_stopping", "Time until all threads were stopped", &pauses.stopping)?;
    to.histogram("greenprof_sched_pauses_total", "Time that threads were stopped", &pauses.stopped)?;
    to.counter("greenprof_sched_pauses_incomplete", "Stops that did not stop every thread", pauses.incomplete)
}

fn memory(to: &mut Writer<'_>) -> fmt::Result {
    let stats = heap::stats();
    for (name, help, value) in [
        ("greenprof_heap_allocs_bytes", "Bytes that the program has allocated", stats.allocated.bytes),
        ("greenprof_heap_allocs_objects", "Blocks that the program has allocated", stats.allocated.objects),
        ("greenprof_heap_frees_bytes", "Bytes that the program has freed", stats.freed.bytes),
        ("greenprof_heap_frees_objects", "Blocks that the program has freed", stats.freed.objects),
    ] {
        to.counter(name, help, value)?;
    }
    to.gauge("greenprof_heap_objects_bytes", "Bytes of blocks in use", stats.in_use.bytes as f64)?;
    to.gauge("greenprof_heap_objects", "Blocks in use", stats.in_use.objects as f64)?;
    to.gauges(
        "greenprof_memory_heap_bytes",
        "Bytes of the heap's pages: with blocks on them, kept for later, given back; and of the profilers' own blocks",
        "class",
        &[
            ("in_use", stats.in_use_pages as usize),
            ("idle", stats.idle_pages as usize),
            ("released", stats.released_pages as usize),
            ("profilers", stats.untracked.bytes as usize),
        ],
    )
}

/// What the contention profiles have recorded: estimates, of the time while their rates were set.
fn waits(to: &mut Writer<'_>) -> fmt::Result {
    let block = contention::block_totals();
    let mutex = contention::mutex_totals();
    for (name, waited, help_count, help_time) in [
        (
            "greenprof_sync_block_wait",
            block,
            "Waits that the block profile stands for",
            "Time waited, as the block profile estimates it",
        ),
        (
            "greenprof_sync_mutex_wait",
            mutex,
            "Unlocks with waiters that the mutex profile stands for",
            "Time waited for locks, as the mutex profile estimates it",
        ),
    ] {
        to.counter_with(&format!("{name}_contentions"), help_count, None, waited.0)?;
        to.counter_with(name, help_time, Some(&Unit::Seconds), waited.1 / 1e9)?;
    }
    Ok(())
}

/// What the leak detector has said, and whether it was wrong.
fn leaks(to: &mut Writer<'_>) -> fmt::Result {
    let figures = leak::figures();
    to.gauge("greenprof_leak_tasks", "Tasks that the last leak detection has reported", figures.last as f64)?;
    to.counter("greenprof_leak_detections", "Leak detections", figures.detections)?;
    let errors =
        "Tasks that were reported as leaked and have run since without being reclaimed: faults of the detector";
    to.counter("greenprof_leak_detector_errors", errors, figures.errors)?;
    to.counter("greenprof_leak_tasks_unwound", "Leaked tasks that were told to unwind", figures.unwound)
}

fn own_process(to: &mut Writer<'_>) -> fmt::Result {
    let seconds = |name, help, time: std::time::Duration, to: &mut Writer<'_>| {
        to.counter_with(name, help, Some(&Unit::Seconds), time.as_secs_f64())
    };
    seconds("process_cpu", "CPU time of the process", process::cpu_time(), to)?;
    let own = process::threads::cpu_time();
    seconds("greenprof_debug_port_cpu", "CPU time of the threads that serve this port", own, to)?;
    if let Some(bytes) = process::resident() {
        to.gauge("process_resident_memory_bytes", "Resident memory of the process", bytes as f64)?;
    }
    if let Some(bytes) = process::memory_limit() {
        to.gauge("greenprof_memory_limit_bytes", "Smallest memory limit of the control groups", bytes as f64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_well_formed() {
        let registry = Registry::new();
        register(&registry);
        registry.register_lost("test", || 7);
        let text = registry.metrics().expect("no collector fails");
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("greenprof_profile_samples_lost_total{profile=\"test\"} 7\n"), "{text}");
        let mut families = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                families.push(rest.split(' ').next().expect("a name").to_owned());
            }
            if line.starts_with('#') {
                continue;
            }
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(name.starts_with(families.last().expect("a type before").as_str()), "{line}");
        }
        let mut unique = families.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), families.len(), "a name twice in {families:?}");
        for name in ["greenprof_sched_tasks", "greenprof_sched_latencies_seconds", "process_cpu_seconds"] {
            assert!(families.iter().any(|family| family == name), "{name} is not in {families:?}");
        }
    }
}
