//! Allocators beside each other: ours with the heap profiler on, the system's, mimalloc and jemalloc.
//!
//! All are called by the same generic code through `GlobalAlloc`, and none of them is the program's own allocator: what is
//! measured is what the workload asks for. Times are the CPU time of the threads that work, so that what other programs do
//! meanwhile does not count. jemalloc's profiling is a choice of its build: the feature `jemalloc-profiling`.

mod instructions;
mod sampling;
mod trace;
mod workloads;

use std::{alloc::System, fmt};

use anyhow::bail;
use clap::ValueEnum;
use greenprof_profiler::heap as profiler;
use greenprof_runtime::heap::Heap;
use mimalloc::MiMalloc;
use tikv_jemallocator::Jemalloc;

use crate::{
    case::{Case, Effort},
    values::{TIME, Values, one},
};

static HEAP: Heap = Heap::new();

/// Who allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Allocator {
    /// The span heap, with the heap profiler at its default of 512 KiB.
    Greenprof,
    /// The same without sampling.
    Unsampled,
    /// The C library's.
    Malloc,
    Mimalloc,
    Jemalloc,
}

impl fmt::Display for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greenprof => "greenprof",
            Self::Unsampled => "unsampled",
            Self::Malloc => "malloc",
            Self::Mimalloc => "mimalloc",
            Self::Jemalloc => "jemalloc",
        })
    }
}

/// Evaluates an expression with a name for the allocator: each is a type of its own.
macro_rules! with {
    ($allocator:expr, $name:ident => $work:expr) => {
        match $allocator {
            Allocator::Greenprof => {
                profiler::start();
                let $name = &HEAP;
                $work
            }
            Allocator::Unsampled => {
                let $name = &HEAP;
                $work
            }
            Allocator::Malloc => {
                let $name = &System;
                $work
            }
            Allocator::Mimalloc => {
                let $name = &MiMalloc;
                $work
            }
            Allocator::Jemalloc => {
                let $name = &Jemalloc;
                $work
            }
        }
    };
}

impl Allocator {
    /// Runs a case in this process.
    ///
    /// # Errors
    /// If it is no case of allocators, or of ours only.
    pub fn measure(self, case: Case, threads: usize, effort: Effort) -> anyhow::Result<Values> {
        let timed = |run: fn(Self, usize, u64) -> f64| one(TIME, effort.median(|count| run(self, threads, count)));
        Ok(match (case, self) {
            (Case::HeapImmediate, _) => {
                timed(|it, threads, count| with!(it, of => workloads::immediate(of, threads, count)))
            }
            (Case::HeapRing, _) => timed(|it, threads, count| with!(it, of => workloads::ring(of, threads, count))),
            (Case::HeapCrowd, _) => timed(|it, threads, count| with!(it, of => workloads::crowd(of, threads, count))),
            (Case::HeapCrossing, _) => timed(|it, _, count| with!(it, of => workloads::crossing(of, count))),
            (Case::HeapResident, _) => with!(self, of => trace::run(of, effort.operations)?),
            (Case::HeapSampling, Self::Greenprof) => sampling::against_off(&HEAP, threads, effort),
            (Case::HeapEvery, Self::Greenprof) => sampling::every_one(&HEAP, threads, effort),
            (Case::HeapInstructions, _) => instructions::count(self, effort.operations)?,
            _ => bail!("{self} has no case {case}"),
        })
    }
}
