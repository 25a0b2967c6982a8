//! The signal with which threads are sampled and asked where they stand: SIGPROF.
//!
//! Three things arrive here, told apart by how they were sent: expiries of the per-thread CPU timers and overflows of the
//! per-thread perf events ([`crate::cpu`]), and questions to one thread ([`ask`]). The handler runs on the interrupted thread, on its alternate signal stack.
//!
//! # Rules for everything that the handler calls
//! No lock, no allocation, no thread-local that might allocate, no panic, no call into libc but for what is
//! async-signal-safe, and little stack: std's alternate stacks have only a few KiB. Memory that the handler reaches (rings,
//! slots, worker records, control blocks) is never freed.
//!
//! | what it touches | who else does | how they agree |
//! |---|---|---|
//! | the thread's sample ring | the collector | single producer, single consumer: [`crate::cpu`] |
//! | the answer to a question | who asked | a state word: [`ask`] |
//! | the worker's current task | the worker, on the same thread | program order |
//! | the interrupted stack | its thread, which is stopped here | – |

pub(crate) mod ask;
pub(crate) mod context;
pub(crate) mod stack;

use std::{io, mem, ptr, sync::OnceLock};

use libc::{c_int, c_void, siginfo_t};
use thiserror::Error;

/// Why the signal cannot be used.
#[derive(Clone, Debug, Error)]
pub(crate) enum SignalError {
    /// Somebody else has a handler.
    #[error("SIGPROF belongs to another profiler in this process, so its threads cannot be sampled")]
    Taken,
    /// The system refuses a handler.
    #[error("no handler could be installed for SIGPROF: {0}")]
    Refused(String),
}

/// The upper half of every value that is sent with the signal: what has another was not sent by this module.
const MAGIC: usize = 0x6772_7066 << 32; // "grpf"

/// The value to send along for a number.
pub(crate) fn value_for(number: u32) -> usize {
    MAGIC | number as usize
}

/// Installs the handler, once; it stays, because a late signal under the default action would end the process.
pub(crate) fn install() -> Result<(), SignalError> {
    static INSTALLED: OnceLock<Result<(), SignalError>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| {
            // SAFETY: an all-zero sigaction is a valid one.
            let mut before: libc::sigaction = unsafe { mem::zeroed() };
            // SAFETY: both pointers are to valid sigactions or null; the handler keeps the rules above.
            unsafe {
                libc::sigaction(libc::SIGPROF, ptr::null(), &mut before);
                if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN {
                    return Err(SignalError::Taken);
                }
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = handle as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
                // One of them stops the world. Its frame must not come on top of this handler's: std's signal stacks have
                // 8 KiB, and a frame with AVX-512 state takes nearly half of that.
                for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
                    libc::sigaddset(&mut action.sa_mask, signal);
                }
                if libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) != 0 {
                    return Err(SignalError::Refused(io::Error::last_os_error().to_string()));
                }
            }
            Ok(())
        })
        .clone()
}

/// The code of a signal that a file descriptor has sent, as the kernel numbers it.
const DESCRIPTOR_READY: c_int = 1; // POLL_IN

/// The fields of a siginfo that was sent by a timer or by a queued signal, as the kernel lays them out.
#[repr(C)]
struct QueuedInfo {
    signal: c_int,
    error: c_int,
    code: c_int,
    _padding: c_int,
    /// The timer's number, or the sender's process.
    _source: c_int,
    /// How many further expiries this signal stands for; of a queued signal, the sender's user.
    overrun: c_int,
    /// The value that was sent along; of a descriptor's signal, the descriptor in the lower half.
    value: usize,
}

const _: () = assert!(size_of::<QueuedInfo>() == 32, "the kernel's layout on 64-bit machines");

extern "C" fn handle(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: errno is the thread's own. Restored below, for the interrupted code may be about to read it.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    // SAFETY: the kernel passes a siginfo of at least this size.
    let info = unsafe { &*info.cast::<QueuedInfo>() };
    let ours = info.value & (u32::MAX as usize) << 32 == MAGIC;
    let number = info.value as u32;
    // SAFETY: the kernel passes the context that was interrupted.
    let registers = unsafe { context::Registers::of(context) };
    match info.code {
        libc::SI_TIMER if ours => crate::cpu::tick(number, info.overrun.max(0) as u32, &registers),
        libc::SI_QUEUE if ours => ask::answer(number, &registers),
        DESCRIPTOR_READY => crate::cpu::overflow(number as i32, &registers),
        _ => {}
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}
