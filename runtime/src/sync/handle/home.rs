//! Where the owner of a word was used last, by which a use tells that the owner has moved.
//!
//! An owner that has not been used yet has no such place. It has one where it was *made*: somewhere on the stack of
//! whoever made it. A first use near that place says that the owner has only been passed up a few frames, or from one
//! local to another, of one stack. The copies that this has left behind are on that stack, as the owner is, so for a
//! scan they say what the owner's own word says; and when the owner moves on, the next use gives it another word. So
//! such a first use only notes the place. One that is far from there, on the heap or on another stack, is like any
//! other after a move.
//!
//! What is lost is an owner that was moved to the heap or to another task, and back to where it was made, before it was
//! used for the first time: its copies out there stay valid until it moves again or ends.

use std::{mem::MaybeUninit, ptr};

use crate::sys::atomic::{AtomicUsize, Ordering, const_unless_loom};

/// Bytes around the place of making. Less than the guard between two stacks, so that both places are on one.
const NEAR: usize = 4096;

/// Set in the address of a place of making; owners are aligned.
const MADE: usize = 1;

/// The complement of an address: not a pointer that a scan would follow.
///
/// All accesses are relaxed. What a use reads is an older value at worst, and then it looks again, or does once more
/// what does no harm.
pub(super) struct Home(AtomicUsize);

impl Home {
    /// Of an owner that is being made in a frame of this stack, by the caller or one that the compiler has put into it.
    #[inline(always)]
    pub(super) fn of_made() -> Self {
        if cfg!(loom) {
            return Self::none(); // a model must not depend on addresses
        }
        let place = MaybeUninit::<usize>::uninit();
        Self(AtomicUsize::new(!(ptr::from_ref(&place) as usize | MADE)))
    }

    const_unless_loom! {
        /// Of an owner without a word.
        pub(super) const fn none() -> Self {
            Self(AtomicUsize::new(0))
        }
    }

    /// Whether the owner was used here last.
    #[inline(always)]
    pub(super) fn is_here(&self) -> bool {
        self.0.load(Ordering::Relaxed) == self.here()
    }

    /// Whether the owner's word is right for where the owner is now. Otherwise it needs another, and then
    /// [`Home::set`].
    #[inline(always)]
    pub(super) fn is_right(&self) -> bool {
        let home = self.0.load(Ordering::Relaxed);
        let here = self.here();
        if home == here {
            return true;
        }
        let near = is_near(home, here);
        if near {
            self.0.store(here, Ordering::Relaxed);
        }
        near
    }

    /// As `is_right`, with nothing that keeps the compiler from doing without the memory.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) fn is_right_mut(&mut self) -> bool {
        let home = *self.0.get_mut();
        let here = self.here();
        if home == here {
            return true;
        }
        let near = is_near(home, here);
        if near {
            *self.0.get_mut() = here;
        }
        near
    }

    #[cfg(loom)]
    pub(super) fn is_right_mut(&mut self) -> bool {
        self.is_right()
    }

    /// The owner has a word for this place.
    #[inline]
    pub(super) fn set(&self) {
        self.0.store(self.here(), Ordering::Relaxed);
    }

    /// As if the owner had just been moved here.
    #[cfg(test)]
    pub(super) fn set_moved(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    #[inline(always)]
    fn here(&self) -> usize {
        !(ptr::from_ref(self) as usize)
    }
}

/// Whether `home` is a place of making, and near `here`.
#[inline(always)]
fn is_near(home: usize, here: usize) -> bool {
    !home & MADE != 0 && home.wrapping_sub(here).wrapping_add(NEAR) < 2 * NEAR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_use_near_the_place_of_making_is_right_where_it_is() {
        let mut places = [Home::of_made(), Home::of_made()];
        assert!(places.iter().all(Home::is_right) && places.iter().all(Home::is_here));
        places.swap(0, 1);
        assert!(!places.iter().any(Home::is_right) && !places.iter_mut().any(Home::is_right_mut), "used, then moved");
        places.iter().for_each(Home::set);
        assert!(places.iter_mut().all(Home::is_right_mut));
        let mut far = Box::new(Home::of_made());
        assert!(!far.is_right() && !far.is_right_mut());
        far.set();
        assert!(far.is_right());
        assert!(!Home::none().is_right());
    }
}
