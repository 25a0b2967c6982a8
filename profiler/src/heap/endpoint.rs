//! The two profiles as the port offers them: the same samples, of which one shows first what is in use, and the other
//! what was allocated.

use greenprof_runtime::heap;

use super::{MISSING, export, hook, snapshot};
use crate::{
    http::{NamedProfile, Rate},
    profile::{Profile, ProfileError, encode},
    symbolize,
    text::heap::write_heap_profile,
};

/// `heap` or `allocs`. There is no garbage collector, so `gc=1` is accepted and changes nothing.
///
/// ```
/// use greenprof_profiler::{heap::HeapProfile, http::NamedProfile};
///
/// // This example has the system's allocator, and is told what it would need.
/// let why = HeapProfile::heap().unavailable().expect("no allocations are seen");
/// assert!(why.contains("#[global_allocator]"), "{why}");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HeapProfile {
    name: &'static str,
    shown_first: &'static str,
    description: &'static str,
}

impl HeapProfile {
    /// The memory in use.
    pub const fn heap() -> Self {
        Self {
            name: "heap",
            shown_first: "inuse_space",
            description: "A sampling of memory allocations of live objects. gc=1 is accepted; there is no collector to \
                          run.",
        }
    }

    /// All memory that was ever allocated.
    pub const fn allocs() -> Self {
        Self { name: "allocs", shown_first: "alloc_space", description: "A sampling of all past memory allocations." }
    }

    fn profile(&self) -> Profile {
        export::build(&snapshot(), self.shown_first)
    }
}

impl NamedProfile for HeapProfile {
    fn name(&self) -> &str {
        self.name
    }

    fn description(&self) -> &str {
        self.description
    }

    fn count(&self) -> usize {
        hook::TABLE.count()
    }

    fn write(&self, debug: i64) -> Result<Vec<u8>, ProfileError> {
        // Before the records are gathered, as in Go.
        let stats = heap::stats();
        heap::untracked(|| {
            let mut symbolizer = symbolize::shared().lock();
            if debug == 0 {
                return encode::encode(&self.profile(), &mut symbolizer);
            }
            Ok(write_heap_profile(&snapshot(), &stats, &mut symbolizer).into_bytes())
        })
    }

    fn collect(&self) -> Option<Profile> {
        Some(heap::untracked(|| self.profile()))
    }

    fn unavailable(&self) -> Option<String> {
        (!heap::is_active()).then(|| MISSING.to_owned())
    }
}

/// The mean number of bytes between two samples, as a number that can be set over the port.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapRate;

impl Rate for HeapRate {
    fn name(&self) -> &str {
        "heap_bytes"
    }

    fn description(&self) -> &str {
        "mean number of allocated bytes between two samples; 1 records every allocation, 0 none"
    }

    fn get(&self) -> u64 {
        super::rate()
    }

    fn check(&self, _value: u64) -> Result<(), String> {
        if heap::is_active() { Ok(()) } else { Err(MISSING.to_owned()) }
    }

    fn set(&self, value: u64) -> Result<(), String> {
        super::set_rate(value);
        Ok(())
    }
}
