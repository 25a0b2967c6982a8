//! Memory of the detector's own, outside of the heap that it looks at: it may be written while the world is stopped.

use std::{
    io,
    ops::{Deref, DerefMut},
    ptr, slice,
};

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
pub(super) unsafe trait Zeroed: Copy {}

// SAFETY: integers.
unsafe impl Zeroed for u64 {}
// SAFETY: integers.
unsafe impl Zeroed for u32 {}
// SAFETY: integers.
unsafe impl Zeroed for (usize, usize) {}

// SAFETY: it owns its memory.
unsafe impl<T: Zeroed + Send> Send for Table<T> {}

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

    /// Where it lies.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.start as usize, self.start as usize + (self.length * size_of::<T>()).max(1))
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
pub(super) struct Stack<T: Zeroed> {
    table: Table<T>,
    length: usize,
}

impl<T: Zeroed> Stack<T> {
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

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        self.length = self.length.checked_sub(1)?;
        self.table.get(self.length).copied()
    }

    pub(super) fn values(&self) -> &[T] {
        self.table.get(..self.length).unwrap_or_default()
    }

    pub(super) fn place(&self) -> (usize, usize) {
        self.table.place()
    }
}
