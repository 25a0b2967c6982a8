//! How late sleepers wake.

use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{Runtime, sleep, spawn, sync::WaitGroup};

/// How long sleepers sleep, in microseconds.
const SHORTEST: u64 = 1_000;
const LONGEST: u64 = 50_000;

/// Nanoseconds by which each of `count` tasks slept longer than asked, from just before its sleep to just after. They
/// are spawned in a burst, so waiting in the run queue is part of it. Durations are those of [`durations`].
pub fn sleepers(runtime: &Runtime, count: u64) -> Vec<u64> {
    runtime.run(move || burst(count))
}

/// Like [`sleepers`], while another task keeps a worker busy in a loop that never leaves it.
pub fn sleepers_beside_loop(runtime: &Runtime, count: u64) -> Vec<u64> {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Arc::new(AtomicBool::new(false));
    runtime.run(move || {
        let busy = spawn({
            let (stop, started) = (stop.clone(), started.clone());
            move || {
                started.store(true, Ordering::Relaxed);
                while !stop.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            }
        });
        // With one worker this would be where the program ends, if nobody took the worker from the loop.
        while !started.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1));
        }
        let late = burst(count);
        stop.store(true, Ordering::Relaxed);
        busy.join().expect("a loop does not panic");
        late
    })
}

fn burst(count: u64) -> Vec<u64> {
    let late: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let done = WaitGroup::new();
    done.add(count as usize);
    for (index, duration) in durations(count).enumerate() {
        let (late, done) = (late.clone(), done.clone());
        drop(spawn(move || {
            let start = Instant::now();
            sleep(duration);
            late[index].store(lateness(start, duration), Ordering::Relaxed);
            done.done();
        }));
    }
    done.wait();
    late.iter().map(|late| late.load(Ordering::Relaxed)).collect()
}

/// Nanoseconds since `start` beyond `duration`.
pub fn lateness(start: Instant, duration: Duration) -> u64 {
    start.elapsed().saturating_sub(duration).as_nanos() as u64
}

/// Random durations between 1 and 50 ms, the same ones in every run and in every language.
pub fn durations(count: u64) -> impl Iterator<Item = Duration> {
    let mut state = 1_u64;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros(SHORTEST + (state >> 33) % (LONGEST - SHORTEST + 1))
    })
}

/// The value that 99 of 100 do not exceed, in milliseconds.
pub fn p99_milliseconds(mut nanoseconds: Vec<u64>) -> f64 {
    nanoseconds.sort_unstable();
    let rank = (nanoseconds.len() * 99).div_ceil(100).max(1);
    nanoseconds[rank - 1] as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        assert_eq!(p99_milliseconds((1..=100).rev().map(|n| n * 1_000_000).collect()), 99.0);
        assert_eq!(p99_milliseconds((1..=1000).map(|n| n * 1_000_000).collect()), 990.0);
        assert_eq!(p99_milliseconds(vec![5_000_000]), 5.0);
    }

    #[test]
    fn durations_are_spread_over_the_range() {
        let all: Vec<_> = durations(10_000).collect();
        let (low, high) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!((1_000..1_100).contains(&low.as_micros()), "{low:?}");
        assert!((49_900..=50_000).contains(&high.as_micros()), "{high:?}");
    }
}
