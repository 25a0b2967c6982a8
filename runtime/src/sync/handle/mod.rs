//! Handles: the words by which programs hold primitives, made so that a leak scan can tell a live one from a stale copy.
//!
//! A handle is one word, `core index | tag`. The tag is unique among the live handles of its core. Moving a value in Rust
//! leaves its old bytes behind; a scan that took each of them for a reference would find hardly any leak. So:
//!
//! - A word counts only while its tag is allocated. Dropping a handle frees its tag, and all stale copies of the word
//!   are dead.
//! - *Retag on touch*: a handle remembers the address where it was used last. An operation at another address proves
//!   that it has moved, for `&self` shows where the one live handle is; the handle takes a fresh tag in place, and the
//!   copies that the move left behind are dead. A handle that is used for the first time near where it was made keeps
//!   its tag: its copies are on the same stack, and a scan finds them wherever it finds the handle (see [`home`]).
//! - The exact word must exist in the machine for as long as the handle lives. The compiler sees through `index | tag`
//!   and may keep the parts in different registers, so the word passes through an opaque instruction when it is made
//!   and when it is consumed. A handle is never `Freeze`, so it is not cached across an operation either.
//!
//! # The retag protocol
//!
//! Several threads may touch one `&handle` at its new address at the same time. Each does: allocate a new tag; compare and
//! swap the word; the winner frees the old tag, a loser frees its own. In this order the word in memory has an
//! allocated tag at every moment. A toucher that finds the tag of the word it has read unallocated reads the word again:
//! if it has changed, somebody else has retagged it; if not, the handle is a bitwise copy of one that has been
//! retagged or dropped, which safe code cannot make. Then the core is marked as aliased, and a scan says nothing about it.

pub(crate) mod exclusive;
mod extension;
mod home;
pub(crate) mod lazy;
#[cfg(all(test, loom))]
mod model;
pub(crate) mod tagged;
pub(crate) mod tags;
pub(crate) mod word;

use std::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    panic::Location,
};

use super::core::{self, Body, Core};
use tagged::Tagged;
use word::{Word, core_of};

/// A counted reference to a core of kind `B`.
pub(crate) struct Handle<B: Body> {
    tagged: Tagged,
    body: PhantomData<*const B>,
}

impl<B: Body> Handle<B> {
    pub(crate) fn new(body: B, created_at: &'static Location<'static>) -> Self {
        let index = core::allocate(body, created_at);
        let core = core::core(index);
        Self::from_word(Word::new(index, core.tags.allocate()), core)
    }

    /// A handle to nothing. It must not be asked for its core.
    pub(crate) fn nil() -> Self {
        Self { tagged: Tagged::nil(), body: PhantomData }
    }

    #[inline]
    pub(crate) fn is_nil(&self) -> bool {
        self.tagged.is_nil()
    }

    fn from_word(word: Word, core: &Core) -> Self {
        Self { tagged: Tagged::new(word, core), body: PhantomData }
    }

    /// The core, for the duration of a borrow. Every use of a handle comes through here: it is the touch.
    #[inline]
    pub(crate) fn core(&self) -> Locker<'_, B> {
        Locker::new(core_of(self, core::core(self.tagged.touch().index())))
    }

    /// Gives the handle up. If it was the last one, takes something out of the body before that ends.
    pub(crate) fn take_if_last<R>(self, take: impl FnOnce(&mut B) -> R) -> Option<R> {
        let word = ManuallyDrop::new(self).tagged.end()?;
        let core = core::core(word.index());
        if !core.tags.release(word.tag()) {
            return None;
        }
        // SAFETY: no handle is left, and cores are reached through handles only.
        let taken = take(unsafe { &mut *core.body::<B>() });
        // SAFETY: as above.
        unsafe { core::free::<B>(word.index()) };
        Some(taken)
    }

    /// The word as it is in memory now.
    #[cfg(test)]
    pub(crate) fn bits(&self) -> u64 {
        self.tagged.word().bits()
    }
}

impl<B: Body> Clone for Handle<B> {
    fn clone(&self) -> Self {
        if self.is_nil() {
            return Self::nil();
        }
        let locker = self.core();
        Self::from_word(Word::new(self.tagged.word().index(), locker.core.tags.allocate()), locker.core)
    }
}

impl<B: Body> Drop for Handle<B> {
    fn drop(&mut self) {
        let Some(word) = self.tagged.end() else { return };
        let index = word.index();
        if core::core(index).tags.release(word.tag()) {
            // SAFETY: no handle is left, and cores are reached through handles only.
            unsafe { core::free::<B>(index) };
        }
    }
}

/// A core that a borrow of a handle keeps alive.
pub(crate) struct Locker<'a, B> {
    core: &'static Core,
    body: PhantomData<&'a B>,
}

impl<B> Clone for Locker<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Locker<'_, B> {}

impl<'a, B: Body> Locker<'a, B> {
    #[inline]
    fn new(core: &'static Core) -> Self {
        Self { core, body: PhantomData }
    }

    /// The core itself, which outlives even its use as this one.
    pub(crate) fn memory(self) -> &'static Core {
        self.core
    }

    /// The core and its body, for a primitive that guards the body itself.
    ///
    /// # Safety
    /// The body is shared: what changes in it must be atomic, or guarded by the core's lock. Nobody may use
    /// [`Locker::lock`] with such a body.
    #[inline]
    pub(crate) unsafe fn shared(self) -> (&'a Core, &'a B) {
        // SAFETY: the core holds a `B`; the rest is the caller's promise.
        (self.core, unsafe { &*self.core.body::<B>() })
    }

    /// Locks the core's body.
    #[inline]
    pub(crate) fn lock(self) -> Locked<'a, B> {
        self.core.lock();
        Locked { core: self.core, body: PhantomData }
    }

    /// The body of a core that is locked already.
    ///
    /// # Safety
    /// The caller must hold the lock for as long as it uses the reference, and have no other.
    pub(crate) unsafe fn assume_locked(self) -> &'a mut B {
        // SAFETY: the core holds a `B`; the caller holds its lock.
        unsafe { &mut *self.core.body::<B>() }
    }
}

/// Exclusive access to a core's body. No task may park, and no user code may run, while it exists.
pub(crate) struct Locked<'a, B: Body> {
    core: &'a Core,
    body: PhantomData<&'a mut B>,
}

impl<B: Body> Deref for Locked<'_, B> {
    type Target = B;

    fn deref(&self) -> &B {
        // SAFETY: the core holds a `B`, and its lock is held.
        unsafe { &*self.core.body::<B>() }
    }
}

impl<B: Body> DerefMut for Locked<'_, B> {
    fn deref_mut(&mut self) -> &mut B {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { &mut *self.core.body::<B>() }
    }
}

impl<B: Body> Drop for Locked<'_, B> {
    fn drop(&mut self) {
        // SAFETY: locked when this was made.
        unsafe { self.core.unlock() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::core::Kind;
    use std::{
        ptr,
        sync::{Arc, atomic::Ordering},
    };

    struct Probe(Arc<()>);

    impl Body for Probe {
        const KIND: Kind = Kind::WaitGroup;
    }

    fn probe() -> (Handle<Probe>, Arc<()>) {
        let alive = Arc::new(());
        (Handle::new(Probe(alive.clone()), Location::caller()), alive)
    }

    fn live<B: Body>(handle: &Handle<B>, bits: u64) -> bool {
        let word = Word::from_bits(bits);
        let index = Word::from_bits(handle.bits()).index();
        word.index() == index && core::core(index).tags.is_live(word.tag())
    }

    #[test]
    fn the_core_lives_as_long_as_its_handles() {
        let (first, alive) = probe();
        let second = first.clone();
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(first);
        assert_eq!(Arc::strong_count(&alive), 2);
        assert!(Arc::ptr_eq(&second.core().lock().0, &alive));
        drop(second);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_touch_at_a_new_address_kills_the_old_word() {
        let (handle, _alive) = probe();
        let mut places = [Some(handle), None];
        places[0].as_ref().unwrap().core();
        let before = places[0].as_ref().unwrap().bits();
        places[0].as_ref().unwrap().core();
        assert_eq!(places[0].as_ref().unwrap().bits(), before, "touched where it was: the same word");
        places.swap(0, 1);
        let moved = places[1].as_ref().unwrap();
        assert_eq!(moved.bits(), before, "moved, not touched");
        assert!(live(moved, before));
        moved.core();
        assert_ne!(moved.bits(), before);
        assert!(live(moved, moved.bits()));
        assert!(!live(moved, before), "the copy left behind is dead");
    }

    #[test]
    fn a_dropped_clone_is_dead_and_tags_do_not_return_soon() {
        let (handle, _alive) = probe();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let clone = handle.clone();
            assert!(live(&handle, clone.bits()));
            let bits = clone.bits();
            drop(clone);
            assert!(!live(&handle, bits));
            assert!(seen.insert(bits), "a word came back to life");
        }
    }

    #[test]
    fn threads_touching_one_handle_agree() {
        for _ in 0..500 {
            let (handle, _alive) = probe();
            let handle = Box::new(handle);
            let index = Word::from_bits(handle.bits()).index();
            struct Shared<'a>(&'a Handle<Probe>);
            // SAFETY: the probe's body is Sync; handles are shared between threads by primitives that are.
            unsafe impl Sync for Shared<'_> {}
            let shared = &Shared(&handle);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(move || {
                        let Shared(handle) = shared;
                        handle.core();
                    });
                }
            });
            assert!(live(&handle, handle.bits()));
            assert!(!core::core(index).aliased.load(Ordering::Relaxed));
            assert_eq!(core::core(index).tags.count(), 1, "losers have given their tags back");
        }
    }

    #[test]
    fn a_bitwise_copy_marks_the_core() {
        let (handle, _alive) = probe();
        let handle = Box::new(handle);
        handle.core();
        // SAFETY: what this test is about; the copy is never dropped.
        let copy = std::mem::ManuallyDrop::new(unsafe { ptr::read(&*handle) });
        let core = core::core(Word::from_bits(handle.bits()).index());
        copy.core(); // at a new address: takes the tag away from the original
        assert!(!core.aliased.load(Ordering::Relaxed));
        handle.tagged.set_moved(); // as if the original had moved
        handle.core();
        assert!(core.aliased.load(Ordering::Relaxed));
        // The original's tag is gone; put it in order for the drop.
        handle.tagged.set_bits(copy.bits());
    }
}
