//! What a channel is: a buffer, who waits on either side, and whether it is closed.

use std::{
    alloc::{self, Layout},
    marker::PhantomData,
    mem, ptr,
};

use crate::{
    sync::{
        core::{Body, Core, Kind},
        waiter::{self, Outcome, WaitQueue, Waiter},
    },
    task::parker::Parker,
};

/// Guarded by the core's lock. Senders wait only while the buffer is full, receivers only while it is empty.
#[repr(C)] // so that one who does not know `T` finds the buffer
pub(crate) struct State<T> {
    buffer: *mut T,
    /// Values that may be in the buffer; `u32::MAX` is no limit.
    limit: u32,
    head: u32,
    length: u32,
    /// Handles that can send, or receive, of a channel that disconnects. Both zero for a `Chan`.
    pub(crate) sending: u32,
    pub(crate) receiving: u32,
    /// Of an unlimited channel: log2 of the slots that are allocated, plus 1; 0 for none.
    allocated: u8,
    pub(crate) closed: bool,
    pub(crate) receivers: WaitQueue,
    pub(crate) senders: WaitQueue,
}

/// A receiver that has been taken out of its queue.
#[must_use = "it waits until it is given a value"]
pub(crate) struct Receiver<T> {
    waiter: *const Waiter,
    gives: PhantomData<T>,
}

impl<T> Receiver<T> {
    /// Gives it a value. Whoever this returns is to be woken.
    #[inline]
    pub(crate) fn give(self, value: T) -> Parker {
        // SAFETY: a receiver's slot is room for a T, and it waits until it is finished.
        unsafe {
            (*self.waiter).slot.cast::<T>().write(value);
            waiter::finish(self.waiter, Outcome::Done)
        }
    }
}

/// The limit of a channel without one.
pub(crate) const UNLIMITED: u32 = u32::MAX;

/// Slots that an unlimited channel allocates first.
const FIRST_SLOTS_LOG2: u8 = 4;

impl<T> Body for State<T> {
    const KIND: Kind = Kind::Chan;

    fn destroy(&mut self) {
        // Out of the core, in which a leak scan does not look any more: a value's destructor may wait, and those behind it
        // may be what somebody waits for.
        let mut rest = mem::replace(self, Self::new(0));
        while let Some(value) = rest.pop() {
            drop(value);
        }
        rest.free(rest.slots());
    }
}

/// The address of the buffer of a channel of whatever values, for one who looks from outside; it need not be that of
/// memory.
pub(in crate::sync) fn buffer(core: &Core) -> usize {
    // SAFETY: the core is that of a channel. Where the buffer's address lies does not depend on the values, and it may have
    // any value.
    unsafe { (&raw const (*core.peek::<State<()>>()).buffer).read() as usize }
}

impl<T> State<T> {
    /// An open, empty channel. A limited one has its whole buffer from the start.
    pub(crate) fn new(limit: u32) -> Self {
        let mut state = Self {
            buffer: ptr::dangling_mut(),
            limit,
            head: 0,
            length: 0,
            sending: 0,
            receiving: 0,
            allocated: 0,
            closed: false,
            receivers: WaitQueue::new(),
            senders: WaitQueue::new(),
        };
        if limit != UNLIMITED {
            state.buffer = Self::allocate(limit);
        }
        state
    }

    pub(crate) fn length(&self) -> usize {
        self.length as usize
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    #[inline]
    fn slots(&self) -> u32 {
        match (self.limit, self.allocated) {
            (UNLIMITED, 0) => 0,
            (UNLIMITED, log2) => 1 << (log2 - 1),
            (limit, _) => limit,
        }
    }

    fn layout(slots: u32) -> Option<Layout> {
        let layout = Layout::array::<T>(slots as usize).expect("a buffer smaller than the address space");
        (layout.size() > 0).then_some(layout)
    }

    fn allocate(slots: u32) -> *mut T {
        let Some(layout) = Self::layout(slots) else { return ptr::dangling_mut() };
        // SAFETY: the layout's size is not zero.
        let buffer = unsafe { alloc::alloc(layout) };
        if buffer.is_null() {
            alloc::handle_alloc_error(layout);
        }
        buffer.cast()
    }

    fn free(&mut self, slots: u32) {
        if let Some(layout) = Self::layout(slots) {
            // SAFETY: allocated by `allocate` for so many slots.
            unsafe { alloc::dealloc(self.buffer.cast(), layout) };
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let before = self.slots();
        let log2 = self.allocated.max(FIRST_SLOTS_LOG2) + 1;
        assert!(log2 <= 32, "an unbounded channel holds at most 2^31 values");
        let buffer = Self::allocate(1 << (log2 - 1));
        let first = (before - self.head).min(self.length);
        // SAFETY: the values lie in two runs, from the head to the end and from the start; both fit into the new buffer.
        unsafe {
            ptr::copy_nonoverlapping(self.buffer.add(self.head as usize), buffer, first as usize);
            ptr::copy_nonoverlapping(self.buffer, buffer.add(first as usize), (self.length - first) as usize);
        }
        self.free(before);
        (self.buffer, self.head, self.allocated) = (buffer, 0, log2);
    }

    /// Whether the buffer takes another value.
    pub(crate) fn has_room(&self) -> bool {
        self.length < self.limit
    }

    /// Puts a value into the buffer, which must have room.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        let mut slots = self.slots() as usize;
        if self.length as usize == slots {
            self.grow();
            slots = self.slots() as usize;
        }
        let end = self.head as usize + self.length as usize;
        let at = if end < slots { end } else { end - slots };
        // SAFETY: `at` is inside the buffer, and free.
        unsafe { self.buffer.add(at).write(value) };
        self.length += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.length == 0 {
            return None;
        }
        // SAFETY: the slot at `head` is full.
        let value = unsafe { self.buffer.add(self.head as usize).read() };
        self.head = if self.head + 1 == self.slots() { 0 } else { self.head + 1 };
        self.length -= 1;
        Some(value)
    }

    /// Hands a value to a receiver that waits, or gives it back.
    #[inline]
    pub(crate) fn hand_over(&mut self, value: T) -> Result<Parker, T> {
        match self.next_receiver() {
            Some(receiver) => Ok(receiver.give(value)),
            None => Err(value),
        }
    }

    /// The receiver that has waited longest; it must be given a value.
    #[inline]
    pub(crate) fn next_receiver(&mut self) -> Option<Receiver<T>> {
        self.receivers.pop_front().map(|waiter| Receiver { waiter, gives: PhantomData })
    }

    /// Takes the value of the sender that has waited longest.
    #[inline]
    fn take_over(&mut self) -> Option<(T, Parker)> {
        let sender = self.senders.pop_front()?;
        // SAFETY: a sender's slot is its value, which it forgets when the outcome is `Done`.
        unsafe { Some(((*sender).slot.cast::<T>().read(), waiter::finish(sender, Outcome::Done))) }
    }

    /// The next value, and the sender to wake whose value has moved up.
    #[inline]
    pub(crate) fn receive(&mut self) -> Option<(T, Option<Parker>)> {
        match self.pop() {
            Some(value) => {
                let sender = self.take_over().map(|(next, sender)| {
                    self.push(next);
                    sender
                });
                Some((value, sender))
            }
            None => self.take_over().map(|(value, sender)| (value, Some(sender))),
        }
    }
}
