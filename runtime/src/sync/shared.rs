//! Shared ownership of a value, by handles that a leak scan can tell from their stale copies.

use std::{
    fmt,
    mem::{self, ManuallyDrop},
    ops::Deref,
    panic::Location,
    ptr,
};

use super::{
    core::{Body, Core, Kind},
    handle::Handle,
};
use crate::sys::preserved;

/// A value with several owners, as std's `Arc`: it is dropped with the last of them. Other than those of an `Arc`, its pointers have
/// an identity.
///
/// A leak scan looks through memory word by word. A pointer that was moved out of a variable is still in that variable's bytes, and
/// looks like any other: while the function that has moved an `Arc` into a task runs on, what is in the `Arc` counts as reachable,
/// and a task that waits for it is not found to be leaked. The word of a `Shared` counts only where it was used last, as that of a
/// [`Chan`](super::Chan) does. So share what contains channels and locks by this if leaks are to be found early; where the function
/// returns soon, an `Arc` is as good.
///
/// It costs more: 128 bytes beside the value, some 5 ns to clone and drop, and one or two to use. There are no weak references, and
/// the value has a size.
///
/// ```
/// use greenprof_runtime::{Runtime, spawn, sync::{Chan, Shared}};
///
/// struct Jobs { queue: Chan<u32>, done: Chan<u32> }
///
/// Runtime::builder().workers(1).build()?.run(|| {
///     let jobs = Shared::new(Jobs { queue: Chan::new(), done: Chan::new() });
///     let theirs = jobs.clone();
///     spawn(move || theirs.queue.iter().for_each(|job| theirs.done.send(2 * job).expect("open")));
///     jobs.queue.send(21).unwrap();
///     assert_eq!(jobs.done.recv(), Some(42));
///     jobs.queue.close();
/// });
/// # Ok::<(), greenprof_runtime::BuildError>(())
/// ```
pub struct Shared<T> {
    /// Dropped by `release`.
    handle: ManuallyDrop<Handle<State<T>>>,
}

// SAFETY: all owners use the value by shared references, and the last one, whichever it is, drops it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

#[repr(C)] // so that one who does not know `T` finds the value
pub(super) struct State<T> {
    /// A box in the program's heap, until the last owner takes it: then null.
    value: *mut T,
}

impl<T> Body for State<T> {
    const KIND: Kind = Kind::Shared;

    fn destroy(&mut self) {
        // Out of the core, in which a leak scan does not look any more: the value's destructor may wait, and may be what somebody
        // waits for.
        drop(self.take());
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<Box<T>> {
        let value = mem::replace(&mut self.value, ptr::null_mut());
        // SAFETY: null, or made from a box, and nobody else has it any more.
        (!value.is_null()).then(|| unsafe { Box::from_raw(value) })
    }
}

/// The address of the value of whatever type, for one who looks from outside; that of a value without bytes is none of memory.
pub(super) fn value(core: &Core) -> usize {
    // SAFETY: the core is that of a shared value. Where its address lies does not depend on its type, and it may have any value.
    unsafe { (&raw const (*core.peek::<State<()>>()).value).read() as usize }
}

impl<T> Shared<T> {
    /// Takes a value into shared ownership. Allocates it.
    #[track_caller]
    pub fn new(value: T) -> Self {
        let value = Box::into_raw(Box::new(value));
        Self::of(Handle::new(State { value }, Location::caller()))
    }

    fn of(handle: Handle<State<T>>) -> Self {
        Self { handle: ManuallyDrop::new(handle) }
    }

    /// Not inlined, so that dropping is little else than a call, and is inlined itself.
    ///
    /// # Safety
    /// Only once, and the handle is not used any more.
    #[inline(never)]
    unsafe fn release(&mut self) {
        // SAFETY: the caller's promise.
        unsafe { ManuallyDrop::drop(&mut self.handle) };
    }

    /// Whether both own the same value.
    ///
    /// ```
    /// use greenprof_runtime::sync::Shared;
    ///
    /// let (one, other) = (Shared::new(1), Shared::new(1));
    /// assert!(Shared::ptr_eq(&one, &one.clone()) && !Shared::ptr_eq(&one, &other));
    /// ```
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        ptr::eq(this.handle.core().memory(), other.handle.core().memory())
    }

    /// Gives the value back if this is its last owner; otherwise there is one owner less. Of several threads that give their owners
    /// up by this, exactly one gets the value.
    ///
    /// ```
    /// use greenprof_runtime::sync::Shared;
    ///
    /// let shared = Shared::new(String::from("value"));
    /// let other = shared.clone();
    /// assert_eq!(Shared::into_inner(shared), None);
    /// assert_eq!(Shared::into_inner(other).as_deref(), Some("value"));
    /// ```
    pub fn into_inner(this: Self) -> Option<T> {
        let mut this = ManuallyDrop::new(this);
        // SAFETY: used only this once, because `this` is not dropped.
        let handle = unsafe { ManuallyDrop::take(&mut this.handle) };
        handle.take_if_last(State::take).flatten().map(|value| *value)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the body does not change, and nobody locks the core.
        let (_, state) = unsafe { self.handle.core().shared() };
        // SAFETY: the value lives as long as there is an owner, and there are only shared references to it.
        unsafe { &*state.value }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self::of(Handle::clone(&self.handle))
    }
}

impl<T> Drop for Shared<T> {
    #[inline(always)] // for `forget`: references to the value that the caller has made by this owner are not needed any more
    fn drop(&mut self) {
        // SAFETY: nothing comes after this.
        unsafe { self.release() };
        preserved::forget();
    }
}

impl<T: Default> Default for Shared<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Shared<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Primitive;
    use std::{
        panic,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    /// Counts its drops.
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_value_is_dropped_once_with_the_last_owner_whichever_thread_that_is() {
        for _ in 0..200 {
            let drops = Arc::new(AtomicUsize::new(0));
            let shared = Shared::new(Counted(drops.clone()));
            thread::scope(|scope| {
                for _ in 0..3 {
                    let theirs = shared.clone();
                    scope.spawn(move || assert_eq!(theirs.0.load(Ordering::Relaxed), 0));
                }
                drop(shared);
            });
            assert_eq!(drops.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn one_of_all_owners_gets_the_value() {
        for _ in 0..200 {
            let drops = Arc::new(AtomicUsize::new(0));
            let shared = Shared::new(Counted(drops.clone()));
            let got = thread::scope(|scope| {
                let others = [shared.clone(), shared.clone()].map(|other| scope.spawn(|| Shared::into_inner(other)));
                let own = Shared::into_inner(shared);
                others.into_iter().map(|other| other.join().expect("no panic")).chain([own]).flatten().count()
            });
            assert_eq!((got, drops.load(Ordering::Relaxed)), (1, 1));
        }
    }

    #[test]
    fn a_destructor_may_panic() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic::resume_unwind(Box::new("in a destructor"));
            }
        }
        let shared = Shared::new(Panics);
        let unwound = panic::catch_unwind(panic::AssertUnwindSafe(|| drop(shared)));
        assert!(unwound.is_err());
        assert_eq!(*Shared::new(7), 7, "others go on");
    }

    #[test]
    fn it_looks_like_its_value() {
        let shared = Shared::from(vec![1, 2]);
        assert_eq!(
            (shared.len(), shared.as_ref().capacity() >= 2, format!("{shared:?}")),
            (2, true, "[1, 2]".to_owned())
        );
        assert_eq!(*Shared::<u32>::default(), 0);
        let none = Shared::new(());
        assert_eq!(*none.clone(), ());
    }

    #[test]
    fn a_scan_finds_the_value_by_a_live_word_and_not_by_a_stale_one() {
        let line = line!() + 1;
        let shared = Shared::new([1_u64; 4]);
        let _touch = shared[0];
        let before = shared.handle.bits();
        let primitive = Primitive::held_by(before).expect("a live word");
        assert_eq!((primitive.kind(), primitive.buffer()), (Some(Kind::Shared), ptr::from_ref(&*shared) as usize));
        assert_eq!(primitive.created_at().map(Location::line), Some(line));
        let moved = Box::new(shared);
        assert_eq!(moved[3], 1);
        assert_eq!(Primitive::held_by(before), None, "what the move has left behind");
        assert_eq!(Primitive::held_by(moved.handle.bits()), Some(primitive));
    }
}
