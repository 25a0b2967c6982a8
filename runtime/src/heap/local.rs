//! What a thread knows: its cache, and whether it is in an untracked scope.
//!
//! A task may continue on another thread after every wait, and the compiler does not know: it may keep the *address* of a
//! thread-local variable across a switch. So the address is computed by an opaque instruction at each use and never kept.
//! That also spares the call that position-independent code makes for a `thread_local!` of a library (the model is
//! *initial-exec*, which the linker turns into a constant in a program), and what is behind it needs no destructor.

use std::{
    arch::asm,
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering},
};

use super::cache::{Cache, EMPTY, Half};

/// A thread's own variables. The first two must be in this order, see the assembly below.
#[repr(C)]
pub(super) struct Local {
    /// [`EMPTY`] while the thread has none.
    pub cache: Cell<&'static Cache>,
    /// The half of the cache that allocations are made from.
    pub half: Cell<&'static Half>,
    /// In an untracked scope.
    pub untracked: Cell<bool>,
    /// How often the thread's cache was taken away because it ends.
    pub ended: Cell<u8>,
    /// Visits of the slow path, for the clock.
    pub slow: Cell<u32>,
    /// State of the thread's random numbers; 0 before the first.
    pub random: Cell<u64>,
    /// The rate with which the current gap was drawn, and the generation of the setting that it comes from.
    pub rate: Cell<u64>,
    pub generation: Cell<u32>,
    /// In a hook of the sampling.
    pub in_hook: Cell<bool>,
}

const _: () = assert!(size_of::<Local>() <= 64, "the assembly below reserves 64 bytes");
const _: () = assert!(std::mem::offset_of!(Local, cache) == 0 && std::mem::offset_of!(Local, half) == 8);

// The variable itself, in the image from which every thread gets its copy.
std::arch::global_asm!(
    ".pushsection .tdata.greenprof_heap_local,\"awT\",@progbits",
    ".balign 64",
    ".globl greenprof_heap_local",
    ".hidden greenprof_heap_local",
    ".type greenprof_heap_local, @object",
    ".size greenprof_heap_local, 64",
    "greenprof_heap_local:",
    ".quad {empty}",
    ".quad {empty}",
    ".zero 48",
    ".popsection",
    empty = sym EMPTY,
);

/// The calling thread's variables. To be used at once, not kept across anything that might wait.
#[inline(always)]
pub(super) fn local() -> &'static Local {
    let address: *const Local;
    // SAFETY: reads the thread pointer and the variable's offset from it. Not `pure`: see the module.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {0}, qword ptr fs:[0]",
            "add {0}, qword ptr [rip + greenprof_heap_local@GOTTPOFF]",
            out(reg) address,
            options(nomem, nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "adrp {1}, :gottprel:greenprof_heap_local",
            "ldr {1}, [{1}, :gottprel_lo12:greenprof_heap_local]",
            "mrs {0}, tpidr_el0",
            "add {0}, {0}, {1}",
            out(reg) address,
            out(reg) _,
            options(nomem, nostack),
        );
    }
    // SAFETY: the thread's variable, which lives as long as the thread. All fields are cells, and the type is not `Sync`.
    unsafe { &*address }
}

/// [`Local::cache`] of the calling thread, by one load.
#[inline(always)]
pub(super) fn cache() -> &'static Cache {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the first field of the thread's variables, which is always a valid reference. Not `pure`, as in `local`.
    unsafe {
        let cache: *const Cache;
        asm!(
            "mov {0}, qword ptr [rip + greenprof_heap_local@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) cache,
            options(readonly, preserves_flags, nostack),
        );
        &*cache
    }
    #[cfg(not(target_arch = "x86_64"))]
    local().cache.get()
}

/// [`Local::half`] of the calling thread, by one load.
#[inline(always)]
pub(super) fn half() -> &'static Half {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above, for the second field.
    unsafe {
        let half: *const Half;
        asm!(
            "mov {0}, qword ptr [rip + greenprof_heap_local@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0} + 8]",
            out(reg) half,
            options(readonly, preserves_flags, nostack),
        );
        &*half
    }
    #[cfg(not(target_arch = "x86_64"))]
    local().half.get()
}

/// Subtracts from a countdown that only its thread changes; returns what is left.
#[inline(always)]
pub(super) fn count_down(countdown: &AtomicI64, by: usize) -> i64 {
    let left = countdown.load(Ordering::Relaxed).wrapping_sub(by as i64);
    countdown.store(left, Ordering::Relaxed);
    left
}
