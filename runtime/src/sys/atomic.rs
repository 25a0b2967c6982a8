//! The atomics of the parts that are model-checked: the ordinary ones, or loom's when built with `--cfg loom`.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
};

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
};

pub(crate) use std::sync::atomic::Ordering;

/// A SeqCst fence for where there is one on every other operation. Compilers make `mfence` of it on x86-64, which takes about twice as
/// long as a locked instruction.
#[inline(always)]
pub(crate) fn full_fence() {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    // SAFETY: changes nothing. No load or store is reordered with a locked instruction (Intel's manual, volume 3, "Memory
    // Ordering"; AMD's says the same), and the compiler must take the block for one that reads and writes memory.
    unsafe {
        std::arch::asm!("lock or dword ptr [rsp], 0");
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    fence(Ordering::SeqCst);
}

/// A `const fn`, except under loom, whose atomics are made while a model runs.
macro_rules! const_unless_loom {
    ($(#[$attribute:meta])* $vis:vis const fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$attribute])*
        $vis const fn $($rest)*

        #[cfg(loom)]
        $(#[$attribute])*
        $vis fn $($rest)*
    };
}

pub(crate) use const_unless_loom;
