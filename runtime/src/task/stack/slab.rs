//! Slabs: large reserved ranges, cut into stack slots of one size, and the table of all of them.
//!
//! Slabs are never given back, and the table only grows. So it can be read without a lock, by the overflow handler (in a
//! signal) and by whoever looks at all tasks.

use std::{
    io,
    ops::Range,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
};

use super::{GUARD, index};
use crate::{
    SpawnError, heap,
    sys::memory,
    task::{chain::Batch, control::Control},
};

/// Enough for 4096 slabs of 256 MiB: a TiB of stacks.
pub(super) const MAX_SLABS: usize = 4096;

/// The most slots that are opened at once.
pub(crate) const MOST_OPENED: usize = 32;
const _: () = assert!(MOST_OPENED <= memory::MOST_RANGES);

static SLABS: [AtomicPtr<Slab>; MAX_SLABS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_SLABS];
static SLAB_COUNT: AtomicUsize = AtomicUsize::new(0);
static SLOT_COUNT: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Slab {
    base: *mut u8,
    /// The number of its first slot among those of all slabs.
    first: usize,
    stride: usize,
    slots: usize,
    /// One bit a slot: set when its control block exists.
    ready: Box<[AtomicU64]>,
}

// SAFETY: the base is an address that stays mapped; what lies there is guarded by `ready` and by the pool.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

impl Slab {
    /// Reserves a slab and enters it in the table. It lives for ever.
    pub(crate) fn reserve(stride: usize, slots: usize) -> Result<&'static Slab, SpawnError> {
        let bytes = (stride * slots).next_multiple_of(index::UNIT);
        let base = memory::reserve(bytes, index::UNIT).map_err(SpawnError::OutOfMemory)?;
        let ready = heap::untracked(|| (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect());
        // Relaxed: numbers that no other slab has.
        let first = SLOT_COUNT.fetch_add(slots, Ordering::Relaxed);
        let slab = Slab { base, first, stride, slots, ready };
        // Relaxed: the index is only a ticket.
        let number = SLAB_COUNT.fetch_add(1, Ordering::Relaxed);
        let Some(entry) = SLABS.get(number) else {
            SLAB_COUNT.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: nobody else knows the mapping.
            unsafe { memory::unmap(base, bytes) };
            return Err(SpawnError::OutOfMemory(io::Error::from_raw_os_error(libc::ENOMEM)));
        };
        let slab: &'static Slab = heap::untracked(|| Box::leak(Box::new(slab)));
        // Release: pairs with the Acquire in `all` and in `control_at`.
        entry.store(ptr::from_ref(slab).cast_mut(), Ordering::Release);
        index::enter(base as usize..base as usize + bytes, number);
        Ok(slab)
    }

    /// All slabs, without a lock.
    pub(crate) fn all() -> impl Iterator<Item = &'static Slab> {
        SLABS.iter().take(SLAB_COUNT.load(Ordering::Relaxed)).filter_map(|slab| {
            // SAFETY: null, or a leaked slab. Acquire: pairs with the Release in `reserve`.
            unsafe { slab.load(Ordering::Acquire).as_ref() }
        })
    }

    /// Above the number of every slot there is.
    pub(crate) fn bound() -> usize {
        SLOT_COUNT.load(Ordering::Relaxed)
    }

    /// Where it lies, and the number of its first slot.
    pub(crate) fn place(&self) -> (Range<usize>, usize) {
        let base = self.base as usize;
        (base..base + self.stride * self.slots, self.first)
    }

    /// The number of the slot that an address lies in, and its control block; see [`Slab::control_at`].
    #[inline]
    pub(crate) fn slot_at(address: usize) -> Option<(usize, NonNull<Control>)> {
        let (slab, slot) = Self::find(address)?;
        Some((slab.first + slot, slab.control(slot)))
    }

    /// The control block of the slot that an address lies in, which may be any word: in the guard, the stack, or the block
    /// itself. Takes constant time, and neither locks nor allocates.
    pub(crate) fn control_at(address: usize) -> Option<NonNull<Control>> {
        let (slab, slot) = Self::find(address)?;
        Some(slab.control(slot))
    }

    fn find(address: usize) -> Option<(&'static Slab, usize)> {
        let entry = &SLABS[index::slab_at(address)?];
        // SAFETY: null, or a leaked slab. Acquire: pairs with the Release in `reserve`.
        let slab = unsafe { entry.load(Ordering::Acquire).as_ref() }?;
        // Strides are powers of two.
        let slot = (address - slab.base as usize) >> slab.stride.trailing_zeros();
        (slot < slab.slots && slab.is_ready(slot)).then_some((slab, slot))
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Makes the guards and the control blocks of slots that have been handed out for the first time. All or none: if it
    /// fails it may be tried again.
    ///
    /// # Safety
    /// Only one caller may ever succeed for a slot.
    pub(crate) unsafe fn open(&self, slots: Range<usize>) -> Result<Batch, SpawnError> {
        debug_assert!(!slots.is_empty() && slots.len() <= MOST_OPENED && slots.end <= self.slots);
        let mut guards = [const { 0..0 }; MOST_OPENED];
        let slot = |index: usize| self.base as usize + index * self.stride;
        for (guard, index) in guards.iter_mut().zip(slots.clone()) {
            *guard = slot(index)..slot(index) + GUARD;
        }
        // SAFETY: the slots are inside the slab, and unused as the caller says.
        unsafe { memory::guard_all(&guards[..slots.len()]) }.map_err(SpawnError::OutOfMappings)?;
        let opened = slots.map(|index| {
            let control = self.control(index);
            // SAFETY: as above; the block's memory is known to nobody yet.
            unsafe { Control::init(control, slot(index) + GUARD, self.stride) };
            // Release: pairs with the Acquire in `controls`.
            self.ready[index / 64].fetch_or(1 << (index % 64), Ordering::Release);
            control
        });
        Ok(Batch::link(opened).expect("there is a slot"))
    }

    fn control(&self, index: usize) -> NonNull<Control> {
        // SAFETY: the end of a slot is inside the slab's mapping, or one past it, and a control block lies below.
        unsafe { NonNull::new_unchecked(self.base.add((index + 1) * self.stride).cast::<Control>().sub(1)) }
    }

    /// The control blocks that exist.
    pub(crate) fn controls(&self) -> impl Iterator<Item = NonNull<Control>> {
        self.ready.iter().enumerate().flat_map(move |(word, bits)| {
            // Acquire: pairs with the Release in `open`.
            let bits = bits.load(Ordering::Acquire);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| self.control(word * 64 + bit))
        })
    }

    /// The control blocks that exist among the slots of these numbers.
    pub(crate) fn controls_among(numbers: Range<usize>) -> impl Iterator<Item = NonNull<Control>> {
        Self::all().flat_map(move |slab| {
            let index = |number: usize| number.saturating_sub(slab.first).min(slab.slots);
            (index(numbers.start)..index(numbers.end)).filter_map(|index| slab.existing(index))
        })
    }

    /// The control block of a slot, if it exists.
    pub(crate) fn existing(&self, index: usize) -> Option<NonNull<Control>> {
        // Acquire: pairs with the Release in `open`.
        let ready = index < self.slots && self.ready.get(index / 64)?.load(Ordering::Acquire) >> (index % 64) & 1 == 1;
        ready.then(|| self.control(index))
    }

    /// How many control blocks exist.
    pub(crate) fn existing_count(&self) -> usize {
        // Relaxed: only a number.
        self.ready.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }

    /// The control block above the guard that `address` lies in, if it lies in one.
    pub(crate) fn guard_hit(&self, address: usize) -> Option<NonNull<Control>> {
        let offset = address.checked_sub(self.base as usize)?;
        let index = offset / self.stride;
        (index < self.slots && offset % self.stride < GUARD && self.is_ready(index)).then(|| self.control(index))
    }

    /// Whether the slot's control block exists.
    fn is_ready(&self, slot: usize) -> bool {
        // Acquire: pairs with the Release in `open`.
        self.ready[slot / 64].load(Ordering::Acquire) >> (slot % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_guards_are_found() {
        let stride = 64 << 10;
        let slab = Slab::reserve(stride, 3).unwrap();
        assert_eq!(slab.controls().count(), 0);
        assert_eq!(Slab::control_at(slab.base as usize), None, "not opened yet");
        // SAFETY: each slot is opened once.
        let (first, others) = unsafe { (slab.open(0..1).unwrap(), slab.open(1..3).unwrap()) };
        let controls: Vec<_> = first.followed_by(others).into_iter().collect();
        assert_eq!(slab.controls().collect::<Vec<_>>(), controls);
        assert_eq!((0..5).filter_map(|i| slab.existing(i)).collect::<Vec<_>>(), controls);
        assert_eq!(slab.existing_count(), 3);
        for (i, control) in controls.iter().enumerate() {
            // SAFETY: opened above.
            let stack = unsafe { control.as_ref() }.stack();
            assert_eq!(stack.start, slab.base as usize + i * stride + GUARD);
            assert_eq!(slab.guard_hit(stack.start - 1), Some(*control));
            assert_eq!(slab.guard_hit(stack.start), None);
            for address in
                [stack.start - GUARD, stack.start, stack.start + 12_345, stack.end, stack.start - GUARD + stride - 1]
            {
                assert_eq!(Slab::control_at(address), Some(*control));
            }
            // SAFETY: the lowest word of an unused stack.
            unsafe { (stack.start as *mut usize).write(1) };
        }
        let end = slab.base as usize + 3 * stride;
        assert_eq!(slab.guard_hit(end), None);
        assert_eq!(Slab::control_at(end), None, "the rest of the unit is in no slot");
        assert_eq!(Slab::control_at(slab.base as usize - 1).filter(|control| controls.contains(control)), None);
        assert_eq!(Slab::control_at(ptr::from_ref(&end) as usize), None, "the stack of a thread");
        assert!(Slab::all().any(|s| ptr::eq(s, slab)));
    }
}
