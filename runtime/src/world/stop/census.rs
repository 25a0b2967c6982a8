//! Finding and stopping every thread of the process.
//!
//! The directory /proc/self/task is read again and again, each time in one call. Whoever is not in the table yet is entered and
//! sent the signal. A pass is *clean* when every thread listed is stopped (or the requester, or dead, or the kernel's own),
//! and there are as many as the kernel counts. Two clean passes in a row end the search; `README.md` has the argument why
//! then nobody runs.
//!
//! Between passes the requester sleeps until the last answer. Threads also leave the list without an answer (they
//! exit), so a sleep is short, and after it those that are late are looked at.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    StopError, mappings, proc,
    slot::{Slot, asked},
    table::Held,
};
use crate::sys::{
    clock,
    raw::{self, File},
};

/// How long the first sleep between two passes lasts at most, and how long any does. A thread that exits takes some 20 us.
const FIRST_SLICE: Duration = Duration::from_micros(40);
const LONGEST_SLICE: Duration = Duration::from_millis(1);
/// From which length of a sleep on the late are looked at, and how many of them at a time: it costs some 20 us each, which
/// is better spent on letting them run.
const LOOK_SLICE: Duration = Duration::from_micros(320);
const LOOKS: usize = 64;
/// Passes that agree.
const PASSES: u32 = 2;
/// Passes that may be made after the deadline while nobody is missing: those that have to agree, twice over.
const EXTRA_PASSES: u32 = 2 * PASSES;

/// What the requester knows of a thread that has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// Sent the signal; whether it has answered is in the slot.
    Asked,
    /// The requester itself.
    Requester,
    /// No more listed.
    Gone,
    /// Listed, but dead: the main thread, if it ended before the process.
    Dead,
    /// Runs only in the kernel.
    OfKernel,
    /// It blocks the signal.
    Masked,
    /// It sleeps and no signal wakes it: a `vfork` that waits for the child, or a slow device.
    Uninterruptible,
    /// Stopped by job control or a debugger.
    Suspended,
    /// It has the signal, or should have, and did not come to the handler in time.
    Unresponsive,
    /// The system refuses to send the signal.
    Refused,
}

const VERDICTS: [Verdict; 10] = [
    Verdict::Asked,
    Verdict::Requester,
    Verdict::Gone,
    Verdict::Dead,
    Verdict::OfKernel,
    Verdict::Masked,
    Verdict::Uninterruptible,
    Verdict::Suspended,
    Verdict::Unresponsive,
    Verdict::Refused,
];

impl Slot {
    pub(super) fn verdict(&self) -> Verdict {
        // Relaxed: only the requester uses it.
        VERDICTS[usize::from(self.verdict.load(Ordering::Relaxed))]
    }

    fn set_verdict(&self, verdict: Verdict) {
        self.verdict.store(verdict as u8, Ordering::Relaxed);
    }

    /// Whether its thread cannot run any code of the process until the release.
    fn is_accounted_for(&self) -> bool {
        self.is_stopped() || matches!(self.verdict(), Verdict::Requester | Verdict::Dead | Verdict::OfKernel)
    }

    /// Whether an answer is still expected.
    fn is_late(&self) -> bool {
        !self.is_accounted_for() && self.verdict() != Verdict::Gone
    }

    fn id(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }
}

pub(super) struct Census<'a> {
    held: &'a Held,
    directory: File,
    signal: i32,
    process: i32,
    own: i32,
    stop: u64,
    pass: u32,
    /// Whether the table was too small.
    pub(super) overflow: bool,
}

impl<'a> Census<'a> {
    /// Begins a stop.
    pub(super) fn begin(held: &'a Held, signal: i32) -> Result<Self, StopError> {
        let directory = File::open(c"/proc/self/task").map_err(|error| StopError::Threads(system(error)))?;
        let (process, own) = (raw::process_id(), raw::thread_id());
        let stop = held.begin();
        let census = Self { held, directory, signal, process, own, stop, pass: 0, overflow: false };
        held.insert(own, 0, Verdict::Requester as u8);
        Ok(census)
    }

    /// Stops everybody, until `deadline` in nanoseconds. Whether that has worked.
    pub(super) fn run(&mut self, deadline: u64) -> bool {
        let mut slice = FIRST_SLICE;
        let (mut clean, mut idle, mut extra) = (0, 0, EXTRA_PASSES);
        loop {
            if self.pass() {
                clean += 1;
                if clean == PASSES {
                    return true;
                }
                continue;
            }
            clean = 0;
            let left = deadline.saturating_sub(clock::now());
            if left == 0 {
                // All may have answered while this thread had no processor.
                if self.held.missing() == 0 && extra > 0 {
                    extra -= 1;
                    continue;
                }
                self.give_up();
                return false;
            }
            let slept = slice.min(Duration::from_nanos(left));
            if self.held.missing() == 0 && idle > 0 {
                // All have answered, and still the kernel counts others: somebody is about to appear or to vanish.
                raw::sleep(slept);
            }
            self.held.wait(slept);
            idle += 1;
            if self.held.missing() > 0 {
                if slice >= LOOK_SLICE {
                    self.look_at_the_late();
                }
                slice = (slice * 2).min(LONGEST_SLICE);
                idle = 0;
            }
        }
    }

    /// Reads the list once, and asks whoever is new. Whether the pass was clean.
    fn pass(&mut self) -> bool {
        self.pass += 1;
        // SAFETY: nothing called below uses the desk.
        let listing = unsafe { &mut self.held.desk().listing };
        let length = usize::try_from(self.directory.entries(listing)).unwrap_or(0);
        // One more than are asked, so that nobody wakes the requester before all are.
        self.held.expect(1);
        let (mut count, mut own, mut clean) = (0, false, true);
        for thread in entries(&listing[..length]) {
            count += 1;
            own |= thread == self.own;
            clean &= self.meet(thread);
        }
        self.held.expect(-1);
        for slot in self.held.slots() {
            if slot.seen.load(Ordering::Relaxed) != self.pass && slot.is_late() && self.withdraw(slot) {
                slot.set_verdict(Verdict::Gone);
            }
        }
        // A directory has two links more than it has subdirectories.
        clean && own && self.directory.links() == count + 2
    }

    /// Sees to one thread of the list. Whether it is accounted for.
    fn meet(&mut self, thread: i32) -> bool {
        let slot = match self.held.table.find(thread) {
            Some(slot) => slot,
            None => match self.held.insert(thread, 0, Verdict::Gone as u8) {
                Some(slot) => slot,
                None => {
                    self.overflow = true;
                    return false;
                }
            },
        };
        slot.seen.store(self.pass, Ordering::Relaxed);
        // New, or another thread with the number of one that has gone.
        if slot.verdict() == Verdict::Gone {
            self.ask(slot);
        }
        slot.is_accounted_for()
    }

    fn ask(&self, slot: &Slot) {
        slot.set_verdict(Verdict::Asked);
        // First, for a signal of an earlier stop may bring the answer at once.
        self.held.expect(1);
        // Release: pairs with the Acquire in the handler.
        slot.answer.store(asked(self.stop), Ordering::Release);
        let pending = self.held.was_masked(slot.id()) && self.facts(slot).is_some_and(|facts| facts.signal_pending);
        if !pending {
            self.send(slot);
        }
    }

    fn send(&self, slot: &Slot) {
        match -raw::send(self.process, slot.id(), self.signal) as i32 {
            0 => {}
            // It has ended since it was listed; the next pass finds out.
            libc::ESRCH => {}
            _ => slot.set_verdict(Verdict::Refused),
        }
    }

    fn facts(&self, slot: &Slot) -> Option<proc::Facts> {
        // SAFETY: only the scratch is used, and nobody else's reference to it is in use.
        let scratch = unsafe { &mut self.held.desk().scratch };
        proc::facts(slot.id(), self.signal, mappings::bytes_of(scratch))
    }

    /// Takes the question back. `false`: it has been answered.
    fn withdraw(&self, slot: &Slot) -> bool {
        let withdrawn = slot.withdraw(self.stop);
        if withdrawn {
            self.held.expect(-1);
        }
        withdrawn
    }

    /// Looks why threads have not answered, and sends the signal again to those that lost it.
    fn look_at_the_late(&self) {
        for slot in self.held.slots().iter().filter(|slot| slot.is_late()).take(LOOKS) {
            let Some(facts) = self.facts(slot) else { continue };
            let verdict = match facts {
                proc::Facts { state: b'Z' | b'X', .. } => Verdict::Dead,
                proc::Facts { of_kernel: true, .. } => Verdict::OfKernel,
                proc::Facts { state: b'D', .. } => Verdict::Uninterruptible,
                proc::Facts { state: b'T' | b't', .. } => Verdict::Suspended,
                proc::Facts { signal_blocked: true, .. } => Verdict::Masked,
                _ => Verdict::Unresponsive,
            };
            if matches!(verdict, Verdict::Dead | Verdict::OfKernel) {
                if self.withdraw(slot) {
                    slot.set_verdict(verdict);
                }
                continue;
            }
            slot.set_verdict(verdict);
            if !facts.signal_pending && !slot.is_stopped() {
                self.send(slot);
            }
        }
    }

    /// The deadline has passed: takes back the questions that are open.
    fn give_up(&self) {
        self.look_at_the_late();
        for slot in self.held.slots().iter().filter(|slot| slot.is_late()) {
            if !self.withdraw(slot) {
                continue;
            }
            match slot.verdict() {
                Verdict::Asked => slot.set_verdict(Verdict::Unresponsive),
                Verdict::Masked | Verdict::Uninterruptible => self.held.remember_masked(slot.id()),
                _ => {}
            }
            // SAFETY: as in `facts`.
            let scratch = unsafe { &mut self.held.desk().scratch };
            let sp = proc::stack_pointer(slot.id(), mappings::bytes_of(scratch));
            slot.sp.store(sp, Ordering::Relaxed);
        }
    }
}

/// The error behind a negative number.
pub(super) fn system(error: isize) -> std::io::Error {
    std::io::Error::from_raw_os_error(-error as i32)
}

/// The numbers among the names of a directory's entries.
fn entries(mut listing: &[u8]) -> impl Iterator<Item = i32> {
    /// Number of the file and position (8 bytes each), length of the entry (2), type (1), then the name.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(u16::from_ne_bytes([*listing.get(LENGTH)?, *listing.get(LENGTH + 1)?]));
            let (entry, rest) = listing.split_at_checked(length.max(NAME))?;
            listing = rest;
            let name = entry[NAME..].split(|byte| *byte == 0).next().unwrap_or_default();
            let number = name.iter().try_fold(0_i32, |number, byte| {
                number.checked_mul(10)?.checked_add((*byte as char).to_digit(10)? as i32)
            });
            if let Some(number) = number.filter(|number| *number > 0) {
                return Some(number);
            }
        }
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_the_calling_thread() {
        let mut listing = vec![0; 1 << 16];
        let directory = File::open(c"/proc/self/task").unwrap();
        let length = directory.entries(&mut listing) as usize;
        let threads: Vec<_> = entries(&listing[..length]).collect();
        assert!(threads.contains(&raw::thread_id()), "{threads:?}");
        assert_eq!(entries(&listing[..20]).count(), 0, "a cut entry is none");
    }

    #[test]
    fn verdicts_are_their_numbers() {
        for (number, verdict) in VERDICTS.iter().enumerate() {
            assert_eq!(*verdict as usize, number);
        }
    }
}
