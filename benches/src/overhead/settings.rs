//! The instruments, off, at their defaults, and at their extremes.

use std::io;

use greenprof_profiler::{contention::RateError, cpu, heap, leak, set_block_profile_rate, set_mutex_profile_fraction};
use greenprof_tracer::{FlightRecorder, Trace, flight_recorder};

/// An instrument and how it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The CPU profile, at so many hertz.
    Cpu(u32),
    /// The heap profile, one sample in so many bytes.
    Heap(u64),
    /// The block profile, one sample in so many nanoseconds.
    Block(u64),
    /// The mutex profile, one event in so many.
    Mutex(u64),
    /// An execution trace, whose file is thrown away.
    Trace,
    /// The flight recorder, of ten seconds.
    Flight,
    /// Two labels on every task.
    Labels,
    /// One scan for leaked tasks a second.
    LeakScan,
    /// What is meant to stay on: CPU at 100 Hz, heap at 512 KiB, mutex at one in 100, the flight recorder.
    AlwaysOn,
    /// The same without the CPU profile.
    AlwaysOnButCpu,
}

/// All settings with the names of their values, in the order of the report.
pub const SETTINGS: &[(&str, Setting)] = &[
    ("CPU 100 Hz", Setting::Cpu(100)),
    ("CPU 250 Hz", Setting::Cpu(250)),
    ("CPU 1000 Hz", Setting::Cpu(1000)),
    ("heap 512 KiB", Setting::Heap(512 << 10)),
    ("heap 64 KiB", Setting::Heap(64 << 10)),
    ("heap, everything", Setting::Heap(1)),
    ("block 1 ms", Setting::Block(1_000_000)),
    ("block 10 us", Setting::Block(10_000)),
    ("block 1 ns", Setting::Block(1)),
    ("mutex 1 in 100", Setting::Mutex(100)),
    ("mutex 1 in 10", Setting::Mutex(10)),
    ("mutex, everything", Setting::Mutex(1)),
    ("trace", Setting::Trace),
    ("flight recorder", Setting::Flight),
    ("two labels", Setting::Labels),
    ("a leak scan each second", Setting::LeakScan),
    ("all that stays on", Setting::AlwaysOn),
];

/// What is on until this is dropped.
#[derive(Default)]
pub(super) struct On {
    cpu: Option<cpu::Session>,
    trace: Option<Trace<io::Sink>>,
    flight: Option<FlightRecorder>,
}

impl Setting {
    /// Switches it on. The heap's sampling begins with the next block of a thread.
    pub(super) fn switch_on(self) -> On {
        let mut on = On::default();
        match self {
            Self::Cpu(hz) => on.sample_cpu(hz),
            Self::Heap(bytes) => heap::set_rate(bytes),
            Self::Block(nanoseconds) => checked(set_block_profile_rate(nanoseconds)),
            Self::Mutex(fraction) => checked(set_mutex_profile_fraction(fraction)),
            Self::Trace => on.trace = Some(greenprof_tracer::start(io::sink()).expect("nothing else traces")),
            Self::Flight => on.record(),
            // Those that the program does, or that are done beside it.
            Self::Labels | Self::LeakScan => {}
            Self::AlwaysOn | Self::AlwaysOnButCpu => {
                if self == Self::AlwaysOn {
                    on.sample_cpu(100);
                }
                heap::set_rate(512 << 10);
                checked(set_mutex_profile_fraction(100));
                on.record();
            }
        }
        on
    }
}

impl On {
    fn sample_cpu(&mut self, hz: u32) {
        self.cpu = Some(cpu::start(hz).expect("nothing else takes a CPU profile"));
    }

    fn record(&mut self) {
        self.flight = Some(flight_recorder().start().expect("an instrument's place is free"));
    }
}

impl Drop for On {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.take() {
            trace.stop().expect("nothing is too slow to be thrown away");
        }
        drop(self.cpu.take());
        all_off();
    }
}

/// Switches off what has a rate.
pub(super) fn all_off() {
    heap::set_rate(0);
    checked(set_block_profile_rate(0));
    checked(set_mutex_profile_fraction(0));
}

fn checked(result: Result<(), RateError>) {
    result.expect("the process has a place for this instrument");
}

/// A detection as one that is asked for.
pub(super) fn scan() {
    leak::detect().expect("this program has the heap");
}
