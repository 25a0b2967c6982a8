//! The context switch: from a worker's own stack to a task's and back.
//!
//! Both directions are the same operation, [`switch`]. It is inlined: a called switch would return to another caller
//! than it was called from, and the processor's return predictor would miss every time.
//!
//! What a switched-out context looks like, lowest address first, is the same for a task that has never run and for
//! one that waits, so the saved stack pointer describes it completely:
//!
//! ```text
//!  never run                          switched out
//!  ─────────                          ────────────
//!  sp ─▶ frame pointer = 0            sp ─▶ frame pointer of the function that switched
//!        other saved register = 0           other saved register
//!        address of `trampoline`            address after the switch
//!        (closure of the task)              frames of the task …
//!        Control block                      Control block
//! ```
//!
//! Registers that the calling convention preserves are either in that record or declared clobbered, which makes the
//! compiler save the live ones in its own frame on the same stack. All of them are zero when the other side continues:
//! otherwise a task's first frames would push words of whatever ran before, and a leak scan would take them for
//! references (`docs/design.md` has the measurement).
//!
//! Floating-point control words are not switched: Rust code runs with the default environment.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{SAVED_BYTES, prepare, saved_frame, switch};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{SAVED_BYTES, prepare, saved_frame, switch};

/// Times `count` round trips to a context that does nothing but switch back: the bare switch, without a scheduler.
#[cfg(feature = "bench")]
pub(crate) fn round_trips(count: u64) -> std::time::Duration {
    use std::{cell::Cell, ptr, time::Instant};

    /// The two contexts that switch to each other; on the caller's stack.
    struct Pair {
        caller: Cell<*mut u8>,
        echo: Cell<*mut u8>,
    }

    extern "C" fn echo(pair: usize) -> ! {
        // SAFETY: the first message is the address of the pair, which outlives the last switch.
        let pair = unsafe { &*(pair as *const Pair) };
        loop {
            // SAFETY: the caller has saved its context there and waits for this switch.
            unsafe { switch(pair.echo.as_ptr(), pair.caller.get(), 0) };
        }
    }

    let mut stack = vec![0_u128; 1024];
    let top = stack.as_mut_ptr_range().end.cast();
    // SAFETY: the memory below `top` is ours, and `echo` never returns.
    let pair = Pair { caller: Cell::new(ptr::null_mut()), echo: Cell::new(unsafe { prepare(top, echo) }) };
    let round_trip = || {
        // SAFETY: the echo's context was just made, or saved by its last switch.
        unsafe { switch(pair.caller.as_ptr(), pair.echo.get(), ptr::from_ref(&pair) as usize) }
    };
    round_trip();
    let start = Instant::now();
    for _ in 0..count {
        round_trip();
    }
    start.elapsed()
}

/// Where a switched-out context continues, and where its chain of frame pointers starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SavedFrame {
    pub(crate) pc: usize,
    pub(crate) frame_pointer: usize,
}
