//! The list of all timers there are, which one who has stopped the world can read without a lock.
//!
//! Its entries are never freed: those whose timers are gone are used for others.

use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use parking_lot::Mutex;

use super::Timers;
use crate::heap;

struct Entry {
    /// Null while it is not used. Written while `CHANGING` is held.
    timers: AtomicPtr<Timers>,
    next: Option<&'static Entry>,
}

/// The newest entry. Written while `CHANGING` is held.
static NEWEST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());
/// Guards the writing of entries.
static CHANGING: Mutex<()> = Mutex::new(());

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: null, or an entry, which is never freed. Acquire: pairs with the Release in `enter`.
    let newest = unsafe { NEWEST.load(Ordering::Acquire).as_ref() };
    std::iter::successors(newest, |entry| entry.next)
}

/// Adds timers, which must leave before they are dropped.
pub(super) fn enter(timers: &Timers) {
    let timers = ptr::from_ref(timers).cast_mut();
    let _changing = CHANGING.lock();
    // Relaxed: guarded by the lock. Release: pairs with the Acquire in `all`.
    match entries().find(|entry| entry.timers.load(Ordering::Relaxed).is_null()) {
        Some(entry) => entry.timers.store(timers, Ordering::Release),
        None => {
            let entry = Entry { timers: AtomicPtr::new(timers), next: entries().next() };
            let entry: &'static Entry = heap::untracked(|| Box::leak(Box::new(entry)));
            // Release: pairs with the Acquire in `entries`.
            NEWEST.store(ptr::from_ref(entry).cast_mut(), Ordering::Release);
        }
    }
}

/// Takes timers out that are being dropped.
pub(super) fn leave(timers: &Timers) {
    let _changing = CHANGING.lock();
    // Relaxed: guarded by the lock.
    if let Some(entry) = entries().find(|entry| ptr::eq(entry.timers.load(Ordering::Relaxed), timers)) {
        entry.timers.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

/// All timers.
///
/// # Safety
/// No other thread may run while the references are used: the timers may be dropped.
pub(crate) unsafe fn all<'a>() -> impl Iterator<Item = &'a Timers> {
    // SAFETY: null, or timers that have not been dropped. Acquire: pairs with the Release in `enter`.
    entries().filter_map(|entry| unsafe { entry.timers.load(Ordering::Acquire).as_ref() })
}
