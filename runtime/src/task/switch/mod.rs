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
pub(crate) use aarch64::{prepare, saved_frame, switch};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{prepare, saved_frame, switch};

/// Where a switched-out context continues, and where its chain of frame pointers starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SavedFrame {
    pub(crate) pc: usize,
    pub(crate) frame_pointer: usize,
}
