//! Which function's frame an address on a stack lies in, as far as frame pointers tell.

use std::{ops::Range, sync::atomic::Ordering};

use super::{Preserved, Task, Thread};
use crate::task::switch;

const WORD: usize = size_of::<usize>();

/// A place in the function whose frame contains the address: that of the call it is in, or the interrupted instruction. The
/// chain begins with a frame at `frame_pointer` that is in the function of `pc`.
///
/// # Safety
/// All of `bounds` must be readable.
unsafe fn function_at(mut pc: usize, mut frame_pointer: usize, bounds: &Range<usize>, address: usize) -> usize {
    let mut lowest = bounds.start;
    loop {
        let inside = frame_pointer >= lowest && frame_pointer <= bounds.end.saturating_sub(2 * WORD);
        if !inside || !frame_pointer.is_multiple_of(WORD) || address < frame_pointer + 2 * WORD {
            return pc;
        }
        let frame = frame_pointer as *const usize;
        lowest = frame_pointer + 2 * WORD;
        // SAFETY: two aligned words inside the bounds.
        (frame_pointer, pc) = unsafe { (frame.read_volatile(), frame.add(1).read_volatile()) };
    }
}

impl Task<'_> {
    /// A place in the function whose frame on this task's stack contains an address. For a task that no thread is on.
    pub fn function_at(&self, address: usize) -> usize {
        // SAFETY: nobody runs the task, so its context is saved.
        let frame = unsafe { switch::saved_frame(self.control.sp.load(Ordering::Relaxed)) };
        // SAFETY: all of a task's stack is readable.
        unsafe { function_at(frame.pc, frame.frame_pointer, &self.stack(), address) }
    }
}

impl Thread<'_> {
    /// A place in the function whose frame on the task's stack that this thread is on contains an address; 0 if it is on none.
    pub fn function_at(&self, address: usize) -> usize {
        let Some(stack) = self.task().map(|task| task.stack()).filter(|stack| stack.contains(&self.sp())) else {
            return 0;
        };
        // SAFETY: all of a task's stack is readable.
        unsafe { function_at(self.pc(), self.frame_pointer(), &stack, address) }
    }

    /// The same for a thread that has taken `preserved` and has not returned from there: it may wait in code without frame pointers,
    /// which no chain leads out of. 0 for an address in a frame that is not older than that.
    pub fn function_at_from(&self, preserved: &Preserved, address: usize) -> usize {
        let Some(stack) = self.task().map(|task| task.stack()).filter(|stack| stack.contains(&preserved.sp)) else {
            return 0;
        };
        // SAFETY: all of a task's stack is readable.
        unsafe { function_at(0, preserved.frame_pointer(), &stack, address) }
    }
}
