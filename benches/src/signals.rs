//! What a sample of a CPU profile costs: the time of a signal as the profiler's timer sends it, from the interruption to the return.
//!
//! At the rates that timers reach, samples take some thousandths of a program's time, less than can be told from noise. So the thread sends
//! the signals to itself, with the system call in a function of the depth that is asked for, and its CPU time is divided by their number.
//! The call and the signal's delivery are in the figure, and are the same for all that are compared. After each batch the
//! profiler gets time to collect what it has, so that no sample finds a full buffer.

use std::{hint::black_box, thread, time::Duration};

use anyhow::{Context, ensure};
use greenprof_profiler::cpu;
use greenprof_runtime::Runtime;
use pprof::ProfilerGuardBuilder;

use crate::{
    accuracy::cpu::thread_cpu,
    case::{Case, Effort},
    statistics::Summary,
    values::{TIME, Values, one},
};

/// As the kernel lays out what a queued signal carries.
#[repr(C)]
struct Info {
    signal: i32,
    error: i32,
    code: i32,
    _padding: i32,
    source: i32,
    overrun: i32,
    value: usize,
    _rest: [u64; 12],
}

const _: () = assert!(size_of::<Info>() == 128, "the kernel's layout on 64-bit machines");

/// Longer than greenprof's collector sleeps, which is the slowest of the two that are measured here.
const PAUSE: Duration = Duration::from_millis(50);

/// Sends SIGPROF to the calling thread, and returns when it has been handled.
#[inline(never)]
fn interrupt_self(thread: i32, code: i32, value: usize) -> i64 {
    let info =
        Info { signal: libc::SIGPROF, error: 0, code, _padding: 0, source: 0, overrun: 0, value, _rest: [0; 12] };
    // SAFETY: has no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: the call reads the info, and a process may send any to itself.
    unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGPROF, &raw const info) }
}

/// Calls `at_depth` with so many frames of its own below.
#[inline(never)]
fn descend(depth: usize, at_depth: &mut dyn FnMut()) {
    if depth <= 1 {
        at_depth();
    } else {
        descend(depth - 1, at_depth);
    }
    // The call is not the last thing, so each has a frame.
    black_box(depth);
}

/// Nanoseconds of a signal, in the median batch.
fn time(depth: usize, effort: Effort, code: i32, value: usize) -> anyhow::Result<f64> {
    // SAFETY: has no preconditions.
    let thread = unsafe { libc::gettid() };
    let mut failed = 0;
    let mut batch = |count: u64| {
        let mut took = Duration::ZERO;
        descend(depth, &mut || {
            let start = thread_cpu();
            for _ in 0..count {
                failed += i64::from(interrupt_self(thread, code, value) != 0);
            }
            took = thread_cpu() - start;
        });
        thread::sleep(PAUSE);
        took.as_nanos() as f64 / count as f64
    };
    batch(effort.operations.div_ceil(10));
    let times: Vec<f64> = (0..effort.batches).map(|_| batch(effort.operations)).collect();
    ensure!(failed == 0, "the system refused {failed} signals");
    Ok(Summary::of(&times).median)
}

/// How deep the stack of a case is; nothing if it is none of this module's.
pub(crate) fn depth(case: Case) -> Option<usize> {
    match case {
        Case::SampleShallow => Some(2),
        Case::SampleDeep => Some(30),
        _ => None,
    }
}

/// Ours, on a task. The profile is looked at: every signal must have become a sample.
pub(crate) fn greenprof(depth: usize, effort: Effort) -> anyhow::Result<Values> {
    let runtime = Runtime::builder().workers(1).build()?;
    // Its own timer hardly ever expires meanwhile.
    let session = cpu::start(1)?;
    let time = runtime.run(move || {
        let value = cpu::signal_value().context("the worker is not sampled")?;
        time(depth, effort, libc::SI_TIMER, value)
    })?;
    let samples = session.stop().summary.samples;
    let sent = effort.operations * effort.batches;
    ensure!(samples >= sent, "of {sent} signals only {samples} became samples");
    Ok(one(TIME, time))
}

/// pprof-rs, on a thread.
pub(crate) fn pprof_rs(depth: usize, effort: Effort) -> anyhow::Result<Values> {
    let guard = ProfilerGuardBuilder::default().frequency(1).build().context("pprof-rs cannot be started")?;
    let time = time(depth, effort, libc::SI_QUEUE, 0)?;
    let report = guard.report().build_unresolved().context("pprof-rs gives no report")?;
    let samples: isize = report.data.values().sum();
    let sent = (effort.operations * effort.batches) as isize;
    ensure!(samples >= sent, "of {sent} signals only {samples} became samples");
    Ok(one(TIME, time))
}
