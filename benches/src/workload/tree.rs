//! Skynet: a tree of tasks in which every inner one spawns ten and adds up what they send.

use std::time::{Duration, Instant};

use greenprof_runtime::{Runtime, spawn, sync::Chan};

/// Children of an inner task.
pub const CHILDREN: u64 = 10;

/// An operation is a leaf: a task that sends its number to its parent over a rendezvous channel. `leaves` is a power of
/// ten; with the inner ones there are a ninth more tasks.
pub fn skynet(runtime: &Runtime, leaves: u64) -> Duration {
    let (sum, elapsed) = runtime.run(move || {
        let start = Instant::now();
        let up = Chan::new();
        drop(spawn({
            let up = up.clone();
            move || node(&up, 0, leaves)
        }));
        (up.recv(), start.elapsed())
    });
    assert_eq!(sum, Some(sum_of(leaves)), "every leaf is counted once");
    elapsed
}

fn node(up: &Chan<u64>, first: u64, leaves: u64) {
    let sum = if leaves == 1 {
        first
    } else {
        let below = Chan::new();
        for child in 0..CHILDREN {
            let below = below.clone();
            let share = leaves / CHILDREN;
            drop(spawn(move || node(&below, first + child * share, share)));
        }
        (0..CHILDREN).map(|_| below.recv().expect("nobody closes it")).sum()
    };
    up.send(sum).expect("nobody closes it");
}

/// What the root gets: the leaves are numbered from 0.
pub fn sum_of(leaves: u64) -> u64 {
    leaves * (leaves - 1) / 2
}
