//! Cores: the shared part of a primitive, in memory of their own.
//!
//! All cores have one size and lie in one reserved range, so a core is known by a small index, and a word can be checked
//! for being a handle with a few instructions. Memory of a core is type-stable: freed and used again, never unmapped.

use std::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::Range,
    panic::Location,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering, compiler_fence},
    },
};

use parking_lot::Mutex;

use super::handle::tags::TagTable;
use crate::sys::{
    atomic::{self, const_unless_loom},
    lock::RawLock,
    memory,
};

/// What a primitive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// A channel, by either interface.
    Chan = 1,
    /// A [`Mutex`](super::Mutex).
    Mutex = 2,
    /// A [`WaitGroup`](super::WaitGroup).
    WaitGroup = 3,
    /// A [`RwLock`](super::RwLock).
    RwLock = 4,
    /// A [`RawMutex`](super::RawMutex).
    RawMutex = 5,
    /// A [`RawRwLock`](super::RawRwLock).
    RawRwLock = 6,
    /// A [`Condvar`](super::Condvar).
    Condvar = 7,
    /// A [`Once`](super::Once) or [`OnceCell`](super::OnceCell).
    Once = 8,
    /// A [`Semaphore`](super::Semaphore).
    Semaphore = 9,
    /// A [`Shared`](super::Shared) value, on which nobody waits.
    Shared = 10,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Chan,
        Self::Mutex,
        Self::WaitGroup,
        Self::RwLock,
        Self::RawMutex,
        Self::RawRwLock,
        Self::Condvar,
        Self::Once,
        Self::Semaphore,
        Self::Shared,
    ];
}

/// Kind of a core that nobody uses.
const FREE: u8 = 0;

/// The state of a primitive. It lies in a core.
pub(crate) trait Body: Sized {
    const KIND: Kind;

    /// Called when no handle is left, before the body's memory is used for something else.
    fn destroy(&mut self) {}
}

/// Loom's atomics are larger.
const BODY_WORDS: usize = if cfg!(loom) { 32 } else { 8 };

#[repr(C, align(128))]
pub(crate) struct Core {
    pub(super) tags: TagTable,
    created_at: AtomicPtr<Location<'static>>,
    next_free: AtomicU32,
    /// Guards the body, as far as its primitive does not say otherwise.
    lock: RawLock,
    kind: AtomicU8,
    /// Set when a handle was found to be a copy that safe code cannot make. A leak scan says nothing about such a core.
    pub(super) aliased: AtomicBool,
    body: UnsafeCell<[u64; BODY_WORDS]>,
}

// SAFETY: everything but the body is atomic; the body is guarded by `lock` or by its primitive.
unsafe impl Sync for Core {}

const _: () = assert!(cfg!(loom) || size_of::<Core>() == 128, "two cache lines a core");

/// The bits of a core's index in a handle's word.
pub(super) const INDEX_BITS: u32 = 26;

/// Where all cores lie, and how many fit.
#[cfg_attr(loom, allow(dead_code))]
struct Region {
    base: *mut Core,
    capacity: usize,
}

// SAFETY: an address that stays mapped.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

static REGION: OnceLock<Region> = OnceLock::new();
/// A copy of the region's base that is read without a check: whoever has a handle knows that it is set.
static BASE: AtomicPtr<Core> = AtomicPtr::new(ptr::null_mut());
/// The free cores. Guards `Core::next_free`.
#[cfg_attr(loom, allow(dead_code))]
static FREE_CORES: Mutex<FreeCores> = Mutex::new(FreeCores { head: 0 });
/// The index after that of the newest core. Written while `FREE_CORES` is held.
static FRESH: AtomicU32 = AtomicU32::new(FIRST_INDEX);

/// The index of the first core. A handle's word is the index above 38 other bits, so words of handles begin behind all addresses of user
/// space: an address is never a handle, and a scan that meets one need not ask. The cores below are never touched, and cost no memory.
pub(super) const FIRST_INDEX: u32 = match () {
    // Little room, and no scan.
    () if cfg!(any(loom, miri)) => 1,
    () if cfg!(target_arch = "aarch64") => 1 << (48 - (64 - INDEX_BITS)),
    () => 1 << (47 - (64 - INDEX_BITS)),
};

/// Cores are known by their index; 0 is none.
#[cfg_attr(loom, allow(dead_code))]
struct FreeCores {
    head: u32,
}

fn region() -> &'static Region {
    REGION.get_or_init(|| {
        // Only address space: pages are committed as cores are used. A process with a limit gets a smaller region.
        for bits in if cfg!(miri) { [8; 4] } else { [INDEX_BITS, 23, 20, 17] } {
            let capacity = 1 << bits;
            if let Ok(base) = memory::reserve(capacity * size_of::<Core>(), memory::PAGE) {
                let base = base.cast();
                // Release: pairs with whatever hands a handle to another thread.
                BASE.store(base, Ordering::Release);
                return Region { base, capacity };
            }
        }
        panic!("no address space for the cores of primitives: raise the limit on virtual memory (ulimit -v)")
    })
}

/// Takes a core and puts `body` into it. Returns its index.
///
/// # Panics
/// When there is no room for another core.
pub(super) fn allocate<B: Body>(body: B, created_at: &'static Location<'static>) -> u32 {
    const { assert!(size_of::<B>() <= BODY_WORDS * 8 && align_of::<B>() <= 8, "a body fits its core") };
    let index = take(region());
    let core = core(index);
    // SAFETY: the core is ours alone, and the body fits.
    unsafe { core.body.get().cast::<B>().write(body) };
    core.aliased.store(false, Ordering::Relaxed);
    core.created_at.store(ptr::from_ref(created_at).cast_mut(), Ordering::Relaxed);
    // Release: pairs with a scan that reads the kind first.
    core.kind.store(B::KIND as u8, Ordering::Release);
    index
}

/// Destroys the body and gives the core back.
///
/// # Safety
/// The core must hold a `B`, and nobody may use it any more.
pub(super) unsafe fn free<B: Body>(index: u32) {
    let core = core(index);
    debug_assert_eq!(core.kind.load(Ordering::Relaxed), B::KIND as u8);
    core.kind.store(FREE, Ordering::Relaxed);
    // A stopped world must not find a body that is being destroyed. Its looker sees what this thread has done up to the
    // instruction at which it was stopped, so only the compiler's order matters.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the caller is the last user.
    unsafe {
        let body = core.body.get().cast::<B>();
        (*body).destroy();
        ptr::drop_in_place(body);
        // Wiped: a leak scan must not find what the body pointed to.
        core.body.get().write([0; BODY_WORDS]);
    }
    core.tags.reset();
    give_back(index);
}

/// Takes a free core, or makes one.
#[cfg(not(loom))]
fn take(region: &Region) -> u32 {
    let mut free = FREE_CORES.lock();
    let index = free.head;
    if index != 0 {
        // Relaxed: guarded by the lock.
        free.head = core(index).next_free.load(Ordering::Relaxed);
        return index;
    }
    // Relaxed: guarded by the lock.
    let fresh = FRESH.load(Ordering::Relaxed);
    assert!(
        (fresh as usize) < region.capacity,
        "{fresh} channels, locks and other primitives exist: no room for another"
    );
    // SAFETY: fresh memory inside the region that nobody knows of.
    unsafe { Core::init(region.base.wrapping_add(fresh as usize)) };
    // Release: pairs with the Acquire in `indices`: the core is made.
    FRESH.store(fresh + 1, Ordering::Release);
    fresh
}

#[cfg(not(loom))]
fn give_back(index: u32) {
    let mut free = FREE_CORES.lock();
    // Relaxed: guarded by the lock.
    core(index).next_free.store(free.head, Ordering::Relaxed);
    free.head = index;
}

#[cfg(loom)]
use mock::{give_back, take};

/// The cores of models. An execution always gets the same indices, for the order in which a select locks depends on them,
/// and never a core twice, for loom's atomics live no longer than the execution.
#[cfg(loom)]
pub(crate) mod mock {
    #[cfg(test)]
    use super::FRESH;
    use super::{Core, Region};
    use std::cell::Cell;
    #[cfg(test)]
    use std::sync::atomic::Ordering;

    /// More than any model needs.
    const CORES: u32 = 1_000;

    // Not loom's: all threads of a model run on one thread, and share it.
    thread_local! {
        static FIRST: Cell<u32> = const { Cell::new(0) };
        static NEXT: Cell<u32> = const { Cell::new(0) };
    }

    /// Begins an execution of the calling thread's model.
    #[cfg(test)]
    pub(crate) fn begin() {
        if FIRST.get() == 0 {
            FIRST.set(FRESH.fetch_add(CORES, Ordering::Relaxed));
        }
        NEXT.set(FIRST.get());
    }

    pub(super) fn take(region: &Region) -> u32 {
        let index = NEXT.get();
        assert!(FIRST.get() <= index && index < FIRST.get() + CORES);
        NEXT.set(index + 1);
        // SAFETY: inside the region, and what was there belongs to an earlier execution.
        unsafe { Core::init(region.base.wrapping_add(index as usize)) };
        index
    }

    pub(super) fn give_back(_: u32) {}
}

/// The core of an index that [`allocate`] has given.
#[inline]
pub(super) fn core(index: u32) -> &'static Core {
    // SAFETY: an index exists only after the region does, and cores are never unmapped. Relaxed: see `BASE`.
    unsafe { &*BASE.load(Ordering::Relaxed).add(index as usize) }
}

/// The indices of the cores that were ever used. Takes no lock: a stopped thread may hold it.
pub(super) fn indices() -> Range<u32> {
    // Acquire: pairs with the Release in `take`.
    FIRST_INDEX..FRESH.load(Ordering::Acquire)
}

/// The index of the core that an address is in, used or not. The address may be any word.
pub(super) fn index_at(address: usize) -> Option<u32> {
    let used = indices();
    // Acquire: pairs with the Release in `region`.
    let base = BASE.load(Ordering::Acquire) as usize;
    let index = u32::try_from(address.wrapping_sub(base) / size_of::<Core>()).ok()?;
    (base != 0 && used.contains(&index)).then_some(index)
}

/// Where the cores lie that were ever used.
pub(super) fn used() -> Range<usize> {
    // Acquire: as in `index_at`.
    let base = BASE.load(Ordering::Acquire) as usize;
    let used = indices();
    let at = |index: u32| base + index as usize * size_of::<Core>();
    if base == 0 { 0..0 } else { at(used.start)..at(used.end) }
}

impl Core {
    /// Makes a core that nobody uses.
    ///
    /// # Safety
    /// `at` must be a place inside the region that nobody looks at.
    unsafe fn init(at: *mut Self) {
        let core = Self {
            tags: TagTable::new(),
            created_at: AtomicPtr::new(ptr::null_mut()),
            next_free: AtomicU32::new(0),
            lock: RawLock::new(),
            kind: AtomicU8::new(FREE),
            aliased: AtomicBool::new(false),
            body: UnsafeCell::new([0; BODY_WORDS]),
        };
        // SAFETY: the caller's promise.
        unsafe { at.write(core) };
    }

    /// Where the primitive was made, or first used. For a core in use.
    pub(super) fn created_at(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null, or a location of the program's. Relaxed: the kind was read with Acquire.
        unsafe { self.created_at.load(Ordering::Relaxed).as_ref() }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        // Acquire: pairs with the Release in `allocate`.
        let kind = self.kind.load(Ordering::Acquire);
        Kind::ALL.into_iter().find(|k| *k as u8 == kind)
    }

    #[inline]
    pub(super) fn lock(&self) {
        self.lock.lock();
    }

    /// # Safety
    /// The caller must hold the lock.
    #[inline]
    pub(super) unsafe fn unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.unlock() };
    }

    #[inline]
    pub(super) fn body<B: Body>(&self) -> *mut B {
        debug_assert_eq!(self.kind.load(Ordering::Relaxed), B::KIND as u8);
        self.peek()
    }

    /// The body, for one who looks from outside: the core may be freed meanwhile, and hold something else.
    #[inline]
    pub(super) fn peek<B: Body>(&self) -> *mut B {
        self.body.get().cast()
    }
}

/// The core of a lock, made when it is first needed, which is what lets a lock be made in a `const`.
///
/// Whoever reaches the lock cannot unlock it, so this is no handle: a guard has the word.
pub(super) struct LazyCore<B: Body> {
    /// 0 until there is a core.
    index: atomic::AtomicU32,
    body: PhantomData<fn(B) -> B>,
}

impl<B: Body> LazyCore<B> {
    const_unless_loom! {
        pub(super) const fn new() -> Self {
            Self { index: atomic::AtomicU32::new(0), body: PhantomData }
        }
    }
}

impl<B: Body + Default> LazyCore<B> {
    #[inline]
    #[track_caller]
    pub(super) fn get(&self) -> (u32, &'static Core) {
        // Acquire: pairs with the Release in `make`.
        let index = self.index.load(Ordering::Acquire);
        let index = if index == 0 { self.make() } else { index };
        (index, core(index))
    }

    #[cold]
    #[track_caller]
    fn make(&self) -> u32 {
        let index = allocate(B::default(), Location::caller());
        // AcqRel: publishes the core, or sees the one that another thread has made.
        match self.index.compare_exchange(0, index, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => index,
            Err(other) => {
                // SAFETY: made above, and known to nobody.
                unsafe { free::<B>(index) };
                other
            }
        }
    }
}

impl<B: Body> Drop for LazyCore<B> {
    fn drop(&mut self) {
        // Relaxed: nobody else has the lock any more.
        let index = self.index.load(Ordering::Relaxed);
        if index != 0 {
            // SAFETY: nobody can use a lock that has no other reference.
            unsafe { free::<B>(index) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_from_their_numbers() {
        for (position, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, position + 1, "none is missing, and 0 is for free cores");
        }
    }
}
