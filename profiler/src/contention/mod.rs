//! Contention profiles: who waits, where and for how long (`block`), and whose unlocks others waited for (`mutex`).
//!
//! Both are off until a rate is set. The block profile has every wait for a primitive that the runtime offers: channel,
//! select, lock, condition variable, wait group, once, semaphore, join. It is charged to the stack of who has waited, of
//! a task or a plain thread, with its labels, when the wait ends. Sleeping is no contention. The mutex profile has the
//! unlocks, charged to the stack of who unlocks, with the delay that the hold has caused to all who waited for it:
//! [`Instrument::unlocked`](greenprof_runtime::hooks::Instrument::unlocked) says which nanoseconds these are. The locks
//! that the runtime uses inside are in neither.
//!
//! # Waits that have not ended
//! A program that hangs shows where: a snapshot of the block profile has, beside the waits that have ended, those that
//! are in progress, with the label `state=waiting`. Go shows nothing of them. All that are there at that moment are
//! counted, each once and with the time since it began, so they need no sampling. Tasks are found whenever they began to
//! wait, and know since when to some milliseconds (the kernel's tick); threads that run no task are found if the rate
//! was set when they began. When such a wait ends it moves to the others, so that the difference of two snapshots
//! (`seconds=`) has just the time that was waited in between, if the rate was set when it began.
//!
//! # What the numbers mean
//! A wait of `d` nanoseconds at a block rate of `r` is a sample with the probability `min(1, d / r)`, and stands for the
//! inverse of that: a sample with `d < r` adds `r / d` contentions and `r` nanoseconds, any other 1 and `d`. An unlock at
//! a fraction of `n` is a sample with the probability `1 / n`, and adds `n` contentions and `n` times its delay. The
//! weights are fixed when the sample is taken, so the rates may change. The figures are unbiased estimates, each with
//! its variance, the sum of `w (w - 1) v^2` over the samples' weights `w` and values `v` (Horvitz and Thompson, 1952).
//!
//! # Costs
//! Nothing that can be measured while the rates are 0. At a block rate of 1, some 50 ns for a wait; at higher rates, some
//! 25 ns for one that is not sampled. Records stay for ever, up to 65 536 a profile; what is lost beyond that is said in
//! the profile's comments.

mod endpoint;
mod export;
mod instruments;
mod rates;
mod sums;
mod waiting;

pub use endpoint::ContentionProfile;
pub(crate) use endpoint::{BlockRate, MutexRate};
pub(crate) use export::labels;
pub use export::{Estimate, Record, Snapshot, block, mutex, mutex_waiters, profile};
pub(crate) use export::{block_totals, mutex_totals};
pub(crate) use instruments::{block_lost, mutex_lost};
pub use rates::{
    RateError, block_profile_rate, mutex_profile_fraction, set_block_profile_rate, set_mutex_profile_fraction,
};
