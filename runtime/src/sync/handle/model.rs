//! Models of the handles: retagging while a scan looks, clones that come and go, and the first use of a lazy one.

use std::{panic::Location, sync::atomic::Ordering};

use loom::{sync::Arc, thread};

use super::{
    Handle,
    exclusive::{Exclusive, ExclusiveWord, Generations, words},
    lazy::LazyHandle,
    tagged::Tagged,
    word::Word,
};
use crate::{
    sync::core::{self, Body, Kind},
    sys::{
        atomic::AtomicBool,
        model::{Checked, check},
    },
};

/// Its value is checked by loom: whoever looks at it must come after whoever has changed it.
#[derive(Default)]
struct Probe(Arc<Checked>);

impl Body for Probe {
    const KIND: Kind = Kind::WaitGroup;

    fn destroy(&mut self) {
        self.0.add(100);
    }
}

/// Handles to a probe, for several threads.
struct Shared<H>(H);

// SAFETY: the probe is used under the core's lock only.
unsafe impl<H> Send for Shared<H> {}
// SAFETY: as above.
unsafe impl<H> Sync for Shared<H> {}

/// Looks at a word as a scan does. If the word is said to be dead, the one that has come in its place must be visible.
fn scan(word: impl Fn() -> u64, is_live: impl Fn(u64) -> bool) {
    let before = word();
    assert!(is_live(before) || word() != before, "a scan takes the only handle for a stale copy");
}

#[test]
fn retag_by_two_threads_under_a_scan() {
    check(3, 1_000, || {
        let index = core::allocate(Probe::default(), Location::caller());
        let tags = &core::core(index).tags;
        // Never touched, which is the same as moved.
        let tagged = Arc::new(Tagged::new(Word::new(index, tags.allocate()), core::core(index)));
        let touchers = [(); 2].map(|()| {
            let tagged = tagged.clone();
            thread::spawn(move || assert_eq!(tagged.touch().index(), index))
        });
        let scanned = || scan(|| tagged.scanned().bits(), |word| tags.is_live(Word::from_bits(word).tag()));
        scanned();
        scanned();
        touchers.into_iter().for_each(|toucher| toucher.join().unwrap());
        assert_eq!(tags.count(), 1, "losers have given their tags back");
        assert!(tags.is_live(tagged.word().tag()));
        assert!(!core::core(index).aliased.load(Ordering::Relaxed));
        assert!(tags.release(tagged.word().tag()));
        // SAFETY: the only word is gone.
        unsafe { core::free::<Probe>(index) };
    });
}

#[test]
fn clone_against_touch_of_a_moved_handle() {
    check(3, 1_000, || {
        let handle = Arc::new(Shared(Handle::new(Probe::default(), Location::caller())));
        let other = {
            let handle = handle.clone();
            thread::spawn(move || {
                let clone = handle.0.clone();
                let word = clone.tagged.word();
                assert!(core::core(word.index()).tags.is_live(word.tag()));
            })
        };
        handle.0.core();
        other.join().unwrap();
        let word = handle.0.tagged.word();
        let core = core::core(word.index());
        assert_eq!(core.tags.count(), 1);
        assert!(core.tags.is_live(word.tag()) && !core.aliased.load(Ordering::Relaxed));
    });
}

/// Whoever drops the last handle destroys the body, once, after all that the others have done with it.
#[test]
fn the_last_of_two_handles_destroys() {
    check(3, 50, || {
        let value = Arc::default();
        let handles = {
            let first = Handle::new(Probe(Arc::clone(&value)), Location::caller());
            [Shared(first.clone()), Shared(first)]
        };
        let users = handles.map(|handle| {
            thread::spawn(move || {
                let handle = handle; // all of it
                handle.0.core().lock().0.add(1);
            })
        });
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!(value.read(), 102);
    });
}

#[test]
fn two_threads_use_a_lazy_handle_first() {
    check(3, 100, || {
        let handle = Arc::new(Shared(LazyHandle::<Probe>::new()));
        let other = {
            let handle = handle.clone();
            thread::spawn(move || handle.0.core().lock().0.add(1))
        };
        handle.0.core().lock().0.add(1);
        other.join().unwrap();
        assert_eq!(handle.0.core().lock().0.read(), 2);
    });
}

#[derive(Default)]
struct Locked {
    generations: Generations,
    held: AtomicBool,
}

impl Body for Locked {
    const KIND: Kind = Kind::Mutex;
}

impl Exclusive for Locked {
    fn generations(&self) -> &Generations {
        &self.generations
    }

    fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }
}

/// A guard that two threads share starts two generations while a scan looks at it.
#[test]
fn a_guard_is_retagged_under_a_scan() {
    check(3, 100, || {
        let index = core::allocate(Locked::default(), Location::caller());
        let core = core::core(index);
        // SAFETY: what the core holds; all of it is atomic.
        let locked = unsafe { &*core.body::<Locked>() };
        locked.held.store(true, Ordering::Release);
        let guard = Arc::new(ExclusiveWord::<Locked>::new(index, &locked.generations));
        let users = [false, true].map(|moves| {
            let guard = guard.clone();
            thread::spawn(move || {
                if moves {
                    guard.set_moved();
                }
                guard.touch();
            })
        });
        let scanned = || scan(|| guard.scanned(), |word| words::<Locked>(index, core).any(|valid| valid == word));
        scanned();
        scanned();
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!(words::<Locked>(index, core).collect::<Vec<_>>(), [guard.scanned()], "one generation is left");
        // SAFETY: nobody uses the core any more.
        unsafe { core::free::<Locked>(index) };
    });
}
