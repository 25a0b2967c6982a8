//! The stopping signal and its handler.
//!
//! The handler runs on the alternate signal stack of the thread if it has one; workers always have. It publishes a
//! record on its own stack and sleeps until the world is released. It uses no thread-local variable (not even errno),
//! no lock, and no memory but its stack and the table: a thread may be hit before its thread-local storage is complete,
//! while it is being torn down, in the middle of `malloc`, or in another handler.

use std::{
    io, mem, ptr,
    sync::{
        Mutex,
        atomic::{AtomicI32, Ordering},
    },
};

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::{
    StopError,
    slot::asked,
    table::{self, Table},
};
use crate::sys::raw;

/// Which real-time signal stops threads unless [`use_signal`] says otherwise, counted from `SIGRTMIN`. glibc keeps those
/// below SIGRTMIN; programs that use real-time signals mostly start at either end.
pub const DEFAULT_SIGNAL: i32 = 7;

/// The signal that the handler is installed for; 0 before.
static INSTALLED: AtomicI32 = AtomicI32::new(0);
/// Guards the installation.
static CHOICE: Mutex<i32> = Mutex::new(DEFAULT_SIGNAL);

/// What a stopped thread publishes of itself.
pub(super) struct Record {
    pub(super) context: *const ucontext_t,
    pub(super) thread_pointer: usize,
}

/// Chooses the signal that stops threads: `SIGRTMIN + offset`. To be called before the first stop.
///
/// # Errors
/// [`StopError::NoSuchSignal`] if there is no such signal, [`StopError::Chosen`] after the first stop.
pub fn use_signal(offset: i32) -> Result<(), StopError> {
    let mut choice = CHOICE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if INSTALLED.load(Ordering::Relaxed) != 0 {
        return Err(StopError::Chosen);
    }
    number(offset)?;
    *choice = offset;
    Ok(())
}

fn number(offset: i32) -> Result<i32, StopError> {
    let range = libc::SIGRTMIN()..=libc::SIGRTMAX();
    offset
        .checked_add(libc::SIGRTMIN())
        .filter(|signal| range.contains(signal))
        .ok_or(StopError::NoSuchSignal { offset, most: range.end() - range.start() })
}

/// Sees to it that the table exists and the handler is installed, and that it still is. Gives the signal.
pub(super) fn install() -> Result<(i32, &'static Table), StopError> {
    // Acquire: pairs with the Release below.
    let installed = INSTALLED.load(Ordering::Acquire);
    if installed != 0
        && let Some(table) = table::table()
    {
        return if is_ours(&current(installed)) {
            Ok((installed, table))
        } else {
            Err(StopError::SignalTaken { signal: installed })
        };
    }
    let choice = CHOICE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let signal = number(*choice)?;
    let table = table::make().map_err(StopError::Memory)?;
    let before = current(signal);
    if !is_ours(&before) {
        if before.sa_sigaction != libc::SIG_DFL {
            return Err(StopError::SignalTaken { signal });
        }
        // SAFETY: an all-zero sigaction is a valid one.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: a set begins with the kernel's 64 bits; the action is valid, and the handler keeps the rules at the top of
        // this file. Everything but faults is blocked in it: a stopped thread runs nothing, and no second frame has to fit a
        // small stack. (sigfillset would leave out the signal with which glibc cancels threads.)
        unsafe {
            ptr::from_mut(&mut action.sa_mask).cast::<u64>().write(raw::ALL_BUT_FAULTS);
            if libc::sigaction(signal, &action, ptr::null_mut()) != 0 {
                return Err(StopError::Signal(io::Error::last_os_error()));
            }
        }
    }
    // Release: pairs with the Acquire above.
    INSTALLED.store(signal, Ordering::Release);
    Ok((signal, table))
}

fn current(signal: c_int) -> libc::sigaction {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: nothing is installed, and the result has a valid place.
    unsafe { libc::sigaction(signal, ptr::null(), &mut action) };
    action
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handle as *const () as usize
}

extern "C" fn handle(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    let Some(table) = table::table() else { return };
    let thread = raw::thread_id();
    let Some(slot) = table.find(thread) else { return };
    // Acquire: pairs with the Release in `insert`, so that the thread read next is the one asked, or a later one, and
    // then the answer has changed, too.
    let question = slot.answer.load(Ordering::Acquire);
    if question % 2 == 0 || slot.thread.load(Ordering::Relaxed) != thread {
        return;
    }
    table.enter();
    let record = Record { context: context.cast(), thread_pointer: raw::thread_pointer() };
    let answer = ptr::from_ref(&record).expose_provenance() as u64;
    // Release: pairs with the Acquire in `record`. Whatever this thread has written before is visible to the requester.
    if slot.answer.compare_exchange(question, answer, Ordering::Release, Ordering::Relaxed).is_err() {
        table.leave();
        return;
    }
    let epoch = question as u32;
    debug_assert_eq!(epoch, asked(question >> 1) as u32);
    table.count_answer(epoch);
    // Acquire: pairs with the Release in `release`: the thread runs on with all that was done in the stopped world.
    while table.epoch.load(Ordering::Acquire) == epoch {
        raw::wait(&table.epoch, epoch, None);
    }
    // The record is on this stack until here.
    std::hint::black_box(&record);
    table.leave();
}
