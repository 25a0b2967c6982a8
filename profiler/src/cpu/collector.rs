//! The thread that runs while a CPU profile is taken: it finds threads, arms their timers, and sums their samples.

use std::{
    collections::HashMap,
    io,
    sync::atomic::Ordering,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use greenprof_runtime::{
    hooks::{self, Instrument, Interest, WorkerThread},
    labels::LabelSet,
    world,
};
use parking_lot::Mutex;

use super::{
    StartError,
    clock::{Armed, Source},
    slot::Lease,
    threads,
};
use crate::{profile::wall_clock_nanos, random::Random, unwind};
use greenprof_runtime::heap;

/// Between two rounds: short enough that a ring cannot fill up at any rate, and that a new thread is soon found.
const ROUND: Duration = Duration::from_millis(20);

/// Distinct stacks that are kept. The weight of further ones is counted under a stack of its own.
const MAX_STACKS: usize = 1 << 16;

/// How often a thread is tried to be sampled before it counts as one that cannot be.
const TRIES: u32 = 3;

/// Wakes the collector when a worker starts. Guards that there is one collector at a time.
static CURRENT: Mutex<Option<mpsc::Sender<Message>>> = Mutex::new(None);

enum Message {
    Rescan,
    Stop,
}

/// Tells the collector of new workers, so that they are sampled from their start.
struct NewWorkers;

impl Instrument for NewWorkers {
    fn worker_started(&self, _: &'static WorkerThread) {
        if let Some(collector) = &*CURRENT.lock() {
            let _ = collector.send(Message::Rescan);
        }
    }
}

static NEW_WORKERS: NewWorkers = NewWorkers;

/// Handle to the collecting thread. Dropping it stops the sampling.
pub(super) struct Collector {
    messages: mpsc::Sender<Message>,
    thread: Option<JoinHandle<Collected>>,
    _hook: Option<hooks::Installed>,
}

/// What was collected.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) hz: u32,
    pub(super) source: Source,
    pub(super) time_nanos: i64,
    pub(super) duration: Duration,
    pub(super) process_cpu: Duration,
    /// Weight and number of samples by stack and labels.
    pub(super) stacks: HashMap<Key, Sum>,
    /// Weight for which a thread's ring had no room.
    pub(super) lost: u64,
    /// Weight of samples beyond `MAX_STACKS` distinct stacks.
    pub(super) overflowed: u64,
    /// Periods that perf events could not sample, because the thread was in the kernel.
    pub(super) in_kernel: u64,
    /// Threads that have a timer although perf events are used.
    pub(super) on_timers: u64,
    pub(super) threads: u64,
    /// Threads without a timer: all slots taken, or the system refused.
    pub(super) unsampled_threads: u64,
}

/// Samples with equal keys are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) stack: Vec<usize>,
    pub(super) labels: LabelSet,
    pub(super) on_task: bool,
    pub(super) broken: bool,
    pub(super) cut: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) weight: u64,
    pub(super) samples: u64,
}

impl Collector {
    pub(super) fn start(hz: u32, source: Source) -> Result<Self, StartError> {
        let mut current = CURRENT.lock();
        if current.is_some() {
            return Err(StartError::Busy);
        }
        let (messages, inbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("greenprof-cpu".into())
            .spawn(move || heap::untracked(|| collect(hz, source, &inbox, &ready)))
            .map_err(|error| StartError::Unavailable(format!("no thread for the CPU profiler: {error}")))?;
        // All threads that exist now are sampled when this returns.
        match started.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(StartError::Unavailable(error)),
            Err(_) => return Err(StartError::Unavailable("the CPU profiler's thread has ended".into())),
        }
        *current = Some(messages.clone());
        drop(current);
        let hook = hooks::install(&NEW_WORKERS, Interest::WORKER).ok();
        Ok(Self { messages, thread: Some(thread), _hook: hook })
    }

    pub(super) fn stop(mut self) -> Collected {
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<Collected> {
        let thread = self.thread.take()?;
        let _ = self.messages.send(Message::Stop);
        let collected = thread.join().ok();
        // Only now may the next profile start: the timers are gone and the rings are free.
        *CURRENT.lock() = None;
        collected
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

/// A thread being sampled.
struct Sampled {
    lease: Lease,
    clock: Armed,
}

struct State {
    collected: Collected,
    sampled: HashMap<i32, Sampled>,
    /// Threads that could not be sampled, and how often that was tried. One that is about to end is refused once.
    refused: HashMap<i32, u32>,
    stack: Vec<usize>,
    random: Random,
}

fn collect(
    hz: u32,
    source: Source,
    inbox: &mpsc::Receiver<Message>,
    ready: &mpsc::Sender<Result<(), String>>,
) -> Collected {
    // What this costs is not the program's, the first time.
    unwind::refresh();
    let start = Instant::now();
    let cpu_before = threads::process_cpu();
    let mut state = State {
        collected: Collected { hz, source, time_nanos: wall_clock_nanos(), ..Collected::default() },
        sampled: HashMap::new(),
        refused: HashMap::new(),
        stack: Vec::new(),
        random: Random::new(),
    };
    if let Err(error) = state.rescan() {
        let _ = ready.send(Err(format!("the threads of this process cannot be listed: {error}")));
        return state.collected;
    }
    let _ = ready.send(Ok(()));
    // Until it is told to stop, or nobody is left to tell it.
    while let Err(RecvTimeoutError::Timeout) | Ok(Message::Rescan) = inbox.recv_timeout(ROUND) {
        state.drain();
        // A list that cannot be read once is read in the next round; what is missed is CPU that the summary shows.
        let _ = state.rescan();
    }
    state.collected.duration = start.elapsed();
    state.collected.process_cpu = threads::process_cpu().saturating_sub(cpu_before);
    let ids: Vec<_> = state.sampled.keys().copied().collect();
    ids.into_iter().for_each(|thread| state.release(thread));
    state.collected
}

impl State {
    /// Samples the threads that are new and lets go of those that have ended.
    fn rescan(&mut self) -> io::Result<()> {
        unwind::refresh();
        let ids = threads::ids()?;
        let ended: Vec<_> = self.sampled.keys().filter(|thread| !ids.contains(thread)).copied().collect();
        ended.into_iter().for_each(|thread| self.release(thread));
        self.refused.retain(|thread, _| ids.contains(thread));
        for thread in ids {
            if !self.sampled.contains_key(&thread) && self.refused.get(&thread).is_none_or(|tries| *tries < TRIES) {
                self.sample(thread);
            }
        }
        // A thread is found a moment before it says that it is a worker.
        for worker in world::workers() {
            if let Some(Sampled { lease, .. }) = self.sampled.get(&worker.thread_id())
                && lease.slot().worker().is_none()
            {
                lease.describe(Some(worker), worker.stack());
            }
        }
        // Nor could a thread tell where its stack is while it got no processor; the main thread's grows.
        for Sampled { lease, .. } in self.sampled.values() {
            if lease.slot().worker().is_none()
                && let Some((sp, thread_pointer)) = lease.slot().take_stray()
            {
                lease.describe(None, threads::stack_around(sp, thread_pointer));
            }
        }
        Ok(())
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1) / self.collected.hz
    }

    fn sample(&mut self, thread: i32) {
        let period = self.period();
        // Never zero, which would disarm the timer.
        let first = Duration::from_nanos(1 + self.random.next() % period.as_nanos() as u64);
        let worker = threads::worker(thread);
        let stack = worker.map_or_else(|| threads::foreign_stack(thread), WorkerThread::stack);
        let source = self.collected.source;
        let sampled = Lease::take(thread, worker, stack).and_then(|lease| {
            if source == Source::PerfEvents {
                lease.count_periods(threads::cpu_time(thread).ok()?, period);
            }
            let clock = Armed::new(source, thread, lease.number(), first, period).ok()?;
            Some(Sampled { lease, clock })
        });
        match sampled {
            Some(sampled) => {
                if source != Source::Timers && matches!(sampled.clock, Armed::Timer(_)) {
                    self.collected.on_timers += 1;
                }
                self.sampled.insert(thread, sampled);
                self.collected.threads += 1;
            }
            None => {
                let tries = self.refused.entry(thread).or_default();
                *tries += 1;
                if *tries == TRIES {
                    self.collected.unsampled_threads += 1;
                }
            }
        }
    }

    fn release(&mut self, thread: i32) {
        let Some(Sampled { lease, clock }) = self.sampled.remove(&thread) else { return };
        if self.collected.source == Source::PerfEventsInUserMode
            && let Armed::Event(event) = &clock
        {
            let periods = event.counted().as_nanos() / self.period().as_nanos();
            let given = lease.slot().given.load(Ordering::Relaxed);
            self.collected.in_kernel += u64::try_from(periods).unwrap_or_default().saturating_sub(given);
        }
        drop(clock);
        self.drain_one(&lease);
    }

    fn drain(&mut self) {
        let sampled = std::mem::take(&mut self.sampled);
        sampled.values().for_each(|sampled| self.drain_one(&sampled.lease));
        self.sampled = sampled;
    }

    fn drain_one(&mut self, lease: &Lease) {
        let slot = lease.slot();
        self.collected.lost += slot.lost.swap(0, Ordering::Relaxed);
        while let Some(header) = slot.ring.read(&mut self.stack) {
            let key = Key {
                stack: self.stack.clone(),
                labels: header.labels,
                on_task: header.on_task,
                broken: header.broken,
                cut: header.cut,
            };
            let stacks = &mut self.collected.stacks;
            if stacks.len() >= MAX_STACKS && !stacks.contains_key(&key) {
                self.collected.overflowed += u64::from(header.weight);
                continue;
            }
            let sum = stacks.entry(key).or_default();
            sum.weight += u64::from(header.weight);
            sum.samples += 1;
        }
    }
}
