//! The walk over an interrupted thread's stack, inside the handler.

use std::ops::{ControlFlow, Range};

use greenprof_runtime::{labels::LabelSet, world::WorkerThread};

use super::context::{Registers, frameless};
use crate::unwind::{
    self,
    step::{Frame, Stepped},
};

/// On which stack a thread was interrupted.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The stack from the interrupted pointer up; empty if it is not known.
    pub(crate) stack: Range<usize>,
    /// The task whose stack it is.
    pub(crate) task: Option<u64>,
    /// The task's labels; of a thread's own stack, none.
    pub(crate) labels: LabelSet,
}

impl Place {
    /// Finds the stack that `registers` are on: the worker's task's, or the thread's own, if either contains the stack
    /// pointer. That decides it also in the middle of a switch.
    pub(crate) fn find(registers: &Registers, worker: Option<&WorkerThread>, thread: &Range<usize>) -> Self {
        if let Some(task) = worker.and_then(WorkerThread::task)
            && task.stack.contains(&registers.sp)
        {
            let stack = registers.sp..task.stack.end;
            return Self { stack, task: Some(task.id.get()), labels: task.labels };
        }
        let stack = if thread.contains(&registers.sp) { registers.sp..thread.end } else { 0..0 };
        Self { stack, task: None, labels: LabelSet::default() }
    }
}

/// How complete a walked stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// To the frame without a caller.
    Whole,
    /// To something that is no frame.
    Broken,
    /// There was no room for more frames.
    Cut,
}

/// Walks from the interrupted instruction outwards. The first address given to `emit` is exact, all others are return
/// addresses.
///
/// # Safety
/// Must be called in a signal handler on the interrupted thread, with the place found for the same registers.
pub(crate) unsafe fn walk(
    registers: &Registers,
    place: &Place,
    mut emit: impl FnMut(usize) -> ControlFlow<()>,
) -> Completeness {
    let modules = unwind::current();
    let mut frame = Frame { pc: registers.pc, sp: registers.sp, frame_pointer: registers.frame_pointer };
    let mut exact = true;
    let _ = emit(frame.pc);
    loop {
        let frameless = || if exact { frameless(registers) } else { None };
        // SAFETY: the interrupted thread's stack above its pointer is mapped, and the thread is stopped here.
        match unsafe { modules.step(&frame, exact, frameless, &place.stack) } {
            Stepped::Root => return Completeness::Whole,
            Stepped::Broken => return Completeness::Broken,
            Stepped::Caller(caller) => frame = caller,
        }
        exact = false;
        if emit(frame.pc).is_break() {
            return Completeness::Cut;
        }
    }
}
