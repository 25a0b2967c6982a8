//! How much is recorded, and the instruments that are installed for it.

use std::sync::atomic::{AtomicU64, Ordering};

use greenprof_runtime::hooks::{self, InstallError, Installed, Interest};
use parking_lot::Mutex;
use thiserror::Error;

use super::{
    instruments::{BLOCK, MUTEX},
    waiting,
};
use crate::records;

static BLOCK_RATE: AtomicU64 = AtomicU64::new(0);
static MUTEX_FRACTION: AtomicU64 = AtomicU64::new(0);

/// Guards the rates' changes, and holds what is installed.
static INSTALLED: Mutex<[Option<Installed>; 2]> = Mutex::new([None, None]);

/// Why a rate was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("contention cannot be watched: {0}")]
pub struct RateError(#[from] pub(super) InstallError);

/// Sets how much of the block profile is recorded: 1 every wait, 0 nothing, and otherwise about one for each so many
/// nanoseconds of waiting. Waits that are in progress when it was 0 are not recorded when they end. What was recorded
/// stays, with its weight.
///
/// The first call of this or of [`set_mutex_profile_fraction`] takes some ten milliseconds, to measure a clock.
///
/// # Errors
/// If there are too many other instruments, or the runtime was built without hooks.
///
/// # Examples
/// ```
/// use greenprof_profiler::{block_profile_rate, set_block_profile_rate};
///
/// // One for each 10 microseconds of waiting.
/// set_block_profile_rate(10_000)?;
/// assert_eq!(block_profile_rate(), 10_000);
/// # Ok::<(), greenprof_profiler::contention::RateError>(())
/// ```
pub fn set_block_profile_rate(nanoseconds: u64) -> Result<(), RateError> {
    set(&BLOCK_RATE, nanoseconds, 0, || hooks::install(&BLOCK, Interest::WAIT))?;
    if nanoseconds == 0 {
        waiting::forget();
    }
    Ok(())
}

/// The rate of the block profile; 0 if it is off.
pub fn block_profile_rate() -> u64 {
    // Relaxed, here and below: a sample may use the rate of a moment ago, and has the weight that belongs to it.
    BLOCK_RATE.load(Ordering::Relaxed)
}

/// Sets how much of the mutex profile is recorded: one of so many unlocks that end a wait; 0 nothing. What was recorded
/// stays, with its weight.
///
/// ```
/// use greenprof_profiler::{mutex_profile_fraction, set_mutex_profile_fraction};
///
/// set_mutex_profile_fraction(10)?; // one in ten
/// assert_eq!(mutex_profile_fraction(), 10);
/// # Ok::<(), greenprof_profiler::contention::RateError>(())
/// ```
///
/// # Errors
/// As [`set_block_profile_rate`].
pub fn set_mutex_profile_fraction(fraction: u64) -> Result<(), RateError> {
    set(&MUTEX_FRACTION, fraction, 1, || hooks::install(&MUTEX, Interest::LOCK_WAIT.and(Interest::CONTENTION)))
}

/// The fraction of the mutex profile; 0 if it is off.
pub fn mutex_profile_fraction() -> u64 {
    MUTEX_FRACTION.load(Ordering::Relaxed)
}

fn set(
    rate: &AtomicU64,
    value: u64,
    which: usize,
    install: impl FnOnce() -> Result<Installed, InstallError>,
) -> Result<(), RateError> {
    let mut installed = INSTALLED.lock();
    if value == 0 {
        installed[which] = None;
    } else if installed[which].is_none() {
        records::forbid_in_forked_child();
        // Before the hooks: they ask for it.
        rate.store(value, Ordering::Relaxed);
        match install() {
            Ok(hooks) => installed[which] = Some(hooks),
            Err(error) => {
                rate.store(0, Ordering::Relaxed);
                return Err(RateError(error));
            }
        }
    }
    rate.store(value, Ordering::Relaxed);
    Ok(())
}
