//! Waiting for time to pass, and doing things when it has.
//!
//! ```
//! use std::time::Duration;
//! use greenprof_runtime::{Runtime, time};
//!
//! Runtime::builder().workers(1).build()?.run(|| {
//!     let timer = time::Timer::new(Duration::from_millis(5));
//!     let fired_at = timer.chan().recv().expect("nobody closes the channel");
//!     assert!(!timer.stop(), "it has fired, and its value was received");
//!
//!     let ticker = time::Ticker::new(Duration::from_millis(1));
//!     let ticked_at = ticker.chan().recv().expect("nobody closes the channel");
//!     assert!(ticked_at > fired_at);
//! });
//! # Ok::<(), greenprof_runtime::BuildError>(())
//! ```
//!
//! A timer belongs to the runtime of the task that made it, and never fires after that runtime has been dropped. Timers
//! made by plain OS threads outside any runtime live as long as the process.

mod func;
#[cfg(not(loom))]
pub(crate) mod roll;
mod timer;
mod timers;
mod wheel;

use std::time::Duration;

pub use func::{FuncTimer, after_func};
pub use timer::{Ticker, Timer, after};
pub(crate) use timers::{Action, Alarm, TimerId, Timers};

use crate::{
    hooks,
    scheduler::current_worker,
    sys::clock,
    task::{WaitReason, control::On, parker::Parker},
};

/// Waits for at least `duration`. A task leaves its worker to others meanwhile; a plain OS thread blocks.
///
/// A task that is woken has to wait for a worker like any other, so the wait is longer on a busy runtime.
///
/// ```
/// use std::time::{Duration, Instant};
/// use greenprof_runtime::{Runtime, sleep, spawn};
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let began = Instant::now();
///     let tasks: Vec<_> = (0..100).map(|_| spawn(|| sleep(Duration::from_millis(20)))).collect();
///     tasks.into_iter().for_each(|task| task.join().unwrap());
///     // All on one worker, at the same time: one after the other it would be two seconds.
///     assert!(began.elapsed() >= Duration::from_millis(20) && began.elapsed() < Duration::from_secs(2));
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub fn sleep(duration: Duration) {
    let worker = current_worker().filter(|worker| worker.task().is_some());
    let Some(worker) = worker else {
        return std::thread::sleep(duration);
    };
    if duration.is_zero() {
        return;
    }
    let parker = Parker::current();
    let deadline = clock::after(duration);
    // If the runtime has shut down, the task is abandoned in this wait, like all others.
    let _ = worker.shared().timers.arm(deadline, Action::Unpark(parker));
    let wait = hooks::wait_begin(parker, WaitReason::Sleep);
    // Parks in any case, so that a loop of short sleeps lets others run; the timer will wake it.
    loop {
        parker.park(WaitReason::Sleep, On::NOTHING);
        if clock::now() >= deadline {
            break;
        }
    }
    hooks::wait_end(wait, WaitReason::Sleep);
}
