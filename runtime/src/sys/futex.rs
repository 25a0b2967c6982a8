//! The private futex: sleep while a word has a value, wake who sleeps on it.

use std::time::Duration;

use super::atomic::AtomicU32;

#[cfg(loom)]
use mock as imp;
#[cfg(not(loom))]
use real as imp;

/// Sleeps until woken if `word` still holds `expected`; returns at once otherwise. May also return for no reason, or
/// after `timeout`: callers look at their own state again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    imp::wait(word, expected, timeout);
}

/// Wakes at most one sleeper on the word at `word`.
///
/// It takes an address, not a reference: the sleeper may have seen the new value and freed the word already, and the
/// kernel only compares the address. A sleeper that reuses the address is woken for no reason, which `wait` allows.
pub(crate) fn wake_one(word: *const AtomicU32) {
    imp::wake_one(word);
}

#[cfg(not(loom))]
mod real {
    use super::{AtomicU32, Duration};
    use std::ptr;

    pub(super) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
        let relative = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs().min(i64::MAX as u64) as libc::time_t,
            tv_nsec: t.subsec_nanos() as libc::c_long,
        });
        let relative = relative.as_ref().map_or(ptr::null(), ptr::from_ref);
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word outlives the call, and `relative` is null or points to a timespec that does.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, relative) };
    }

    pub(super) fn wake_one(word: *const AtomicU32) {
        // SAFETY: FUTEX_WAKE does not read the memory behind the address.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
    }
}

/// The kernel's part in a model: a list of who sleeps where. It wakes nobody without a reason, so a wake-up that is lost
/// leaves a thread asleep for ever, which loom reports as a deadlock. A timeout is over at once if the model's clock runs,
/// and never if it stands still.
#[cfg(loom)]
mod mock {
    use super::{
        super::{clock, lock::RawLock},
        AtomicU32, Duration,
    };
    use std::{ptr, sync::atomic::Ordering};

    use loom::sync::{Arc, Mutex};

    struct Sleeper {
        address: *const AtomicU32,
        /// Held by the sleeper, who takes it once more in order to sleep; the waker unlocks it. (Loom's `Condvar` and `park`
        /// would do, but a waker that comes late disturbs a thread that waits for a lock.)
        bed: RawLock,
    }

    loom::lazy_static! {
        static ref SLEEPERS: Mutex<Vec<Arc<Sleeper>>> = Mutex::new(Vec::new());
    }

    pub(super) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
        if timeout.is_some() && clock::runs() {
            // Somebody whom the caller waits for may have to go on first.
            loom::thread::yield_now();
            return;
        }
        let mut sleepers = SLEEPERS.lock().unwrap();
        // The kernel looks at the word as it is; in loom only read-modify-write operations do. So what changes a word that
        // somebody sleeps on must be one as well: loom does not put a store and such an operation into one order.
        if word.fetch_or(0, Ordering::SeqCst) != expected {
            return;
        }
        let sleeper = Arc::new(Sleeper { address: word, bed: RawLock::new() });
        sleeper.bed.lock();
        sleepers.push(sleeper.clone());
        drop(sleepers);
        sleeper.bed.lock();
        // SAFETY: locked above.
        unsafe { sleeper.bed.unlock() };
    }

    pub(super) fn wake_one(word: *const AtomicU32) {
        let mut sleepers = SLEEPERS.lock().unwrap();
        if let Some(first) = sleepers.iter().position(|sleeper| ptr::eq(sleeper.address, word)) {
            let sleeper = sleepers.remove(first);
            // SAFETY: the sleeper has locked it for whoever takes it off the list.
            unsafe { sleeper.bed.unlock() };
        }
    }
}
