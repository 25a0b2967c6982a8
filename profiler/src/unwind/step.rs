//! One step of a walk: from a frame to its caller's.
//!
//! Called in the signal handler, so it neither locks nor allocates nor panics.

use std::ops::Range;

use super::rule::Rule;

const WORD: usize = size_of::<usize>();

/// Below lies no code; a number there is data.
const LOWEST_CODE: usize = 4096;

/// What is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The interrupted instruction, or a return address.
    pub(crate) pc: usize,
    /// The stack pointer there.
    pub(crate) sp: usize,
    /// The frame-pointer register there, whatever it holds.
    pub(crate) frame_pointer: usize,
}

/// Where a step has led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// To the caller.
    Caller(Frame),
    /// There is no caller.
    Root,
    /// To something that is no frame.
    Broken,
}

impl Rule {
    /// Goes from a frame to its caller's.
    ///
    /// # Safety
    /// All of `stack` must be readable for the whole call. It may be written to meanwhile.
    pub(super) unsafe fn step(self, frame: &Frame, stack: &Range<usize>) -> Stepped {
        let from = |register: usize, words: u16| register.checked_add(usize::from(words) * WORD);
        let (top, saved) = match self {
            Self::Root => return Stepped::Root,
            Self::FramePointer if frame.frame_pointer == 0 => return Stepped::Root,
            // Pushed below the return address, and pointed to.
            Self::FramePointer => (from(frame.frame_pointer, 2), 2),
            Self::FromStackPointer { frame: words, saved } => (from(frame.sp, words), saved),
            Self::FromFramePointer { frame: words, saved } => (from(frame.frame_pointer, words), saved),
            Self::LinkageTable => (from(frame.sp, if frame.pc & 15 >= 11 { 2 } else { 1 }), 0),
        };
        let Some(top) = top else { return Stepped::Broken };
        // SAFETY: the caller's promise, here and below.
        let Some(pc) = (unsafe { read(top.wrapping_sub(WORD), frame.sp, stack) }) else { return Stepped::Broken };
        let frame_pointer = if saved == 0 {
            frame.frame_pointer
        } else {
            let at = top.wrapping_sub(usize::from(saved) * WORD);
            // SAFETY: as above.
            let Some(frame_pointer) = (unsafe { read(at, frame.sp, stack) }) else { return Stepped::Broken };
            frame_pointer
        };
        match pc {
            0 => Stepped::Root,
            1..LOWEST_CODE => Stepped::Broken,
            _ => Stepped::Caller(Frame { pc, sp: top, frame_pointer }),
        }
    }
}

/// An aligned word between the stack pointer and the end of the stack.
///
/// # Safety
/// As for [`Rule::step`].
unsafe fn read(at: usize, sp: usize, stack: &Range<usize>) -> Option<usize> {
    let inside = at >= sp.max(stack.start) && at <= stack.end.saturating_sub(WORD) && at.is_multiple_of(WORD);
    // SAFETY: an aligned word inside the stack. Volatile, because its owner may be writing it.
    inside.then(|| unsafe { (at as *const usize).read_volatile() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stack(words: &[usize]) -> Range<usize> {
        let range = words.as_ptr_range();
        range.start as usize..range.end as usize
    }

    fn step(rule: Rule, frame: Frame, words: &[usize]) -> Stepped {
        // SAFETY: the bounds are those of a live slice.
        unsafe { rule.step(&frame, &stack(words)) }
    }

    #[test]
    fn each_rule_finds_its_caller() {
        let mut words = [0_usize; 16];
        let base = words.as_ptr() as usize;
        words[3] = 0x7000; // a saved frame pointer
        words[4] = 0x5000; // a return address
        let frame = |sp: usize, fp: usize| Frame { pc: 0x9000, sp: base + sp * 8, frame_pointer: fp };
        let caller = |fp| Stepped::Caller(Frame { pc: 0x5000, sp: base + 5 * 8, frame_pointer: fp });
        assert_eq!(step(Rule::FramePointer, frame(0, base + 3 * 8), &words), caller(0x7000));
        assert_eq!(step(Rule::FromStackPointer { frame: 5, saved: 0 }, frame(0, 77), &words), caller(77));
        assert_eq!(step(Rule::FromStackPointer { frame: 3, saved: 2 }, frame(2, 77), &words), caller(0x7000));
        assert_eq!(step(Rule::FromFramePointer { frame: 1, saved: 2 }, frame(2, base + 4 * 8), &words), caller(0x7000));
        assert_eq!(step(Rule::LinkageTable, frame(4, 77), &words), caller(77));
        let pushed = Frame { pc: 0x900b, ..frame(3, 77) };
        assert_eq!(step(Rule::LinkageTable, pushed, &words), caller(77));
        assert_eq!(step(Rule::Root, frame(0, 77), &words), Stepped::Root);
        assert_eq!(step(Rule::FramePointer, frame(0, 0), &words), Stepped::Root);
        // The slot above the return address is empty: the outermost frame.
        assert_eq!(step(Rule::FramePointer, frame(0, base + 5 * 8), &words), Stepped::Root);
    }

    #[test]
    fn a_frame_below_the_stack_pointer_is_none() {
        let words = [0x5000_usize; 8];
        let base = words.as_ptr() as usize;
        let frame = Frame { pc: 0x9000, sp: base + 4 * 8, frame_pointer: base + 2 * 8 };
        assert_eq!(step(Rule::FramePointer, frame, &words), Stepped::Broken);
        assert_eq!(
            step(Rule::FromStackPointer { frame: 5, saved: 0 }, frame, &words),
            Stepped::Broken,
            "beyond the end"
        );
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        any::<u32>().prop_map(Rule::unpack)
    }

    proptest! {
        /// Whatever is on the stack and in the registers: steps go up, and stay inside. (A read outside would be
        /// noticed by the address sanitizer or as a fault; what is asserted is that the walk ends.)
        #[test]
        fn hostile_stacks_end(
            mut words in prop::collection::vec(any::<usize>(), 1..64),
            pointers in prop::collection::vec((0_usize..64, 0_usize..80), 0..32),
            rules in prop::collection::vec(any_rule(), 80),
            sp in 0_usize..70,
            fp in prop_oneof![any::<usize>(), 0_usize..100],
        ) {
            let base = words.as_ptr() as usize;
            for (at, to) in pointers {
                let length = words.len();
                words[at % length] = base + to * 8;
            }
            let fp = if fp < 100 { base + fp * 8 } else { fp };
            let mut frame = Frame { pc: 0x9000, sp: base + sp * 8, frame_pointer: fp };
            let mut ended = false;
            for rule in rules {
                match step(rule, frame, &words) {
                    Stepped::Caller(caller) => {
                        prop_assert!(caller.sp > frame.sp && caller.sp <= stack(&words).end);
                        frame = caller;
                    }
                    Stepped::Root | Stepped::Broken => {
                        ended = true;
                        break;
                    }
                }
            }
            prop_assert!(ended);
        }
    }
}
