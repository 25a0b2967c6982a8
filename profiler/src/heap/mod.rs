//! The heap profiles: where memory was allocated, how much, for whom, and how much of it is still in use.
//!
//! The program's allocator has to be [`greenprof_runtime::heap::Heap`]. It chooses which allocations are samples
//! ([`sampling`]); what is recorded of them is here. A sample's stack is walked by frame pointers, and it carries the
//! labels of the task that allocated. When the block is freed, wherever that happens, it is found by its address. One
//! table so gives all four of Go's numbers: objects and bytes, allocated since the start and in use now.
//!
//! # What the numbers mean
//! - A sample stands for `1 / (1 - exp(-requested / rate))` allocations, fixed when it is taken. So the figures are
//!   unbiased estimates, also if the rate changes, and a rate of 1 gives exact ones. Bytes are those of blocks.
//! - Each figure comes with its variance and its 95 % interval ([`Estimate`]). The samples are independent, so the
//!   variances of call sites add up.
//! - Nothing was recorded before [`start`]. What the runtime and the profilers use themselves is not in the profile.
//! - There is no garbage collector: what is in use is what was not freed, at this moment, and `gc=1` changes nothing.
//!
//! # Costs
//! With the default mean of 512 KiB, some 400 ns for each sample. With a rate of 1, some 100 ns for an allocation and
//! its free, and 8 bytes for each block. Records stay for ever, up to a quarter of a million; samples
//! beyond that are counted in the profile's comments.

mod endpoint;
mod export;
mod hook;
mod weight;

use std::sync::{
    Once,
    atomic::{AtomicBool, Ordering},
};

use greenprof_runtime::heap::sampling;

pub use endpoint::{HeapProfile, HeapRate};
pub use export::{Estimate, Record, Snapshot, profile, snapshot};

/// What a program without the allocator is told.
pub(crate) const MISSING: &str = "this program has another allocator: a heap profile needs \
    `#[global_allocator] static HEAP: greenprof_runtime::heap::Heap = greenprof_runtime::heap::Heap::new();` in it";

/// Whether [`set_rate`] was called.
static RATE_IS_SET: AtomicBool = AtomicBool::new(false);

/// Samples that could not be recorded.
pub(crate) fn lost() -> u64 {
    hook::lost() + sampling::lost()
}

/// Starts recording, one sample in 512 KiB unless [`set_rate`] has said otherwise. Calling it again does nothing.
///
/// [`registry`](crate::registry) and [`serve`](crate::serve) do this if the program has the allocator. Whoever forks
/// without `exec` has no profile in the child: there the hooks do nothing.
///
/// ```standalone_crate
/// use greenprof_profiler::{heap, profile::encode, symbolize};
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// heap::start();
/// let kept = std::hint::black_box(vec![0_u8; 8 << 20]);
/// let file = encode::encode(&heap::profile(), &mut symbolize::shared().lock())?;
/// assert!(!encode::decode(&file)?.sample.is_empty(), "8 MiB are missed with a probability of exp(-16)");
/// drop(kept);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        hook::install();
        // Relaxed: whoever sets the rate at this very moment wins or does not.
        if !RATE_IS_SET.load(Ordering::Relaxed) && sampling::rate() == 0 {
            sampling::set_rate(sampling::DEFAULT_RATE);
        }
    });
}

/// Sets the mean number of bytes between two samples: 1 records every allocation, 0 none. Takes effect as told at
/// [`sampling::set_rate`]; samples taken before keep their weights.
///
/// ```standalone_crate
/// use greenprof_profiler::heap;
/// use greenprof_runtime::heap::Heap;
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// heap::set_rate(1); // every allocation, so the figures are exact
/// heap::start();
/// let kept = std::hint::black_box(vec![0_u8; 100_000]);
/// let (_, in_use) = heap::snapshot().total();
/// assert!(in_use.bytes >= kept.len() as f64);
/// ```
pub fn set_rate(bytes: u64) {
    RATE_IS_SET.store(true, Ordering::Relaxed);
    sampling::set_rate(bytes);
}

/// The return addresses of where a block was allocated, if it was sampled and is in use.
pub(crate) fn allocation(address: usize) -> Option<Vec<usize>> {
    let (record, _) = hook::Kept(sampling::kept(address)?).parts()?;
    Some(hook::TABLE.stack(record))
}

/// The mean number of bytes between two samples.
pub fn rate() -> u64 {
    sampling::rate()
}
