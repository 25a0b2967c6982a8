//! The population: tasks that wait on channels, some of them for ever, beside a heap that is full of pointers.

#![expect(clippy::vec_box, reason = "each node is to be a block of its own")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use greenprof_runtime::{
    Runtime, spawn,
    sync::{Chan, WaitGroup},
    world::{self, TaskState},
};

/// What the leaked tasks wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// Each a channel of its own.
    Own,
    /// All one channel.
    Shared,
}

/// A block of pointers to others.
struct Node {
    links: [*const Node; LINKS],
}

const LINKS: usize = 8;
const PAGE: usize = 4096;

/// Keeps the live tasks live, and the heap full.
pub(crate) struct Crowd {
    runtime_id: u32,
    tasks: usize,
    channels: Vec<Chan<u8>>,
    nodes: Vec<Box<Node>>,
}

impl Crowd {
    /// Returns when all tasks wait.
    pub(crate) fn new(runtime: &Runtime, shape: Shape, tasks: usize, leaked: usize, megabytes: usize) -> Self {
        let arrived = Arc::new(WaitGroup::new());
        runtime.run(|| forget(shape, leaked, &arrived));
        let channels = runtime.run(|| keep(tasks - leaked, &arrived));
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
    pub(crate) fn write_to_each_page(&self) -> Duration {
        let began = Instant::now();
        for node in self.nodes.iter().step_by(PAGE / size_of::<Node>()) {
            let link = &raw const node.links[0];
            // SAFETY: only this thread uses the nodes, and the word stays what it is.
            unsafe { link.cast_mut().write_volatile(link.read_volatile()) };
        }
        began.elapsed()
    }

    /// That everything is still there.
    pub(crate) fn check(&self) {
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
            Shape::Own => wait_on(&Chan::new(), arrived),
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
