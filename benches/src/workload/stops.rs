//! Stopping the world while it works.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::{
    Runtime, task,
    world::{self, stop::StopError},
};

use crate::{
    statistics::quantile_of,
    values::{P50, P99, Values},
};

/// Threads that sleep while the others are stopped.
const SLEEPERS: usize = 8;
/// Between two stops, so that the world gets on.
const PAUSE: Duration = Duration::from_micros(200);

/// An operation is one stop, with one task for each worker that allocates all the time, and some sleeping threads. Gives
/// the median and the 99th percentile of the milliseconds until all were stopped.
///
/// # Errors
/// If the world cannot be stopped at all.
pub fn stops(runtime: &Runtime, operations: u64) -> Result<Values, StopError> {
    let end = Arc::new(AtomicBool::new(false));
    let workers = runtime.handle().workers();
    let times = thread::scope(|scope| {
        for _ in 0..SLEEPERS {
            // Relaxed: nothing else depends on it.
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5))
                }
            });
        }
        let stopper = scope.spawn(|| {
            let times: Result<Vec<f64>, StopError> = (0..operations)
                .map(|_| {
                    thread::sleep(PAUSE);
                    let pause = world::stop(world::Patience::default(), |_| ())?.pause;
                    Ok(pause.stopping.as_secs_f64() * 1e3)
                })
                .collect();
            end.store(true, Ordering::Relaxed);
            times
        });
        let busy = end.clone();
        runtime.run(move || {
            task::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|| {
                        while !busy.load(Ordering::Relaxed) {
                            black_box(vec![0_u8; 500]);
                        }
                    });
                }
            });
        });
        stopper.join().expect("the stopping thread does not panic")
    })?;
    Ok([(P50, 0.5), (P99, 0.99)].map(|(name, quantile)| (name.to_owned(), quantile_of(&times, quantile))).into())
}
