//! Leak detections among many tasks that wait on channels, some of them for ever, beside a heap that is full of pointers.

#![expect(clippy::vec_box, reason = "each node is to be a block of its own")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use greenprof_profiler::{
    http::NamedProfile,
    leak::{self, LeakProfile, Mode, Options, Report},
};
use greenprof_runtime::{
    Runtime, spawn,
    sync::{Chan, WaitGroup},
    world::{self, Patience, TaskState},
};

use crate::{
    case::Effort,
    statistics::Summary,
    values::{FOUND, SCAN, STOP, STOP_FORK, Values},
};

/// What the tasks wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Each leaked one a channel of its own.
    Own,
    /// All leaked ones one channel.
    Shared,
    /// Each the channel that the one before it has a handle of, and the first one that which the thread has: none is leaked but one
    /// beside them.
    Chain,
}

/// Megabytes of blocks that are full of pointers, as in Go's part.
pub const MEGABYTES: usize = 109;
/// Bytes of a task's stack.
pub const STACK: usize = 64 << 10;

/// A block of pointers to others.
struct Node {
    links: [*const Node; LINKS],
}

const LINKS: usize = 8;
const PAGE: usize = 4096;

/// Keeps the live tasks live, and the heap full.
pub struct LeakyCrowd {
    runtime_id: u32,
    tasks: usize,
    channels: Vec<Chan<u8>>,
    nodes: Vec<Box<Node>>,
}

impl LeakyCrowd {
    /// Returns when all tasks wait.
    pub fn new(runtime: &Runtime, shape: Shape, tasks: usize, leaked: usize, megabytes: usize) -> Self {
        let arrived = Arc::new(WaitGroup::new());
        runtime.run(|| forget(shape, leaked, &arrived));
        let channels = runtime.run(|| match shape {
            Shape::Own | Shape::Shared => keep(tasks - leaked, &arrived),
            Shape::Chain => vec![link(tasks - leaked, &arrived)],
        });
        let crowd = Self {
            runtime_id: runtime.handle().runtime_id(),
            tasks,
            channels,
            nodes: fill((megabytes << 20) / size_of::<Node>()),
        };
        while crowd.waiting() < tasks {
            std::thread::sleep(Duration::from_millis(1));
        }
        crowd
    }

    fn waiting(&self) -> usize {
        let tasks = world::tasks(0);
        let own = tasks.iter().filter(|task| task.runtime_id == self.runtime_id);
        own.filter(|task| matches!(task.state, TaskState::Waiting(_))).count()
    }

    /// Writes a word of every page of the nodes, as a program does that goes on with its work.
    pub fn write_to_each_page(&self) -> Duration {
        let began = Instant::now();
        for node in self.nodes.iter().step_by(PAGE / size_of::<Node>()) {
            let link = &raw const node.links[0];
            // SAFETY: only this thread uses the nodes, and the word stays what it is.
            unsafe { link.cast_mut().write_volatile(link.read_volatile()) };
        }
        began.elapsed()
    }

    /// That everything is still there.
    pub fn check(&self) {
        assert_eq!(self.waiting(), self.tasks, "all still wait");
        black_box((&self.channels, &self.nodes));
    }
}

#[inline(never)]
fn wait_on(channel: &Chan<u8>, arrived: &Arc<WaitGroup>) {
    let (channel, arrived) = (channel.clone(), arrived.clone());
    arrived.add(1);
    let _ = spawn(move || {
        arrived.done();
        drop(arrived);
        channel.recv()
    });
}

#[inline(never)]
fn forget(shape: Shape, leaked: usize, arrived: &Arc<WaitGroup>) {
    let shared = Chan::new();
    for _ in 0..leaked {
        match shape {
            Shape::Own | Shape::Chain => wait_on(&Chan::new(), arrived),
            Shape::Shared => wait_on(&shared, arrived),
        }
    }
    drop(shared);
    arrived.wait();
}

#[inline(never)]
fn keep(live: usize, arrived: &Arc<WaitGroup>) -> Vec<Chan<u8>> {
    let channels: Vec<Chan<u8>> = (0..live).map(|_| Chan::new()).collect();
    channels.iter().for_each(|channel| wait_on(channel, arrived));
    arrived.wait();
    channels
}

/// Gives the channel that the first of a chain waits on.
#[inline(never)]
fn link(length: usize, arrived: &Arc<WaitGroup>) -> Chan<u8> {
    let first = Chan::new();
    let mut channel = first.clone();
    for _ in 0..length {
        let next = Chan::new();
        wait_with(channel, next.clone(), arrived);
        channel = next;
    }
    arrived.wait();
    first
}

#[inline(never)]
fn wait_with(channel: Chan<u8>, next: Chan<u8>, arrived: &Arc<WaitGroup>) {
    let arrived = arrived.clone();
    arrived.add(1);
    let _ = spawn(move || {
        arrived.done();
        drop(arrived);
        let _ = channel.recv();
        let _ = next.send(1);
    });
}

/// Nodes that point to each other at random.
fn fill(count: usize) -> Vec<Box<Node>> {
    let mut nodes: Vec<Box<Node>> = (0..count).map(|_| Box::new(Node { links: [std::ptr::null(); LINKS] })).collect();
    let places: Vec<*const Node> = nodes.iter().map(|node| &raw const **node).collect();
    let mut state = 1_u64;
    for link in nodes.iter_mut().flat_map(|node| &mut node.links) {
        // The constants are Knuth's, of MMIX.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *link = places[(state >> 33) as usize % places.len()];
    }
    nodes
}

/// Finds a tenth of the tasks leaked, or in a chain one beside them. Gives milliseconds, but for how many were found.
///
/// # Errors
/// If there is no complete answer.
pub fn detections(shape: Shape, workers: usize, effort: Effort) -> anyhow::Result<Values> {
    let runtime = Runtime::builder().workers(workers).stack_size(STACK).build().context("no runtime")?;
    let tasks = effort.operations as usize;
    let (leaked, megabytes) = match shape {
        Shape::Own | Shape::Shared => (tasks / 10, MEGABYTES),
        Shape::Chain => (1, 0),
    };
    let crowd = LeakyCrowd::new(&runtime, shape, tasks, leaked, megabytes);
    let mut samples: [Vec<f64>; 4] = Default::default();
    detect(Mode::Stop)?;
    for _ in 0..effort.batches {
        // The whole that Go does, too: to find them, and to write the profile.
        let began = Instant::now();
        black_box(LeakProfile.write(0).context("no profile")?);
        samples[0].push(milliseconds(began.elapsed()));
        let stopped = detect(Mode::Stop)?;
        samples[1].push(stopped.leaked().len() as f64);
        samples[2].push(milliseconds(stopped.cost.stopped));
        let report = detect(Mode::Fork)?;
        if let Some(reason) = report.not_copied {
            bail!("no copy of the process: {reason}");
        }
        if report.leaked().len() as f64 != samples[1][samples[1].len() - 1] {
            bail!(
                "{} were found in the copy, and {} in the process; {}",
                report.leaked().len(),
                stopped.leaked().len(),
                why_alive(&stopped)?
            );
        }
        samples[3].push(milliseconds(report.cost.stopped));
    }
    crowd.check();
    let names = [SCAN, FOUND, STOP, STOP_FORK];
    Ok(names.into_iter().zip(samples).map(|(name, values)| (name.to_owned(), Summary::of(&values).median)).collect())
}

/// Why the first of the leaked tasks is alive now, if it is.
fn why_alive(report: &Report) -> anyhow::Result<String> {
    let Some(leak) = report.leaked().first() else { return Ok("there is none to ask about".to_owned()) };
    let why = leak::why_alive(leak.task.id)?;
    Ok(why.map_or("now it is leaked".to_owned(), |why| why.explain().join(" <- ")))
}

/// Detects once, with more patience than usual: threads may be many, and the machine busy.
///
/// # Errors
/// If there is no complete answer.
pub fn detect(mode: Mode) -> anyhow::Result<Box<Report>> {
    let mut options = Options::default();
    options.mode = mode;
    options.patience = Patience { deadline: Duration::from_secs(5), attempts: 3 };
    let report = leak::detect_with(&options)?;
    if let Some(reason) = report.incomplete() {
        bail!("the scan was not complete: {reason}");
    }
    Ok(report)
}

/// A duration in the unit of these figures.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
