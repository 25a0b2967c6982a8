//! Thread caches: free blocks that a thread can take and give without asking anybody.
//!
//! A cache has a stack of blocks for each kind, as an array outside the heap, not as a list through the blocks. Taking and
//! giving then do not touch the blocks, a program that writes to freed memory cannot break the cache, and one who has
//! stopped the world can read it at any instruction. (jemalloc's tcache has arrays, too.)
//!
//! Records are type-stable: the cache of an ended thread is emptied and given to the next thread that starts.

use std::{
    ptr,
    sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering, compiler_fence},
};

use super::{
    central::{Slot, central},
    classes::{CLASSES, TABLE},
    fork,
    local::local,
    lock::Locked,
    purge, range, samples, sampling,
    span::{Arena, KINDS, SAMPLED, class_of_kind, kind},
};

/// Blocks of one kind. Only the owner writes.
#[repr(C)]
pub(super) struct Bin {
    pub slots: AtomicPtr<Slot>,
    /// How many slots hold a block.
    pub len: AtomicU32,
    /// How many may; 0 in [`EMPTY`]. Grows with use up to the class's `cached`.
    pub limit: AtomicU32,
    /// Blocks given out, ever. Not only by this thread: by all whose cache this was.
    pub allocated: AtomicU64,
    /// Blocks taken from the centre less blocks given to it, ever. Wraps below zero.
    pub taken: AtomicU64,
}

/// What allocations of one arena are made from.
#[repr(C)]
pub(super) struct Half {
    /// Bytes until the next sample.
    pub remaining: AtomicI64,
    pub bins: [Bin; CLASSES],
}

#[repr(C, align(64))]
pub(super) struct Cache {
    /// Of the kinds of the arenas, and those of samples.
    pub halves: [Half; KINDS / CLASSES],
    /// `allocated` of each bin at the last look, to find the idle ones. The owner's.
    seen: [AtomicU64; KINDS],
    /// Its number, plus one.
    number: AtomicU32,
    /// The next free cache. Guarded by the registry's lock.
    next: AtomicU32,
    /// The value of [`RELEASES`] that the owner has followed.
    released: AtomicU32,
}

impl Bin {
    #[expect(clippy::declare_interior_mutable_const, reason = "only a value to start from")]
    const NONE: Self = Self {
        slots: AtomicPtr::new(ptr::null_mut()),
        len: AtomicU32::new(0),
        limit: AtomicU32::new(0),
        allocated: AtomicU64::new(0),
        taken: AtomicU64::new(0),
    };

    /// The first `count` slots.
    pub(super) fn slots(&self, count: usize) -> &[Slot] {
        if count == 0 {
            return &[];
        }
        // SAFETY: a bin with slots has as many as its class's `cached`, and nobody asks for more; they are never unmapped.
        unsafe { std::slice::from_raw_parts(self.slots.load(Ordering::Relaxed), count) }
    }

    /// The blocks in it.
    pub(super) fn blocks(&self) -> &[Slot] {
        self.slots(self.len.load(Ordering::Relaxed) as usize)
    }

    fn raise_limit(&self, most: u32) {
        let limit = self.limit.load(Ordering::Relaxed);
        self.limit.store((limit * 2).min(most), Ordering::Relaxed);
    }

    fn count_taken(&self, difference: i64) {
        self.taken.store(self.taken.load(Ordering::Relaxed).wrapping_add_signed(difference), Ordering::Relaxed);
    }

    /// Gives the lowest `count` blocks, those that were not used for longest, to the centre.
    fn flush(&self, kind: usize, count: usize) {
        let len = self.len.load(Ordering::Relaxed) as usize;
        let slots = self.slots(len);
        // From here until the length is right again nothing in the slots counts as free, wherever this thread is stopped.
        self.len.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        central(kind).give(kind, &slots[..count]);
        for (to, from) in slots[..len - count].iter().zip(&slots[count..]) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        compiler_fence(Ordering::SeqCst);
        self.len.store((len - count) as u32, Ordering::Relaxed);
        self.count_taken(-(count as i64));
    }
}

impl Half {
    #[expect(clippy::declare_interior_mutable_const, reason = "only a value to start from")]
    const NONE: Self = Self { remaining: AtomicI64::new(0), bins: [Bin::NONE; CLASSES] };
}

impl Cache {
    #[expect(clippy::declare_interior_mutable_const, reason = "only a value to start from")]
    const NONE: Self = Self {
        halves: [Half::NONE; KINDS / CLASSES],
        seen: [const { AtomicU64::new(0) }; KINDS],
        number: AtomicU32::new(0),
        next: AtomicU32::new(0),
        released: AtomicU32::new(0),
    };

    #[inline(always)]
    pub(super) fn half(&self, arena: Arena) -> &Half {
        &self.halves[arena as usize]
    }

    pub(super) fn bin(&self, kind: usize) -> &Bin {
        &self.halves[kind / CLASSES].bins[kind % CLASSES]
    }

    pub(super) fn is_empty_cache(&self) -> bool {
        ptr::eq(self, &EMPTY)
    }

    /// Writes the record of a new cache: everything that is not zero.
    fn prepare(&self, number: u32) {
        let mut slots = (ptr::from_ref(self) as usize + size_of::<Cache>()) as *mut Slot;
        for kind in 0..KINDS {
            self.bin(kind).slots.store(slots, Ordering::Relaxed);
            slots = slots.wrapping_add(class_of_kind(kind).cached as usize);
        }
        self.number.store(number, Ordering::Relaxed);
    }

    /// Gives blocks of kinds that were not used since the last look to the centre; with `all`, of all.
    fn settle(&self, all: bool) {
        for kind in 0..KINDS {
            let bin = self.bin(kind);
            let allocated = bin.allocated.load(Ordering::Relaxed);
            let len = bin.len.load(Ordering::Relaxed) as usize;
            if len > 0 && (all || allocated == self.seen[kind].load(Ordering::Relaxed)) {
                bin.flush(kind, len);
                bin.limit.store(FIRST_LIMIT, Ordering::Relaxed);
            }
            self.seen[kind].store(allocated, Ordering::Relaxed);
        }
    }
}

/// The cache of threads that have none: nothing to take, and no room. Never written.
pub(super) static EMPTY: Cache = Cache::NONE;

/// What a bin may hold at first. It doubles with each visit to the centre.
const FIRST_LIMIT: u32 = 4;
/// So many visits to the slow path between two looks at the clock, and at idle bins.
const LOOK_AT_CLOCK: u32 = 32;
const LOOK_AT_BINS: u32 = 1024;

/// Bytes of a cache and its slots.
pub(super) const CACHE_BYTES: usize = {
    let mut slots = 0;
    let mut class = 0;
    while class < CLASSES {
        slots += TABLE[class].cached as usize;
        class += 1;
    }
    (size_of::<Cache>() + KINDS / CLASSES * slots * size_of::<Slot>()).next_multiple_of(4096)
};

/// Guards which caches are free, and the making of new ones and of the key.
pub(super) static REGISTRY: Locked<Registry> = Locked::new(Registry { free: 0, key: None, hopeless: false });
/// How many caches were ever made.
static MADE: AtomicU32 = AtomicU32::new(0);
/// How often all threads were asked to give back what they have.
static RELEASES: AtomicU32 = AtomicU32::new(0);

pub(super) struct Registry {
    /// Number of the first free cache; 0 if there is none.
    free: u32,
    /// What tells us that a thread ends.
    key: Option<libc::pthread_key_t>,
    /// The system had no key for us: nobody gets a cache, as none would come back.
    hopeless: bool,
}

/// All caches, also the free ones.
pub(super) fn all() -> impl Iterator<Item = &'static Cache> {
    // Acquire: pairs with the Release in `attach`: the records are complete.
    (0..MADE.load(Ordering::Acquire)).map(|number| record(number + 1))
}

fn record(number: u32) -> &'static Cache {
    // SAFETY: memory for a cache, never unmapped; all fields are atomic, and zeroes are valid in all of them.
    unsafe { &*range::cache(number as usize - 1).cast::<Cache>() }
}

/// Gives the calling thread a cache. False if it cannot have one: then it allocates from the centre.
#[cold]
pub(super) fn attach() -> bool {
    // A thread that ends has its cache taken away, and may still allocate in other destructors. It gets another one, for
    // the system calls destructors again, but not for ever: it stops after the fourth time.
    if local().ended.get() >= 3 || !range::make() {
        return false;
    }
    let mut registry = REGISTRY.lock();
    let Some(key) = registry.key() else { return false };
    let cache = if registry.free != 0 {
        let cache = record(registry.free);
        registry.free = cache.next.load(Ordering::Relaxed);
        cache
    } else {
        let made = MADE.load(Ordering::Relaxed);
        if made as usize == range::caches() {
            return false;
        }
        let cache = record(made + 1);
        cache.prepare(made + 1);
        // Release: pairs with the Acquire in `all`.
        MADE.store(made + 1, Ordering::Release);
        cache
    };
    // SAFETY: the key exists. The value is not null, so `detach` is called when the thread ends.
    if unsafe { libc::pthread_setspecific(key, ptr::from_ref(cache).cast()) } != 0 {
        registry.put_back(cache);
        return false;
    }
    drop(registry);
    for kind in 0..KINDS {
        cache.bin(kind).limit.store(FIRST_LIMIT, Ordering::Relaxed);
    }
    // What is untracked is not sampled.
    cache.half(Arena::Untracked).remaining.store(i64::MAX, Ordering::Relaxed);
    let local = local();
    local.cache.set(cache);
    local.half.set(cache.half(current_arena()));
    sampling::start(cache);
    true
}

/// Takes the calling thread's cache away. The system calls it at the end of the thread.
extern "C" fn detach(cache: *mut libc::c_void) {
    // SAFETY: the value that `attach` has set.
    let cache = unsafe { &*cache.cast::<Cache>() };
    let local = local();
    local.cache.set(&EMPTY);
    local.half.set(EMPTY.half(Arena::Tracked));
    local.ended.set(local.ended.get().saturating_add(1));
    cache.settle(true);
    REGISTRY.lock().put_back(cache);
}

impl Registry {
    fn key(&mut self) -> Option<libc::pthread_key_t> {
        if self.key.is_none() && !self.hopeless {
            let mut key = 0;
            // SAFETY: `key` is a valid place for the answer, and `detach` takes what `attach` stores.
            if unsafe { libc::pthread_key_create(&mut key, Some(detach)) } == 0 {
                self.key = Some(key);
                fork::register();
            } else {
                self.hopeless = true;
            }
        }
        self.key
    }

    fn put_back(&mut self, cache: &'static Cache) {
        cache.next.store(self.free, Ordering::Relaxed);
        self.free = cache.number.load(Ordering::Relaxed);
    }
}

pub(super) fn current_arena() -> Arena {
    if local().untracked.get() { Arena::Untracked } else { Arena::Tracked }
}

/// The calling thread's cache, if it can have one.
pub(super) fn own() -> Option<&'static Cache> {
    (!local().cache.get().is_empty_cache() || attach()).then(|| local().cache.get())
}

/// Puts blocks into a bin that has none. False if there is no memory.
pub(super) fn refill(cache: &'static Cache, kind: usize) -> bool {
    visit(cache);
    let class = class_of_kind(kind);
    let bin = cache.bin(kind);
    bin.raise_limit(class.cached);
    let least = if kind >= SAMPLED { samples::PER_LINE } else { 1 }.min(class.batch);
    let wanted = (bin.limit.load(Ordering::Relaxed) / 2).clamp(least, class.batch) as usize;
    let taken = central(kind).take(kind, bin.slots(wanted));
    // The slots are written before anything in them counts as free.
    compiler_fence(Ordering::SeqCst);
    bin.len.store(taken as u32, Ordering::Relaxed);
    bin.count_taken(taken as i64);
    taken > 0
}

/// Frees a block into a bin that is full.
#[cold]
#[inline(never)]
pub(super) fn overflow(kind: usize, block: *mut u8) {
    let Some(cache) = own() else {
        central(kind).give_one(kind, block);
        return;
    };
    visit(cache);
    let class = class_of_kind(kind);
    let bin = cache.bin(kind);
    let limit = bin.limit.load(Ordering::Relaxed);
    if bin.len.load(Ordering::Relaxed) >= limit {
        if limit < class.cached {
            bin.raise_limit(class.cached);
        } else {
            bin.flush(kind, (limit / 2).min(class.batch) as usize);
        }
    }
    let pushed = push(bin, block);
    debug_assert!(pushed, "there is room now");
}

/// Puts a block into a bin, if it has room.
#[inline(always)]
pub(super) fn push(bin: &Bin, block: *mut u8) -> bool {
    let len = bin.len.load(Ordering::Relaxed);
    if len >= bin.limit.load(Ordering::Relaxed) {
        return false;
    }
    // SAFETY: `len` is below the limit, so there is such a slot.
    unsafe { (*bin.slots.load(Ordering::Relaxed).add(len as usize)).store(block, Ordering::Relaxed) };
    // The slot is written before it counts, for one who stops this thread in between. (So compiler fences suffice.)
    compiler_fence(Ordering::SeqCst);
    bin.len.store(len + 1, Ordering::Relaxed);
    true
}

/// What is to be done now and then, on a slow path.
pub(super) fn visit(cache: &'static Cache) {
    let visits = local().slow.get().wrapping_add(1);
    local().slow.set(visits);
    let releases = RELEASES.load(Ordering::Relaxed);
    if cache.released.load(Ordering::Relaxed) != releases {
        cache.released.store(releases, Ordering::Relaxed);
        cache.settle(true);
    } else if visits.is_multiple_of(LOOK_AT_BINS) {
        cache.settle(false);
    }
    if visits.is_multiple_of(LOOK_AT_CLOCK) {
        purge::tick();
    }
}

/// Empties the calling thread's cache, and has the others do so when they come along.
pub(super) fn release() {
    RELEASES.fetch_add(1, Ordering::Relaxed);
    let cache = local().cache.get();
    if !cache.is_empty_cache() {
        cache.settle(true);
    }
}

/// The kind that the calling thread allocates from for a class.
pub(super) fn current_kind(class: usize) -> usize {
    kind(current_arena(), class)
}
