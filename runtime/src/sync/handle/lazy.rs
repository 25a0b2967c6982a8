//! A handle that gets its core when it is first used, which is what lets a primitive be made in a `const`.
//!
//! It is the one handle of its core: the object that contains it stands for the primitive, and whoever reaches the object
//! reaches the word.

use std::{marker::PhantomData, panic::Location};

use super::{
    super::core::{self, Body},
    Locker,
    tagged::Tagged,
    word::{Word, core_of},
};
use crate::sys::atomic::const_unless_loom;

pub(crate) struct LazyHandle<B: Body> {
    tagged: Tagged,
    body: PhantomData<*const B>,
}

impl<B: Body> LazyHandle<B> {
    const_unless_loom! {
        pub(crate) const fn new() -> Self {
            Self { tagged: Tagged::nil(), body: PhantomData }
        }
    }

    /// The core, if there is one yet.
    #[inline]
    pub(crate) fn existing(&self) -> Option<Locker<'_, B>> {
        (!self.tagged.is_nil()).then(|| Locker::new(core_of(self, core::core(self.tagged.touch().index()))))
    }
}

impl<B: Body + Default> LazyHandle<B> {
    /// The core, made now if need be.
    #[inline]
    #[track_caller]
    pub(crate) fn core(&self) -> Locker<'_, B> {
        if self.tagged.is_nil() {
            self.make();
        }
        Locker::new(core_of(self, core::core(self.tagged.touch().index())))
    }

    #[cold]
    #[track_caller]
    fn make(&self) {
        let index = core::allocate(B::default(), Location::caller());
        let tags = &core::core(index).tags;
        let tag = tags.allocate();
        if !self.tagged.publish(Word::new(index, tag)) {
            tags.release(tag);
            // SAFETY: made above, and known to nobody.
            unsafe { core::free::<B>(index) };
        }
    }
}

impl<B: Body> Drop for LazyHandle<B> {
    fn drop(&mut self) {
        let Some(word) = self.tagged.end() else { return };
        let last = core::core(word.index()).tags.release(word.tag());
        debug_assert!(last, "there is one handle");
        // SAFETY: the only handle is gone, and cores are reached through handles only.
        unsafe { core::free::<B>(word.index()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::core::Kind;

    #[derive(Default)]
    struct Probe(u64);

    impl Body for Probe {
        const KIND: Kind = Kind::WaitGroup;
    }

    fn live(word: Word) -> bool {
        core::core(word.index()).tags.is_live(word.tag())
    }

    #[test]
    fn it_has_no_core_until_it_is_used() {
        let handle = LazyHandle::<Probe>::new();
        assert!(handle.existing().is_none());
        handle.core().lock().0 = 7;
        assert_eq!(handle.existing().unwrap().lock().0, 7);
        let word = handle.tagged.word();
        assert!(live(word));
        let moved = Box::new(handle);
        assert_eq!(moved.core().lock().0, 7);
        assert!(!live(word) && live(moved.tagged.word()), "retagged where it is now");
        let word = moved.tagged.word();
        drop(moved);
        assert!(!live(word));
    }

    #[test]
    fn threads_that_use_it_first_agree() {
        struct Shared<'a>(&'a LazyHandle<Probe>);
        // SAFETY: the probe is only reached through the core's lock.
        unsafe impl Sync for Shared<'_> {}
        for _ in 0..300 {
            let handle = LazyHandle::<Probe>::new();
            let shared = &Shared(&handle);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(move || {
                        let Shared(handle) = shared;
                        handle.core().lock().0 += 1;
                    });
                }
            });
            assert_eq!(handle.core().lock().0, 3);
            assert_eq!(core::core(handle.tagged.word().index()).tags.count(), 1);
        }
    }
}
