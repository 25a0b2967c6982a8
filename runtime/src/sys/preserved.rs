//! The registers that a called function preserves for its caller.
//!
//! The compiler leaves a value in such a register after its last use, until it needs the register. Every function that is called from
//! there and uses the register itself saves it on its stack: so a reference to what the caller has given away long ago lies in a live
//! frame, and a leak scan cannot know that nobody will read it again. The compiler does: what is inlined into the caller and
//! declares that it overwrites these registers has it put elsewhere what it still needs, and zeroes the rest.

#[cfg(not(miri))]
use std::arch::asm;

/// Zeroes those preserved registers in which the calling function has nothing that it needs. Has that effect only if it is inlined
/// into the function that has given something away, so whoever calls this must be inlined as well.
///
/// It takes an instruction for each register, and a few more where the caller needs what is in them.
#[inline(always)]
#[cfg(not(miri))]
pub(crate) fn forget() {
    let zero: usize;
    // SAFETY: the instructions write those registers only that are declared as written.
    unsafe {
        // rbx and x19 cannot be named, for the compiler has uses of its own for them. But they are all that is left for a value
        // that is needed beyond the second block.
        #[cfg(target_arch = "x86_64")]
        {
            asm!("xor {0:e}, {0:e}", out(reg) zero, options(nomem, nostack));
            asm!(
                "xor r12d, r12d",
                "xor r13d, r13d",
                "xor r14d, r14d",
                "xor r15d, r15d",
                out("r12") _,
                out("r13") _,
                out("r14") _,
                out("r15") _,
                clobber_abi("sysv64"),
                options(nomem, nostack),
            );
        }
        #[cfg(target_arch = "aarch64")]
        {
            asm!("mov {0}, xzr", out(reg) zero, options(nomem, nostack, preserves_flags));
            asm!(
                "mov x20, xzr",
                "mov x21, xzr",
                "mov x22, xzr",
                "mov x23, xzr",
                "mov x24, xzr",
                "mov x25, xzr",
                "mov x26, xzr",
                "mov x27, xzr",
                "mov x28, xzr",
                out("x20") _,
                out("x21") _,
                out("x22") _,
                out("x23") _,
                out("x24") _,
                out("x25") _,
                out("x26") _,
                out("x27") _,
                out("x28") _,
                clobber_abi("C"),
                options(nomem, nostack),
            );
        }
        asm!("/* {0} */", in(reg) zero, options(nomem, nostack, preserves_flags));
    }
}

/// There are no registers.
#[cfg(miri)]
pub(crate) fn forget() {}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_needs_is_gone() {
        const MARK: usize = 0x6d61_726b;
        let mut left = [MARK; 4];
        // SAFETY: the first block writes registers that are declared as written, the last one reads registers and writes to `left`.
        unsafe {
            asm!(
                "mov r12, {0}",
                "mov r13, {0}",
                "mov r14, {0}",
                "mov r15, {0}",
                in(reg) MARK,
                out("r12") _,
                out("r13") _,
                out("r14") _,
                out("r15") _,
                options(nomem, nostack),
            );
            forget();
            asm!(
                "mov [rax], r12",
                "mov [rax + 8], r13",
                "mov [rax + 16], r14",
                "mov [rax + 24], r15",
                in("rax") left.as_mut_ptr(),
                options(nostack),
            );
        }
        assert!(!left.contains(&MARK), "{left:x?}");
    }

    #[test]
    fn what_is_needed_stays() {
        let values: [usize; 8] = std::hint::black_box(std::array::from_fn(|i| i * i));
        let [a, b, c, d, e, f, g, h] = values.map(|value| value + 1);
        forget();
        assert_eq!([a, b, c, d, e, f, g, h], values.map(|value| value + 1));
    }
}
