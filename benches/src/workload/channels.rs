//! Values through buffered channels.

use std::time::{Duration, Instant};

use greenprof_runtime::{Runtime, select, spawn, sync::Chan};

use super::{finished, share};

/// Values that a channel holds.
pub const CAPACITY: usize = 128;

/// Tasks at each end of a channel with several.
pub const ENDS: u64 = 4;

/// An operation is a value that one task sends and another receives, over a channel of [`CAPACITY`].
pub fn spsc(runtime: &Runtime, operations: u64) -> Duration {
    many(runtime, 1, operations)
}

/// An operation is a value that one of [`ENDS`] tasks sends and one of [`ENDS`] others receives, over one channel of
/// [`CAPACITY`].
pub fn mpmc(runtime: &Runtime, operations: u64) -> Duration {
    many(runtime, ENDS, operations)
}

fn many(runtime: &Runtime, ends: u64, operations: u64) -> Duration {
    runtime.run(move || {
        let channel = Chan::with_capacity(CAPACITY);
        let start = Instant::now();
        let consumers: Vec<_> = (0..ends)
            .map(|_| {
                let channel = channel.clone();
                spawn(move || channel.iter().count() as u64)
            })
            .collect();
        let producers: Vec<_> = (0..ends)
            .map(|index| {
                let channel = channel.clone();
                let values = share(operations, ends, index);
                spawn(move || (0..values).for_each(|value| channel.send(value).expect("closed only below")))
            })
            .collect();
        producers.into_iter().for_each(finished);
        channel.close();
        let received: u64 = consumers.into_iter().map(|task| task.join().expect("a consumer does not panic")).sum();
        let elapsed = start.elapsed();
        assert_eq!(received, operations, "what is sent is received");
        elapsed
    })
}

/// An operation is a value that one of two tasks sends on a channel of its own, of [`CAPACITY`], and a third receives by
/// selecting over both channels.
pub fn select_two(runtime: &Runtime, operations: u64) -> Duration {
    runtime.run(move || {
        let start = Instant::now();
        let [left, right] = [0, 1].map(|index| {
            let channel = Chan::with_capacity(CAPACITY);
            let values = share(operations, 2, index);
            drop(spawn({
                let channel = channel.clone();
                move || (0..values).for_each(|value| channel.send(value).expect("nobody closes it"))
            }));
            channel
        });
        for _ in 0..operations {
            let value = select! {
                recv(left) -> value => value,
                recv(right) -> value => value,
            };
            value.expect("nobody closes the channels");
        }
        start.elapsed()
    })
}
