//! Which primitive a word leads to: what a scan of memory asks, for every word that it meets.
//!
//! Nothing here locks or allocates, all of it takes constant time but the walk over all primitives, and every word may be
//! asked about. In a stopped world the answers belong together; at other times each is a moment's.

use std::{ops::Range, panic::Location, ptr, sync::atomic::Ordering};

use super::{
    chan,
    core::{self, Core, Kind},
    handle::{exclusive, word::Word},
    mutex, once, rwlock, shared,
};

/// A primitive that is in use, known by its core. Another one may take its place once it is gone.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{sync::{Chan, PrimitiveKind}, world};
///
/// let channel = Chan::<u32>::with_capacity(1);
/// let stop = world::stop(Duration::from_millis(100), |world| {
///     world.primitives().filter(|primitive| primitive.kind() == Some(PrimitiveKind::Chan)).count()
/// })?;
/// assert_eq!(stop.value, 1);
/// drop(channel);
/// # Ok::<(), greenprof_runtime::world::stop::StopError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Primitive(u32);

impl Primitive {
    /// The lowest index. Words of handles and guards are above all addresses of user space.
    pub const FIRST: usize = core::FIRST_INDEX as usize;

    /// The primitive whose core an address points to or into. A core that is not in use has none.
    pub(crate) fn at(address: usize) -> Option<Self> {
        core::index_at(address).and_then(Self::in_use)
    }

    /// The primitive that a word stands for: of a live handle, or of the guard that holds it, as a whole. A stale copy has
    /// none.
    pub(crate) fn held_by(word: u64) -> Option<Self> {
        let word = Word::from_bits(word);
        let index = word.index();
        if !core::indices().contains(&index) {
            return None;
        }
        let core = core::core(index);
        let kind = core.kind()?;
        let valid = if word.is_exclusive() {
            match kind {
                Kind::Mutex => exclusive::words::<mutex::State>(index, core).any(|bits| bits == word.bits()),
                Kind::RwLock => exclusive::words::<rwlock::State>(index, core).any(|bits| bits == word.bits()),
                Kind::Once => exclusive::words::<once::State>(index, core).any(|bits| bits == word.bits()),
                _ => false,
            }
        } else {
            core.tags.is_live(word.tag())
        };
        valid.then_some(Self(index))
    }

    /// All primitives. Looks at each core that was ever used: some 2 ns for one.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        core::indices().filter_map(Self::in_use)
    }

    fn in_use(index: u32) -> Option<Self> {
        core::core(index).kind().map(|_| Self(index))
    }

    /// The primitive with that index, if it is in use.
    pub fn with_index(index: usize) -> Option<Self> {
        u32::try_from(index).ok().filter(|index| core::indices().contains(index)).and_then(Self::in_use)
    }

    pub(super) fn core(self) -> &'static Core {
        core::core(self.0)
    }

    /// A number below [`Primitive::bound`], to index a table with.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The index of the primitive that a word would stand for, if it were that of a handle or a guard.
    #[inline(always)]
    pub fn index_in(word: u64) -> usize {
        Word::from_bits(word).index() as usize
    }

    /// Where the cores of all primitives lie.
    pub fn region() -> Range<usize> {
        core::used()
    }

    /// Above the index of every primitive that exists. It only grows.
    pub fn bound() -> usize {
        core::indices().end as usize
    }

    /// What it is; `None` if it is gone.
    pub fn kind(self) -> Option<Kind> {
        self.core().kind()
    }

    /// Where it was made; a lock, or another that can be made in a `const`: where it was first used.
    pub fn created_at(self) -> Option<&'static Location<'static>> {
        self.core().created_at()
    }

    /// Whether one of its handles was seen to be a copy that safe code cannot make: then nothing is known about who has it.
    pub fn is_aliased(self) -> bool {
        self.core().aliased.load(Ordering::Relaxed)
    }

    /// The address of what it keeps, the buffer of a channel or a shared value: a block of the heap, or no address of memory. 0 for
    /// other primitives.
    pub fn buffer(self) -> usize {
        match self.kind() {
            Some(Kind::Chan) => chan::state::buffer(self.core()),
            Some(Kind::Shared) => shared::value(self.core()),
            _ => 0,
        }
    }

    /// Where its core lies.
    pub fn memory(self) -> Range<usize> {
        let start = ptr::from_ref(self.core()) as usize;
        start..start + size_of::<Core>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::{Chan, Mutex, RawMutex};

    #[test]
    fn every_address_of_a_core_leads_to_its_primitive_while_it_lives() {
        let line = line!() + 1;
        let channel: Chan<u8> = Chan::new();
        let of_channel = |primitive: &Primitive| {
            primitive.created_at().is_some_and(|place| place.file() == file!() && place.line() == line)
        };
        let primitive = Primitive::all().find(of_channel).expect("it is among all");
        assert_eq!((primitive.kind(), primitive.is_aliased()), (Some(Kind::Chan), false));
        assert!(primitive.index() < Primitive::bound());
        let memory = primitive.memory();
        for address in memory.clone() {
            assert_eq!(Primitive::at(address), Some(primitive));
        }
        for outside in [memory.start - 1, memory.end] {
            assert_ne!(Primitive::at(outside), Some(primitive));
        }
        drop(channel);
        // Another test may have a new one there, but not of this line.
        assert!(!memory.clone().any(|address| Primitive::at(address).is_some_and(|p| of_channel(&p))));
        assert!(!Primitive::all().any(|p| of_channel(&p)));
    }

    #[test]
    fn words_that_are_no_core_s_address_lead_nowhere() {
        let chan: Chan<u8> = Chan::new();
        let first = Primitive::all().min().expect("there is one").memory().start & !(size_of::<Core>() - 1);
        let region = first - core::index_at(first).expect("a core") as usize * size_of::<Core>();
        for address in [0, 1, region, region - 1, ptr::from_ref(&chan) as usize, usize::MAX, usize::MAX - 127] {
            assert_eq!(Primitive::at(address), None, "{address:#x}");
        }
        let beyond = region + (1 << super::core::INDEX_BITS) * size_of::<Core>();
        assert_eq!(Primitive::at(beyond), None);
    }

    #[test]
    fn words_of_handles_and_guards_lead_to_their_primitive() {
        let mutex = Mutex::new(());
        let guard = mutex.lock();
        let raw = RawMutex::new();
        raw.lock();
        let channel: Chan<u8> = Chan::new();
        let copy = channel.clone();
        let words = |value: usize, bytes: usize| {
            // SAFETY: the value is alive, and made of words; those that change are atomics of this thread's values.
            (0..bytes / 8).map(move |i| unsafe { (value as *const u64).add(i).read_volatile() })
        };
        let of = |value: usize, bytes: usize| {
            let mut found: Vec<_> = words(value, bytes).filter_map(Primitive::held_by).collect();
            assert_eq!(found.len(), 1, "one word of it");
            found.remove(0)
        };
        let by_handle = of(ptr::from_ref(&channel) as usize, size_of_val(&channel));
        assert_eq!(by_handle.kind(), Some(Kind::Chan));
        assert_eq!(of(ptr::from_ref(&copy) as usize, size_of_val(&copy)), by_handle);
        let by_guard = of(ptr::from_ref(&guard) as usize, size_of_val(&guard));
        assert_eq!(by_guard.kind(), Some(Kind::Mutex));
        let by_lock = of(ptr::from_ref(&raw) as usize, size_of_val(&raw));
        assert_eq!(by_lock.kind(), Some(Kind::RawMutex));

        let stale: Vec<u64> = words(ptr::from_ref(&copy) as usize, size_of_val(&copy))
            .chain(words(ptr::from_ref(&guard) as usize, size_of_val(&guard)))
            .filter(|word| Primitive::held_by(*word).is_some())
            .collect();
        assert_eq!(stale.len(), 2);
        drop(copy);
        drop(guard);
        assert!(stale.into_iter().all(|word| Primitive::held_by(word).is_none()));
        for word in [0, 1, u64::MAX, by_handle.memory().start as u64] {
            assert_eq!(Primitive::held_by(word), None, "{word:#x}");
        }
        let local = 0_u8;
        assert!(Primitive::index_in(ptr::from_ref(&local) as u64) < Primitive::FIRST, "an address is no handle");
        // The tag that handles beyond all others share, of a channel that has no such handles.
        let shared = (by_handle.index() as u64) << super::super::handle::word::TAG_BITS | ((1 << 21) - 1) << 16;
        assert_eq!(Primitive::held_by(shared), None);
    }
}
