//! Memory of the detector's own, outside of the heap that it looks at: it may be written while the world is stopped.

use std::{
    io,
    ops::{Deref, DerefMut, Range},
    ptr, slice,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use greenprof_runtime::world::stop::let_others_run;

/// A table of values of which all bytes may be zero, zeroed, in a mapping of its own. Pages cost memory once they are touched.
#[derive(Debug)]
pub(super) struct Table<T: Zeroed> {
    start: *mut T,
    length: usize,
}

/// Of which zeroes are a value.
///
/// # Safety
/// As it says.
pub(super) unsafe trait Zeroed {}

// SAFETY: integers.
unsafe impl Zeroed for u64 {}
// SAFETY: integers.
unsafe impl Zeroed for u32 {}
// SAFETY: an integer.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: an integer.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: integers.
unsafe impl Zeroed for (usize, usize) {}

// SAFETY: it owns its memory.
unsafe impl<T: Zeroed + Send> Send for Table<T> {}
// SAFETY: as above; it is changed through exclusive references only, or by its values.
unsafe impl<T: Zeroed + Sync> Sync for Table<T> {}

impl<T: Zeroed> Table<T> {
    pub(super) fn new(length: usize) -> io::Result<Self> {
        let bytes = length.checked_mul(size_of::<T>()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        // SAFETY: a fresh anonymous mapping touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes.max(1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), length })
    }
}

impl<T: Zeroed> Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: our mapping, of so many values, which were zeroes at first.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }
}

impl<T: Zeroed> DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and it is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl<T: Zeroed> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: our mapping, and nobody has a reference to it any more.
        unsafe { libc::munmap(self.start.cast(), (self.length * size_of::<T>()).max(1)) };
    }
}

/// A stack of values in a table.
#[derive(Debug)]
pub(super) struct Stack<T: Zeroed + Copy> {
    table: Table<T>,
    length: usize,
}

impl<T: Zeroed + Copy> Stack<T> {
    pub(super) fn new(most: usize) -> io::Result<Self> {
        Ok(Self { table: Table::new(most)?, length: 0 })
    }

    /// Whether there was room.
    #[inline]
    pub(super) fn push(&mut self, value: T) -> bool {
        match self.table.get_mut(self.length) {
            Some(place) => {
                *place = value;
                self.length += 1;
                true
            }
            None => false,
        }
    }

    pub(super) fn values(&self) -> &[T] {
        self.table.get(..self.length).unwrap_or_default()
    }
}

/// Numbers that threads put and take, first in, first out. A place is used once, or if it goes round, as often as it takes: then whoever
/// puts a number waits for its place to be empty, so at no time may more numbers be in it than there are places.
///
/// Numbers are below `u32::MAX`. A place holds the number plus 1, or 0 if it is empty.
#[derive(Debug)]
pub(super) struct Queue {
    places: Table<AtomicU32>,
    put: AtomicUsize,
    taken: AtomicUsize,
}

impl Queue {
    /// Room for `most` numbers at a time, if it is used round and round, or else altogether.
    pub(super) fn new(most: usize) -> io::Result<Self> {
        let places = Table::new(most.max(1).next_power_of_two())?;
        Ok(Self { places, put: AtomicUsize::new(0), taken: AtomicUsize::new(0) })
    }

    fn place(&self, ticket: usize) -> &AtomicU32 {
        // The number of places is a power of two.
        &self.places[ticket & (self.places.len() - 1)]
    }

    pub(super) fn put(&self, number: u32) {
        // Relaxed: a ticket; what is read through it is the place.
        let place = self.place(self.put.fetch_add(1, Ordering::Relaxed));
        let mut spins = 0;
        // Release: pairs with the Acquire in `at`. It is empty, but for a taker that is late by a round.
        while place.compare_exchange_weak(0, number + 1, Ordering::Release, Ordering::Relaxed).is_err() {
            pause(&mut spins);
        }
    }

    /// Whether there was nothing to take a moment ago.
    pub(super) fn is_empty(&self) -> bool {
        // SeqCst: see `Shared::work` of the marking.
        self.taken.load(Ordering::SeqCst) >= self.put.load(Ordering::SeqCst)
    }

    /// Takes up to `most` numbers: tickets for [`Queue::at`], each of which must be asked for once.
    pub(super) fn take(&self, most: usize) -> Range<usize> {
        let mut taken = self.taken.load(Ordering::SeqCst);
        loop {
            let end = self.put.load(Ordering::SeqCst).min(taken + most);
            if end <= taken {
                return 0..0;
            }
            match self.taken.compare_exchange_weak(taken, end, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return taken..end,
                Err(now) => taken = now,
            }
        }
    }

    /// The number of a ticket, whose place is empty afterwards.
    pub(super) fn at(&self, ticket: usize) -> u32 {
        let place = self.place(ticket);
        let mut spins = 0;
        loop {
            // Acquire: pairs with the Release in `put`, which may not have come to that yet.
            let number = place.swap(0, Ordering::Acquire);
            if number != 0 {
                return number - 1;
            }
            pause(&mut spins);
        }
    }
}

/// Waits a little for another thread, which may need this one's processor.
pub(super) fn pause(spins: &mut u32) {
    const SPINS: u32 = 64;
    *spins += 1;
    if *spins < SPINS { std::hint::spin_loop() } else { let_others_run() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn each_number_is_taken_once() {
        const NUMBERS: u32 = 20_000;
        // Two threads put at most as many at a time as there are places, round and round.
        let queue = Queue::new(64).unwrap();
        let (sum, count) = (AtomicU64::new(0), AtomicU32::new(0));
        let take = |most| {
            for ticket in queue.take(most) {
                sum.fetch_add(u64::from(queue.at(ticket)), Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            for thread in 0..2 {
                let (queue, take) = (&queue, &take);
                scope.spawn(move || {
                    for number in (thread..NUMBERS).step_by(2) {
                        queue.put(number);
                        take(3);
                    }
                });
            }
        });
        take(usize::MAX >> 1);
        assert!(queue.is_empty());
        assert_eq!(count.into_inner(), NUMBERS);
        assert_eq!(sum.into_inner(), u64::from(NUMBERS) * u64::from(NUMBERS - 1) / 2);
    }
}
