//! The profiles as the port offers them.

use std::sync::Arc;

use greenprof_runtime::heap;

use super::{
    export::{self, Snapshot},
    instruments::{BLOCK, MUTEX},
    rates::{
        RateError, block_profile_rate, mutex_profile_fraction, set_block_profile_rate, set_mutex_profile_fraction,
    },
};
use crate::{
    http::{NamedProfile, Query, Rate},
    profile::{Profile, ProfileError, encode},
    symbolize,
    text::contention::{Header, write_contention_profile},
};

/// `block` or `mutex`. The latter has two sides: `side=waiter` shows who has waited, where it otherwise is who has
/// unlocked.
///
/// ```
/// use greenprof_profiler::{contention::ContentionProfile, http::NamedProfile};
///
/// let text = String::from_utf8(ContentionProfile::mutex().write(1)?)?;
/// assert!(text.starts_with("--- mutex:\n"), "{text}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ContentionProfile(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Unlockers,
    Waiters,
}

impl ContentionProfile {
    /// Who has waited, and who waits.
    pub const fn block() -> Self {
        Self(Kind::Block)
    }

    /// Who let others wait for a lock.
    pub const fn mutex() -> Self {
        Self(Kind::Unlockers)
    }

    fn snapshot(self) -> Snapshot {
        match self.0 {
            Kind::Block => export::block(),
            Kind::Unlockers => export::mutex(),
            Kind::Waiters => export::mutex_waiters(),
        }
    }
}

impl NamedProfile for ContentionProfile {
    fn name(&self) -> &str {
        if self.0 == Kind::Block { "block" } else { "mutex" }
    }

    fn description(&self) -> &str {
        match self.0 {
            Kind::Block => {
                "Stack traces that led to waiting on synchronization primitives; those that wait now have \
                 state=waiting. Off until a rate is set."
            }
            _ => {
                "Stack traces of holders of contended mutexes; side=waiter shows who waited for them. Off until a \
                 fraction is set."
            }
        }
    }

    fn count(&self) -> usize {
        let samples = match self.0 {
            Kind::Block => &BLOCK.waiters,
            Kind::Unlockers => &MUTEX.unlockers,
            Kind::Waiters => &MUTEX.waiters,
        };
        samples.table.count()
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        heap::untracked(|| {
            let snapshot = self.snapshot();
            let mut symbolizer = symbolize::shared().lock();
            if debug == 0 {
                return encode::encode(&export::profile(&snapshot), &mut symbolizer);
            }
            let header = if self.0 == Kind::Block { Header::Block } else { Header::Mutex };
            Ok(write_contention_profile(header, &snapshot, &mut symbolizer).into_bytes())
        })
    }

    fn collect(&self) -> Option<Profile> {
        Some(heap::untracked(|| export::profile(&self.snapshot())))
    }

    fn view(&self, query: &Query) -> Result<Option<Arc<dyn NamedProfile>>, String> {
        match (self.0, query.get("side")) {
            (Kind::Block, _) | (_, None | Some("unlocker")) => Ok(None),
            (_, Some("waiter")) => Ok(Some(Arc::new(Self(Kind::Waiters)))),
            _ => Err("invalid value for \"side\" - must be \"unlocker\" or \"waiter\"".to_owned()),
        }
    }
}

/// How much of the block profile is recorded, as the port sets it.
pub(crate) struct BlockRate;

impl Rate for BlockRate {
    fn name(&self) -> &str {
        "block_nanoseconds"
    }

    fn description(&self) -> &str {
        "one wait is recorded for about so many nanoseconds of waiting; 1 records every wait, 0 none"
    }

    fn get(&self) -> u64 {
        block_profile_rate()
    }

    fn check(&self, _value: u64) -> Result<(), String> {
        Ok(())
    }

    fn set(&self, value: u64) -> Result<(), String> {
        set_block_profile_rate(value).map_err(|RateError(reason)| reason.to_string())
    }
}

/// How much of the mutex profile is recorded, as the port sets it.
pub(crate) struct MutexRate;

impl Rate for MutexRate {
    fn name(&self) -> &str {
        "mutex_fraction"
    }

    fn description(&self) -> &str {
        "one of so many unlocks that others waited for is recorded; 1 records every one, 0 none"
    }

    fn get(&self) -> u64 {
        mutex_profile_fraction()
    }

    fn check(&self, _value: u64) -> Result<(), String> {
        Ok(())
    }

    fn set(&self, value: u64) -> Result<(), String> {
        set_mutex_profile_fraction(value).map_err(|RateError(reason)| reason.to_string())
    }
}
