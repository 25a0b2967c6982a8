//! The table through which a requester and the threads that it stops find each other: one mapping, made before the first
//! stop and never freed, so that neither side needs memory later.
//!
//! The mapping is wiped in a forked child (`MADV_WIPEONFORK`). The child has one thread, and finds no stop under way
//! and no lock taken, whatever the parent was doing.

use std::{
    cell::UnsafeCell,
    io, ptr,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::{
    mappings::Mapping,
    slot::{Slot, asked},
};
use crate::sys::{clock, memory, raw};

/// Threads that can be stopped; beyond it a stop is incomplete. The runtime itself makes at most 10 000.
pub(super) const MAX_THREADS: usize = 16_384;
/// At most half full, so that a search ends soon.
const INDEX: usize = 2 * MAX_THREADS;
/// Of one directory entry of a thread: 19 bytes, its number in at most 7 digits, a zero, rounded up.
const ENTRY: usize = 32;
/// The kernel has 65 530 unless vm.max_map_count is raised; what is beyond is counted.
pub(super) const MAX_MAPPINGS: usize = 1 << 17;
/// Threads that blocked the signal when they were last met.
const REMEMBERED: usize = 64;
/// For files of /proc, and for copies of memory.
pub(super) const SCRATCH: usize = 64 << 10;

/// Room to work. It belongs to whoever holds the table's lock.
pub(super) struct Desk {
    pub(super) listing: [u8; MAX_THREADS * ENTRY],
    pub(super) scratch: [usize; SCRATCH / size_of::<usize>()],
    pub(super) mappings: [Mapping; MAX_MAPPINGS],
}

/// All of it may be zero.
#[repr(C, align(4096))]
pub(super) struct Table {
    /// 0 free, 1 taken, 2 taken and waited for. Guards `desk`, and the right to stop the world.
    lock: AtomicU32,
    /// The thread that holds the lock.
    owner: AtomicI32,
    /// Odd while the world is stopped or being stopped: the lower half of ASKED. Threads sleep on it.
    pub(super) epoch: AtomicU32,
    /// `epoch << 32 | threads that were asked and have not answered`. The requester sleeps on the lower half.
    tally: AtomicU64,
    /// Threads that have answered and not left the handler since, in whichever stop.
    inside: AtomicU32,
    /// When the last stop was released, in nanoseconds. The requester's own, like `stop`.
    released: AtomicU64,
    /// Stops so far, and slots in use. The requester's own, like `masked`.
    stop: AtomicU64,
    count: AtomicU32,
    /// Threads that had the signal blocked: they may have one pending, and would collect more.
    masked: [AtomicI32; REMEMBERED],
    /// Open addressing by thread id: the number of a slot plus one.
    index: [AtomicU32; INDEX],
    slots: [Slot; MAX_THREADS],
    pub(super) desk: UnsafeCell<Desk>,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// The table, if it has been made. Safe in a signal handler.
pub(super) fn table() -> Option<&'static Table> {
    // SAFETY: null, or a table that is never unmapped. Acquire: pairs with the Release in `make`.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

/// Makes the table unless it exists. The caller holds a lock against others.
pub(super) fn make() -> io::Result<&'static Table> {
    if let Some(table) = table() {
        return Ok(table);
    }
    let bytes = size_of::<Table>();
    let memory = memory::reserve(bytes, memory::PAGE)?;
    // SAFETY: the mapping was just made, and nobody else knows it.
    unsafe {
        if libc::madvise(memory.cast(), bytes, libc::MADV_WIPEONFORK) != 0 {
            let error = io::Error::last_os_error();
            memory::unmap(memory, bytes);
            return Err(error);
        }
    }
    // Release: pairs with the Acquire in `table`.
    TABLE.store(memory.cast(), Ordering::Release);
    // SAFETY: zeroed memory, large and aligned enough, and all of a table may be zero.
    Ok(unsafe { &*memory.cast::<Table>() })
}

/// The table's lock, held.
pub(super) struct Held {
    pub(super) table: &'static Table,
}

impl Table {
    /// Takes the lock, or waits for it. The wait is an ordinary sleep in the kernel, which the signal of whoever holds the lock
    /// interrupts: the loser is stopped like any other thread. Nothing if the caller holds it already.
    pub(super) fn lock(&'static self) -> Option<Held> {
        let own = raw::thread_id();
        // Relaxed: only the thread itself writes its own id here.
        if self.owner.load(Ordering::Relaxed) == own {
            return None;
        }
        // Acquire: pairs with the Release in `drop`.
        if self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while self.lock.swap(2, Ordering::Acquire) != 0 {
                raw::wait(&self.lock, 2, None);
            }
        }
        self.owner.store(own, Ordering::Relaxed);
        Some(Held { table: self })
    }

    /// Whether the calling thread is the one that stops the world.
    pub(super) fn is_held_here(&self) -> bool {
        // Relaxed: only the thread itself writes its own id.
        self.epoch.load(Ordering::Relaxed) % 2 == 1 && self.owner.load(Ordering::Relaxed) == raw::thread_id()
    }

    fn positions(thread: i32) -> impl Iterator<Item = usize> {
        // Thread ids of one process are close to consecutive, and so spread well by themselves.
        (0..INDEX).map(move |step| (thread as usize + step) % INDEX)
    }

    /// The slot of a thread in the current stop. Safe in a signal handler.
    pub(super) fn find(&self, thread: i32) -> Option<&Slot> {
        for position in Self::positions(thread) {
            // Acquire: pairs with the Release in `insert`.
            let slot = self.index[position].load(Ordering::Acquire).checked_sub(1)?;
            let slot = &self.slots[slot as usize];
            // Relaxed: a slot that changes hands meanwhile is found out by its answer.
            if slot.thread.load(Ordering::Relaxed) == thread {
                return Some(slot);
            }
        }
        None
    }

    /// A handler has answered in the stop of `epoch`; the last one wakes the requester.
    pub(super) fn count_answer(&self, epoch: u32) {
        if self.change_tally(epoch, |missing| missing - 1) == Some(0) {
            raw::wake(self.missing_word(), 1);
        }
    }

    /// A handler begins to answer. Before [`Self::count_answer`].
    pub(super) fn enter(&self) {
        // Relaxed: a number that the next requester looks at before it begins.
        self.inside.fetch_add(1, Ordering::Relaxed);
    }

    /// The handler ends.
    pub(super) fn leave(&self) {
        // Relaxed: as in `enter`.
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    fn change_tally(&self, epoch: u32, change: impl Fn(u32) -> u32) -> Option<u32> {
        // Relaxed: only a hint when to look at the answers, which carry the order. A handler that comes so late that its
        // stop is over changes nothing.
        let changed = self.tally.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tally| {
            ((tally >> 32) as u32 == epoch).then(|| u64::from(epoch) << 32 | u64::from(change(tally as u32)))
        });
        changed.ok().map(|tally| change(tally as u32))
    }

    /// The half of the tally that counts, for the kernel to compare.
    fn missing_word(&self) -> &AtomicU32 {
        const { assert!(cfg!(target_endian = "little"), "the lower half comes first") };
        // SAFETY: the lower half of a live atomic. It is only handed to the kernel, which reads it.
        unsafe { &*self.tally.as_ptr().cast::<AtomicU32>() }
    }
}

impl Held {
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive; see SAFETY")]
    /// What belongs to the lock.
    ///
    /// # Safety
    /// No other reference made by this may be in use.
    pub(super) unsafe fn desk(&self) -> &mut Desk {
        // SAFETY: the lock is held, so no other thread has a reference; the caller says that this one has none.
        unsafe { &mut *self.table.desk.get() }
    }

    /// Begins a stop with an empty table.
    pub(super) fn begin(&self) -> u64 {
        for slot in self.slots() {
            self.table.index[slot.place.load(Ordering::Relaxed) as usize].store(0, Ordering::Relaxed);
        }
        self.table.count.store(0, Ordering::Relaxed);
        // Relaxed: only the holder of the lock touches it.
        let stop = self.table.stop.fetch_add(1, Ordering::Relaxed) + 1;
        let epoch = asked(stop) as u32;
        self.table.tally.store(u64::from(epoch) << 32, Ordering::Relaxed);
        // Release: pairs with the Acquire in the handler's loop.
        self.table.epoch.store(epoch, Ordering::Release);
        stop
    }

    /// Lets everybody go.
    pub(super) fn release(&self) {
        let epoch = &self.table.epoch;
        // Release: pairs with the Acquire in the handler's loop. After this the records may be gone.
        epoch.store(epoch.load(Ordering::Relaxed).wrapping_add(1) & !1, Ordering::Release);
        raw::wake(epoch, i32::MAX);
        // Relaxed: only the holder of the lock touches it.
        self.table.released.store(clock::now(), Ordering::Relaxed);
    }

    /// Lets the program get on before the next stop: returns when all whom an earlier one has stopped have left its handler, and had
    /// some time to run; or at `deadline`, for a thread may be suspended or starved.
    ///
    /// Without this, a thread that takes longer to wake than the requester takes to come back finds the next signal pending when its handler
    /// returns, and so never runs an instruction of its own.
    pub(super) fn let_others_on(&self, deadline: u64) {
        /// Who has left the handler is still to return from the signal.
        const TURN: Duration = Duration::from_micros(100);
        const LONGEST: Duration = Duration::from_millis(1);
        let mut slice = TURN;
        loop {
            // Relaxed: the first see `enter`, the second only the holder of the lock touches.
            let inside = self.table.inside.load(Ordering::Relaxed);
            let (now, released) = (clock::now(), self.table.released.load(Ordering::Relaxed));
            let had_a_turn = released == 0 || now.saturating_sub(released) >= TURN.as_nanos() as u64;
            if inside == 0 && had_a_turn || now >= deadline {
                return;
            }
            raw::sleep(slice);
            slice = (slice * 2).min(LONGEST);
        }
    }

    /// Enters a thread that is not in the table; nothing if the table is full.
    pub(super) fn insert(&self, thread: i32, answer: u64, verdict: u8) -> Option<&Slot> {
        let number = self.table.count.load(Ordering::Relaxed) as usize;
        let slot = self.table.slots.get(number)?;
        let index = &self.table.index;
        let place = Table::positions(thread).find(|place| index[*place].load(Ordering::Relaxed) == 0)?;
        self.table.count.store(number as u32 + 1, Ordering::Relaxed);
        slot.thread.store(thread, Ordering::Relaxed);
        slot.verdict.store(verdict, Ordering::Relaxed);
        slot.place.store(place as u32, Ordering::Relaxed);
        slot.sp.store(0, Ordering::Relaxed);
        slot.worker.store(ptr::null_mut(), Ordering::Relaxed);
        // Release: the handler, which reads the answer first, sees whose slot it is.
        slot.answer.store(answer, Ordering::Release);
        // Release: pairs with the Acquire in `find`.
        index[place].store(number as u32 + 1, Ordering::Release);
        Some(slot)
    }

    /// The threads entered so far.
    pub(super) fn slots(&self) -> &'static [Slot] {
        // Relaxed: only the holder of the lock touches it.
        &self.table.slots[..self.table.count.load(Ordering::Relaxed) as usize]
    }

    /// Remembers that a thread blocks the signal.
    pub(super) fn remember_masked(&self, thread: i32) {
        if !self.was_masked(thread) {
            let at = self.table.stop.load(Ordering::Relaxed) as usize ^ thread as usize;
            self.table.masked[at % REMEMBERED].store(thread, Ordering::Relaxed);
        }
    }

    /// Whether a thread blocked the signal when it was last met; with many such threads, some are forgotten.
    pub(super) fn was_masked(&self, thread: i32) -> bool {
        self.table.masked.iter().any(|masked| masked.load(Ordering::Relaxed) == thread)
    }

    /// Threads that were asked and have not answered.
    pub(super) fn missing(&self) -> u32 {
        self.table.tally.load(Ordering::Relaxed) as u32
    }

    /// More threads are asked, or fewer are waited for.
    pub(super) fn expect(&self, more: i32) {
        let epoch = self.table.epoch.load(Ordering::Relaxed);
        self.table.change_tally(epoch, |missing| missing.wrapping_add_signed(more));
    }

    /// Sleeps until all that are expected have answered, or `timeout` has passed, or for no reason.
    pub(super) fn wait(&self, timeout: Duration) {
        let missing = self.missing();
        if missing != 0 {
            raw::wait(self.table.missing_word(), missing, Some(timeout));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.table.owner.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `lock`.
        if self.table.lock.swap(0, Ordering::Release) == 2 {
            raw::wake(&self.table.lock, 1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn fresh() -> Held {
        let memory = memory::reserve(size_of::<Table>(), memory::PAGE).unwrap();
        // SAFETY: zeroed memory, large and aligned enough; it is never unmapped.
        let table: &'static Table = unsafe { &*memory.cast() };
        table.lock().unwrap()
    }

    #[test]
    fn threads_are_found_until_the_next_stop() {
        let held = fresh();
        for stop in 1..4 {
            assert_eq!(held.begin(), stop);
            // The first two want the same place.
            for thread in [5, 5 + INDEX as i32, 6] {
                assert!(held.table.find(thread).is_none());
                held.insert(thread, asked(stop), 0).unwrap();
            }
            for thread in [5, 5 + INDEX as i32, 6] {
                assert_eq!(held.table.find(thread).unwrap().thread.load(Ordering::Relaxed), thread);
            }
            assert_eq!(held.slots().len(), 3);
        }
    }

    #[test]
    fn late_answers_of_another_stop_do_not_count() {
        let held = fresh();
        let first = asked(held.begin()) as u32;
        held.expect(2);
        held.table.count_answer(first);
        assert_eq!(held.missing(), 1);
        held.release();
        held.begin();
        held.expect(1);
        held.table.count_answer(first);
        assert_eq!(held.missing(), 1);
    }

    #[test]
    fn an_answer_and_a_withdrawal_exclude_each_other() {
        let held = fresh();
        let stop = held.begin();
        let slot = held.insert(9, asked(stop), 0).unwrap();
        assert!(!slot.is_stopped());
        assert!(!slot.withdraw(stop + 1));
        assert!(slot.withdraw(stop));
        assert!(!slot.withdraw(stop));
        assert!(!slot.is_stopped());
    }

    #[test]
    fn a_full_table_says_so() {
        let held = fresh();
        held.begin();
        for thread in 1..=MAX_THREADS as i32 {
            assert!(held.insert(thread * 7, 0, 0).is_some());
        }
        assert!(held.insert(3, 0, 0).is_none());
        assert!(held.table.find(3).is_none());
    }

    #[test]
    fn the_lock_is_not_taken_twice() {
        let held = fresh();
        assert!(held.table.lock().is_none());
        let table = held.table;
        drop(held);
        assert!(table.lock().is_some());
    }
}
