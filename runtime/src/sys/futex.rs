//! The private futex: sleep while a word has a value, wake who sleeps on it.

use std::{ptr, sync::atomic::AtomicU32, time::Duration};

/// Sleeps until woken if `word` still holds `expected`; returns at once otherwise. May also return for no reason, or
/// after `timeout`: callers look at their own state again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let relative = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs().min(i64::MAX as u64) as libc::time_t,
        tv_nsec: t.subsec_nanos() as libc::c_long,
    });
    let relative = relative.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word outlives the call, and `relative` is null or points to a timespec that does.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, expected, relative)
    };
}

/// Wakes at most one sleeper on the word at `word`.
///
/// It takes an address, not a reference: the sleeper may have seen the new value and freed the word already, and the
/// kernel only compares the address. A sleeper that reuses the address is woken for no reason, which `wait` allows.
pub(crate) fn wake_one(word: *const u32) {
    // SAFETY: FUTEX_WAKE does not read the memory behind the address.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}
