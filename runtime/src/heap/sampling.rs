//! Which allocations are sampled, and who is told.
//!
//! Allocated bytes are a Poisson process of samples: each thread draws the gap to its next sample from an exponential
//! distribution with the mean [`rate`] and counts it down by the sizes that are asked for. An allocation during which the
//! countdown passes zero is sampled, so one of `s` bytes is sampled with the probability `1 - exp(-s / rate)`, whatever
//! came before it; dividing by that gives an unbiased estimate. The rate is told with each sample, as it may change.
//! (Go's and TCMalloc's method. Go counts sizes of blocks, we count what was asked for.)
//!
//! A sample lies in a span of samples: `samples.rs`. The hooks are called in an untracked scope and may allocate; what a
//! hook itself does is not sampled.

use std::{
    cell::Cell,
    ptr,
    sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use super::{
    blocks,
    cache::{self, Cache, Half},
    classes::PAGE,
    local::{count_down, local},
    purge, range, samples,
    scope::Entered,
    span::{Arena, LARGE, class_of_kind, head_of},
};

/// Mean bytes between two samples, as Go has it.
pub const DEFAULT_RATE: u64 = 512 << 10;

/// While sampling is off, a thread looks every so many bytes whether it still is.
const LOOK: i64 = 256 << 10;
/// Gaps are cut off here, 21 times the mean at the highest rate: far beyond what is ever drawn.
const LONGEST_GAP: f64 = (1u64 << 44) as f64;
const HIGHEST_RATE: u64 = 1 << 40;

/// An allocation that is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the block begins.
    pub address: usize,
    /// Bytes that were asked for: what decides how probable the sample was.
    pub requested: usize,
    /// Bytes of the block.
    pub size: usize,
    /// The mean of the gap that led to it, in bytes; 1 for a sample of everything.
    pub rate: u64,
}

/// Whom samples are told to. The functions run on the thread that allocates or frees, in the middle of that: they must not
/// wait on a primitive of this crate, must not take a lock that is held while allocating in the program's arena, and must
/// not panic. They may allocate.
///
/// ```standalone_crate
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use greenprof_runtime::heap::{Heap, sampling};
///
/// #[global_allocator]
/// static HEAP: Heap = Heap::new();
///
/// static BYTES: AtomicU64 = AtomicU64::new(0);
/// static HOOKS: sampling::Hooks = sampling::Hooks {
///     allocated: |sample| {
///         BYTES.fetch_add(sample.requested as u64, Ordering::Relaxed);
///         sample.rate
///     },
///     freed: |_, _, rate| assert_eq!(rate, 1, "what was given back then"),
/// };
///
/// sampling::install(&HOOKS);
/// sampling::set_rate(1); // every allocation
/// let kept = std::hint::black_box(vec![0_u8; 1000]);
/// assert!(BYTES.load(Ordering::Relaxed) >= kept.len() as u64);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// A block was allocated, and is about to be given to the program. What is returned is kept with it; 0 says that nobody
    /// has to be told when it is freed.
    pub allocated: fn(&Sample) -> u64,
    /// A block that is a sample is about to be freed: its address, its size, and what `allocated` has returned.
    pub freed: fn(usize, usize, u64),
}

static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(ptr::null_mut());
static RATE: AtomicU64 = AtomicU64::new(0);
/// Changes with the rate.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// Events within a hook.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Makes `hooks` the ones that are told from now on. Blocks that were sampled before are told of when they are freed, too.
pub fn install(hooks: &'static Hooks) {
    // Release: pairs with the Acquire in `tell`.
    HOOKS.store(ptr::from_ref(hooks).cast_mut(), Ordering::Release);
}

/// Sets the mean number of bytes between two samples: 0 for none, 1 for every allocation. Values above 2^40 count as that.
///
/// The calling thread follows at once. Others do at their next allocation, or, if that comes at this very moment, after
/// the gap that they have drawn; at most 256 KiB later if sampling was off. Every sample tells the rate that it was drawn
/// with.
///
/// ```
/// use greenprof_runtime::heap::sampling;
///
/// assert_eq!(sampling::rate(), 0, "nothing is sampled unless somebody wants it");
/// sampling::set_rate(sampling::DEFAULT_RATE);
/// assert_eq!(sampling::rate(), 512 << 10);
/// ```
pub fn set_rate(bytes: u64) {
    RATE.store(bytes.min(HIGHEST_RATE), Ordering::Relaxed);
    // Release: pairs with the Acquire in `draw`: who sees the generation sees its rate, or a later one.
    GENERATION.fetch_add(1, Ordering::Release);
    for cache in cache::all() {
        // Their owners may be about to write the same word, which is why this is no promise.
        cache.half(Arena::Tracked).remaining.store(-1, Ordering::Relaxed);
    }
}

/// The mean number of bytes between two samples.
pub fn rate() -> u64 {
    RATE.load(Ordering::Relaxed)
}

/// How many samples and frees were not told because they happened in a hook.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// What [`Hooks::allocated`] has returned for the block that an address points into; nothing if that is not in use, or no
/// sample. The world must not be stopped: it takes a lock of the allocator.
///
/// ```
/// use greenprof_runtime::heap::sampling;
///
/// assert_eq!(sampling::kept(&raw const *Box::new(1) as usize), None, "nothing is sampled");
/// ```
pub fn kept(address: usize) -> Option<u64> {
    samples::look(address)
}

/// Draws the first gap of a thread that has got this cache.
pub(super) fn start(cache: &Cache) {
    draw(&cache.half(Arena::Tracked).remaining);
}

/// Draws the next gap.
fn draw(remaining: &AtomicI64) {
    let local = local();
    // Acquire: pairs with the Release in `set_rate`.
    local.generation.set(GENERATION.load(Ordering::Acquire));
    let rate = RATE.load(Ordering::Relaxed);
    local.rate.set(rate);
    let gap = match rate {
        0 => LOOK,
        1 => 0,
        rate => {
            // In (0, 1], so that the logarithm is finite.
            let uniform = ((random(&local.random) >> 11) + 1) as f64 / (1u64 << 53) as f64;
            (-uniform.ln() * rate as f64).min(LONGEST_GAP) as i64
        }
    };
    remaining.store(gap, Ordering::Relaxed);
}

/// Marsaglia's xorshift64*, a state for each thread.
fn random(state: &Cell<u64>) -> u64 {
    static SEEDS: AtomicU64 = AtomicU64::new(0);
    let mut x = state.get();
    if x == 0 {
        let seed = SEEDS.fetch_add(1, Ordering::Relaxed).wrapping_add(u64::from(purge::now()) << 20);
        // The finalizer of SplitMix64: seeds that differ little give states that differ much.
        x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = ((x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)).max(1);
    }
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    state.set(x);
    x.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// Called when the countdown has passed zero with this allocation of `size` bytes. Gives the block for it, which may be
/// another one, so that the fast path ends with a jump.
#[cold]
#[inline(never)]
pub(super) fn crossed(block: *mut u8, size: usize) -> *mut u8 {
    sample(block, size, |_| {})
}

/// As [`crossed`], for a block that the program has and that counts as allocated anew: its bytes go with it.
#[cold]
#[inline(never)]
pub(super) fn crossed_in_place(block: *mut u8, size: usize) -> *mut u8 {
    sample(block, size, |other| {
        // SAFETY: two blocks of the same class, hence the same size.
        unsafe { ptr::copy_nonoverlapping(block, other, usable(block)) }
    })
}

fn sample(block: *mut u8, requested: usize, copy: impl FnOnce(*mut u8)) -> *mut u8 {
    let local = local();
    let cache = local.cache.get();
    let half: &Half = cache.half(Arena::Tracked);
    // Acquire: as in `draw`.
    if local.generation.get() != GENERATION.load(Ordering::Acquire) {
        // The rate has changed: this allocation is the first that counts towards the new one.
        draw(&half.remaining);
        if count_down(&half.remaining, requested) >= 0 {
            return block;
        }
    }
    let rate = local.rate.get();
    draw(&half.remaining);
    if rate == 0 || HOOKS.load(Ordering::Relaxed).is_null() {
        return block;
    }
    if local.in_hook.get() {
        LOST.fetch_add(1, Ordering::Relaxed);
        return block;
    }
    let sampled = if samples::has_word(block) { block } else { samples::instead_of(block, cache) };
    if sampled.is_null() {
        LOST.fetch_add(1, Ordering::Relaxed);
        return block;
    }
    if sampled != block {
        copy(sampled);
        blocks::free(block);
    }
    let sample = Sample { address: sampled as usize, requested, size: usable(sampled), rate };
    if let Some(kept) = tell(|hooks| (hooks.allocated)(&sample)) {
        samples::keep(sampled, kept);
    }
    sampled
}

/// Bytes of a block.
fn usable(block: *mut u8) -> usize {
    match range::kind_of(block).load(Ordering::Relaxed) {
        LARGE => range::span(head_of(block)).length() * PAGE,
        kind => class_of_kind(kind.into()).size as usize,
    }
}

/// A block of `size` bytes that may be a sample is about to be freed.
pub(super) fn freed(block: *mut u8, size: usize) {
    let kept = samples::take(block);
    if kept != 0 {
        tell(|hooks| (hooks.freed)(block as usize, size, kept));
    }
}

/// Calls a hook, if there is one and this is not within another.
fn tell<R>(what: impl FnOnce(&'static Hooks) -> R) -> Option<R> {
    // Acquire: pairs with the Release in `install`.
    let hooks = HOOKS.load(Ordering::Acquire);
    if hooks.is_null() {
        return None;
    }
    if local().in_hook.replace(true) {
        LOST.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let _entered = Entered::new(Arena::Untracked);
    // SAFETY: `install` got it as a static reference.
    let answer = what(unsafe { &*hooks });
    local().in_hook.set(false);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_an_exponential_distribution() {
        let state = Cell::new(0);
        let (mut sum, mut squares) = (0.0, 0.0);
        let draws = 200_000;
        for _ in 0..draws {
            let uniform = ((random(&state) >> 11) + 1) as f64 / (1u64 << 53) as f64;
            let gap = -uniform.ln();
            sum += gap;
            squares += gap * gap;
        }
        // Five standard errors.
        assert!((sum / draws as f64 - 1.0).abs() < 5.0 / (draws as f64).sqrt());
        assert!((squares / draws as f64 - 2.0).abs() < 5.0 * 20f64.sqrt() / (draws as f64).sqrt());
    }
}
