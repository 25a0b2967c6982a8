//! Free stacks: a list per size that all threads share, and a small cache per worker in front of it.
//!
//! Last in, first out: the stack that was used last is the one whose pages are in the caches.

use std::{
    ptr::{self, NonNull},
    sync::atomic::Ordering,
};

use parking_lot::Mutex;

use super::{CLASSES, Class, slab::Slab};
use crate::{
    SpawnError,
    sys::memory::{self, PAGE},
    task::control::Control,
};

/// Free stacks of one size that keep their pages; what is freed beyond goes back to the system but for its top page.
const KEEP: usize = 1024;

/// Slots of a class's first slab; each further one has twice as many, up to `LARGEST_SLAB`.
const FIRST_SLOTS: usize = 64;
const LARGEST_SLAB: usize = 256 << 20;

static POOL: [Mutex<Free>; CLASSES] = [const { Mutex::new(Free::new()) }; CLASSES];

/// The free stacks of one size.
struct Free {
    /// Linked through `Control::next`.
    head: *mut Control,
    length: usize,
    /// The newest slab and how many of its slots have been handed out.
    slab: Option<(&'static Slab, usize)>,
    /// Slots whose guard could not be made; tried again before new ones.
    unopened: Vec<(&'static Slab, usize)>,
}

// SAFETY: the list is only reached through the mutex around it.
unsafe impl Send for Free {}

impl Free {
    const fn new() -> Self {
        Self { head: ptr::null_mut(), length: 0, slab: None, unopened: Vec::new() }
    }

    fn pop(&mut self) -> Option<NonNull<Control>> {
        let control = NonNull::new(self.head)?;
        // SAFETY: blocks in the list are type-stable. Relaxed: the mutex orders list accesses.
        self.head = unsafe { control.as_ref() }.next.load(Ordering::Relaxed);
        self.length -= 1;
        Some(control)
    }

    fn push(&mut self, control: NonNull<Control>) {
        // SAFETY: as in `pop`.
        let block = unsafe { control.as_ref() };
        if self.length >= KEEP {
            let top_page = control.as_ptr() as usize / PAGE * PAGE;
            let low = block.stack().start;
            // SAFETY: the stack has no task, so what lies below its control block is not needed.
            unsafe { memory::discard(low as *mut u8, top_page - low) };
        }
        block.next.store(self.head, Ordering::Relaxed);
        self.head = control.as_ptr();
        self.length += 1;
    }

    /// A slot that has never been used.
    fn fresh(&mut self, class: Class) -> Result<(&'static Slab, usize), SpawnError> {
        if let Some(slot) = self.unopened.pop() {
            return Ok(slot);
        }
        if let Some((slab, used)) = &mut self.slab
            && *used < slab.slots()
        {
            *used += 1;
            return Ok((slab, *used - 1));
        }
        let largest = (LARGEST_SLAB / class.stride()).max(1);
        let slots = self.slab.map_or(FIRST_SLOTS, |(slab, _)| slab.slots() * 2).min(largest);
        let slab = Slab::reserve(class.stride(), slots)?;
        self.slab = Some((slab, 1));
        Ok((slab, 0))
    }
}

/// A stack of the class, free or new.
pub(crate) fn take(class: Class) -> Result<NonNull<Control>, SpawnError> {
    let (slab, index) = {
        let mut free = POOL[class.index()].lock();
        if let Some(control) = free.pop() {
            return Ok(control);
        }
        free.fresh(class)?
    };
    // SAFETY: `fresh` gives each slot to one caller, and again only if opening it failed.
    unsafe { slab.open(index) }.inspect_err(|_| POOL[class.index()].lock().unopened.push((slab, index)))
}

/// Returns a stack whose task has ended.
pub(crate) fn give(control: NonNull<Control>) {
    POOL[class_of(control).index()].lock().push(control);
}

fn class_of(control: NonNull<Control>) -> Class {
    // SAFETY: control blocks are type-stable. Relaxed: the size never changes.
    Class::of_stride(unsafe { control.as_ref() }.stack_size.load(Ordering::Relaxed))
}

/// A worker's own free stacks, all of its runtime's default size.
pub(crate) struct Cache {
    class: Class,
    stacks: Vec<NonNull<Control>>,
}

impl Cache {
    /// Twice what one exchange with the shared list moves, so that a worker at the border does not exchange each time.
    const CAPACITY: usize = 64;

    pub(crate) fn new(class: Class) -> Self {
        Self { class, stacks: Vec::with_capacity(Self::CAPACITY) }
    }

    pub(crate) fn take(&mut self, class: Class) -> Result<NonNull<Control>, SpawnError> {
        if class != self.class {
            return take(class);
        }
        if let Some(control) = self.stacks.pop() {
            return Ok(control);
        }
        let mut free = POOL[class.index()].lock();
        self.stacks.extend(std::iter::from_fn(|| free.pop()).take(Self::CAPACITY / 2));
        drop(free);
        self.stacks.pop().map_or_else(|| take(class), Ok)
    }

    pub(crate) fn give(&mut self, control: NonNull<Control>) {
        if class_of(control) != self.class {
            return give(control);
        }
        if self.stacks.len() == Self::CAPACITY {
            let mut free = POOL[self.class.index()].lock();
            // The ones at the front were used longest ago.
            self.stacks.drain(..Self::CAPACITY / 2).for_each(|control| free.push(control));
        }
        self.stacks.push(control);
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.stacks.drain(..).for_each(give);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_used_again_and_never_twice_at_once() {
        // A size that nothing else in this process asks for.
        let class = Class::for_size(3 << 20).unwrap();
        let first: Vec<_> = (0..100).map(|_| take(class).unwrap()).collect();
        let mut distinct = first.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 100);
        first.iter().copied().for_each(give);
        let mut cache = Cache::new(class);
        let mut second: Vec<_> = (0..100).map(|_| cache.take(class).unwrap()).collect();
        second.sort();
        assert_eq!(second, distinct, "no new stack while free ones are left");
        second.into_iter().for_each(|control| cache.give(control));
        drop(cache);
        assert_eq!(POOL[class.index()].lock().length, 100);
    }

    #[test]
    fn a_discarded_stack_keeps_its_control_block() {
        let class = Class::for_size(5 << 20).unwrap();
        let controls: Vec<_> = (0..KEEP + 1).map(|_| take(class).unwrap()).collect();
        // SAFETY: taken above; a block is never unmapped.
        let last = unsafe { controls[KEEP].as_ref() };
        let low = last.stack().start as *mut usize;
        // SAFETY: the stack has no task.
        unsafe { low.write(7) };
        last.about.set_name("kept");
        controls.into_iter().for_each(give);
        assert_eq!(last.about.name().unwrap(), "kept");
        // SAFETY: as above.
        assert_eq!(unsafe { low.read() }, 0, "beyond the watermark the pages go back");
    }
}
