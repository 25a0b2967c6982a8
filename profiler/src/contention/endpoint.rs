//! The profiles as the port offers them.

use std::sync::Arc;

use greenprof_runtime::heap;

use super::{
    export::{self, Snapshot},
    instruments::{BLOCK, MUTEX},
};
use crate::{
    http::{NamedProfile, Query},
    profile::{Profile, ProfileError, encode},
    symbolize,
    text::contention::{Header, write_contention_profile},
};

/// `block` or `mutex`. The latter has two sides: `side=waiter` shows who has waited, where it otherwise is who has
/// unlocked.
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
