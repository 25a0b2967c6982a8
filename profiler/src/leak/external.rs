//! Memory that a scan does not know, and that the program tells of: that of C's allocator, of `mmap`, of a device.
//!
//! Handles in such memory are invisible, and who waits for them looks leaked. A range that is marked here is looked at as the
//! variables of a module are, for as long as its guard lives.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use greenprof_runtime::heap;
use parking_lot::Mutex;

/// The ranges, each with the number of its guard. In the untracked arena.
static RANGES: Mutex<Vec<(u64, Range<usize>)>> = Mutex::new(Vec::new());
/// How often ranges were added and taken out. Changes while `RANGES` is locked.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Keeps a range marked; dropping it ends that.
#[derive(Debug)]
#[must_use = "the range is looked at only while this lives"]
pub struct External {
    number: u64,
}

/// Has every detection look at a range of memory, as at a root: words in it that are aligned count as the program's. Pages that cannot be
/// read are passed over, so a range that is unmapped before its guard is dropped does no harm.
///
/// Memory that is shared with other processes can be marked, too; detections in a copy of the process
/// ([`Mode::Fork`](super::Mode::Fork)) are then made in the stopped process instead.
///
/// Mark it before the first handle is put there, and drop the guard after the last was taken out.
///
/// ```
/// use greenprof_profiler::leak;
///
/// let mut registers = vec![0_usize; 64];
/// let range = registers.as_mut_ptr_range();
/// let guard = leak::mark_external(range.start as usize..range.end as usize);
/// drop(guard);
/// ```
pub fn mark_external(range: Range<usize>) -> External {
    let mut ranges = RANGES.lock();
    let number = CHANGES.fetch_add(1, Ordering::SeqCst);
    heap::untracked(|| ranges.push((number, range)));
    External { number }
}

impl Drop for External {
    fn drop(&mut self) {
        let mut ranges = RANGES.lock();
        CHANGES.fetch_add(1, Ordering::SeqCst);
        ranges.retain(|(number, _)| *number != self.number);
    }
}

/// Calls `add` for each range. Gives a number that changes with them. Not for a stopped world: it takes the lock.
pub(super) fn each(mut add: impl FnMut(&Range<usize>)) -> u64 {
    let ranges = RANGES.lock();
    ranges.iter().for_each(|(_, range)| add(range));
    CHANGES.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_marked_while_its_guard_lives() {
        let has = |range: &Range<usize>| {
            let mut found = false;
            let changes = each(|other| found |= other == range);
            (found, changes)
        };
        let range = 0x1000..0x2000;
        let before = has(&range);
        let (one, other) = (mark_external(range.clone()), mark_external(range.clone()));
        drop(one);
        let between = has(&range);
        drop(other);
        let after = has(&range);
        assert_eq!((before.0, between.0, after.0), (false, true, false));
        assert!(before.1 < between.1 && between.1 < after.1);
    }
}
