//! A thread of the stopped world: its registers, and where its stacks and thread-local variables lie.

use std::{fmt, ops::Range, sync::atomic::Ordering};

use super::{
    Stopped,
    census::Verdict,
    registers::{RED_ZONE, Saved},
    slot::Slot,
    task::Task,
};
use crate::world::threads::WorkerThread;

/// Whether a thread is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadState {
    /// It has asked for the stop, and runs the closure.
    Requester,
    /// It sleeps in its handler, its registers saved.
    Stopped,
    /// It has ended, and is only still listed: so is a main thread that ended before the process.
    Dead,
    /// The kernel has made it for itself (io_uring does), and it runs no code of the process.
    OfKernel,
    /// It may be running. While there is one, the stop is not complete.
    Missed(Missed),
}

/// Why a thread was not stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Missed {
    /// It blocks the signal: by its own choice, or because it is just being made, exits, or starts a process.
    Masked,
    /// It sleeps and no signal wakes it: it waits for the child of a `vfork` to start its program, or for a slow device.
    Uninterruptible,
    /// Job control or a debugger has stopped it.
    Suspended,
    /// It did not get to run within the time, or something takes the signals away from it (`sigwait`, a debugger).
    Unresponsive,
    /// The system does not allow to send it a signal: a filter of system calls, or too many signals are queued.
    Refused,
}

/// What a range of a stack belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackKind {
    /// The stack of the task that the thread runs.
    Task,
    /// The thread's own.
    Thread,
    /// The stack on which it runs a signal handler of the program's.
    Signal,
    /// A stack that is none of these, another library's perhaps. Its end is that of the mapping.
    Other,
}

/// The part of a stack that is in use, with the red zone below the stack pointer.
///
/// Only a task's own stack may be read directly. In the others, pages may be missing (guards without a mapping of their
/// own): read them with [`Stopped::words`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Addresses, lowest first.
    pub range: Range<usize>,
    /// What it belongs to.
    pub kind: StackKind,
}

/// A thread while the world is stopped.
#[derive(Clone, Copy)]
pub struct Thread<'w> {
    pub(super) world: &'w Stopped<'w>,
    pub(super) slot: &'w Slot,
}

impl<'w> Thread<'w> {
    /// The kernel's id.
    pub fn id(&self) -> i32 {
        // Relaxed: here and below, this thread has written it.
        self.slot.thread.load(Ordering::Relaxed)
    }

    /// Whether it is stopped.
    pub fn state(&self) -> ThreadState {
        if self.slot.is_stopped() {
            return ThreadState::Stopped;
        }
        ThreadState::Missed(match self.slot.verdict() {
            Verdict::Requester => return ThreadState::Requester,
            Verdict::Dead | Verdict::Gone => return ThreadState::Dead,
            Verdict::OfKernel => return ThreadState::OfKernel,
            Verdict::Masked => Missed::Masked,
            Verdict::Uninterruptible => Missed::Uninterruptible,
            Verdict::Suspended => Missed::Suspended,
            Verdict::Refused => Missed::Refused,
            Verdict::Asked | Verdict::Unresponsive => Missed::Unresponsive,
        })
    }

    fn saved(&self) -> Option<Saved<'w>> {
        // SAFETY: the record and the context are on the stack of the thread's handler, which stays there until the release,
        // and that ends `'w`.
        self.slot.record().map(|record| Saved(unsafe { &*(*record).context }))
    }

    fn is_requester(&self) -> bool {
        self.slot.verdict() == Verdict::Requester
    }

    /// The instruction that was interrupted; 0 if it is not known, and for the requester.
    pub fn pc(&self) -> usize {
        self.saved().map_or(0, Saved::pc)
    }

    /// The stack pointer; 0 if it is not known. Of a thread that was missed while it slept, what it was then.
    pub fn sp(&self) -> usize {
        match self.saved() {
            Some(saved) => saved.sp(),
            None if self.is_requester() => self.world.here.sp,
            None => self.slot.sp.load(Ordering::Relaxed),
        }
    }

    pub(super) fn frame_pointer(&self) -> usize {
        self.saved().map_or(0, Saved::frame_pointer)
    }

    /// The general registers, with a few words beside them that are none; empty if the thread was missed. Of the requester
    /// those that functions preserve: what its callers had in others is on its stack.
    pub fn registers(&self) -> &'w [usize] {
        match self.saved() {
            Some(saved) => saved.general(),
            None if self.is_requester() => &self.world.here.words,
            None => &[],
        }
    }

    /// The area in which the kernel saved the vector and all further registers (on x86_64, as `XSAVE` writes it): a pointer
    /// may be there only, while two values are exchanged for example. Empty for the requester, and if the thread was missed.
    pub fn extended_registers(&self) -> &'w [usize] {
        self.saved().map_or(&[], Saved::extended)
    }

    /// The base of its thread-local storage; 0 if it has none or was missed.
    pub fn thread_pointer(&self) -> usize {
        match self.slot.record() {
            // SAFETY: as in `saved`.
            Some(record) => unsafe { (*record).thread_pointer },
            None if self.is_requester() => self.world.thread_pointer,
            None => 0,
        }
    }

    /// Where its static thread-local variables and the first values of `pthread_setspecific` lie; it is part of the thread's
    /// own stack's mapping. Those of a module that was loaded just before the stop may be missing: compare `dlpi_adds` of
    /// `dl_iterate_phdr` before and after. Nothing if the thread was missed. To be read with [`Stopped::words`].
    pub fn thread_locals(&self) -> Option<Range<usize>> {
        let pointer = self.thread_pointer();
        if pointer == 0 {
            return None;
        }
        let area = self.world.modules.around(pointer);
        let mapping = self.world.mapping(pointer - 1).or_else(|| self.world.mapping(pointer))?;
        Some(area.start.max(mapping.start)..area.end.min(mapping.end))
    }

    /// Gives the range of each block with thread-local variables of a module that was loaded at run time (`dlopen`). `false`: some
    /// were not found; then a search of this thread is not complete. To be read with [`Stopped::words`].
    pub fn dynamic_thread_locals(&self, block: impl FnMut(Range<usize>)) -> bool {
        self.world.modules.dynamic(self.world.readable.get(), self.thread_pointer(), block)
    }

    /// The worker that the thread is, if it is one.
    pub fn worker(&self) -> Option<&'static WorkerThread> {
        // SAFETY: null, or a worker's record, which is never freed.
        unsafe { self.slot.worker.load(Ordering::Relaxed).as_ref() }
    }

    /// Whether it is the thread that fires the timers of a runtime, and has none in hand that keeps something of the program's: its
    /// own stack and its registers hold only what is left of earlier ones then. To be believed if [`Stopped::timers`] gave
    /// `true`; `false` in an incomplete stop.
    pub fn is_idle_timer_thread(&self) -> bool {
        #[cfg(loom)]
        return false; // a model stops nobody
        // SAFETY: every other thread is stopped.
        #[cfg(not(loom))]
        return self.world.complete() && unsafe { crate::time::roll::all() }.any(|t| t.is_idle_thread(self.id()));
    }

    /// The task that the worker has switched to, or is just switching to or from; [`Task::thread`] tells whether its
    /// stack is the one in use.
    pub fn task(&self) -> Option<Task<'w>> {
        let control = self.worker()?.control()?;
        Some(Task { world: self.world, control })
    }

    /// The stacks that are in use, at most three; none if the stack pointer is not known.
    ///
    /// A thread in a signal handler of the program's on an alternate stack hides where the interrupted code stood: then the
    /// other stacks are given as a whole. Reads the memory map the first time.
    pub fn stacks(&self) -> impl Iterator<Item = Stack> + use<'w> {
        self.find_stacks().into_iter().flatten()
    }

    fn find_stacks(&self) -> [Option<Stack>; 3] {
        let sp = self.sp();
        if sp == 0 {
            return [None, None, None];
        }
        let from_sp = |whole: &Range<usize>, kind| {
            Some(Stack { range: sp.saturating_sub(RED_ZONE).max(whole.start)..whole.end, kind })
        };
        let worker = self.worker();
        let task = self.task().map(|task| task.stack());
        let in_use = worker.map(|worker| Stack { range: worker.stack_in_use(), kind: StackKind::Thread });
        if let Some(task) = task.as_ref().filter(|task| task.contains(&sp)) {
            return [from_sp(task, StackKind::Task), in_use, None];
        }
        let own = worker.map(WorkerThread::stack).or_else(|| self.own_stack());
        let signal = self.saved().map_or(0..0, Saved::signal_stack);
        // A worker that is switching has left its task's stack, or is not there yet: the task's saved context is whole.
        if let Some(own) = own.as_ref().filter(|own| own.contains(&sp) && !signal.contains(&sp)) {
            return [from_sp(own, StackKind::Thread), None, None];
        }
        let here = if signal.contains(&sp) {
            from_sp(&signal, StackKind::Signal)
        } else {
            self.world.mapping(sp).and_then(|mapping| from_sp(&(mapping.start..mapping.end), StackKind::Other))
        };
        let task = task.map(|range| Stack { range, kind: StackKind::Task });
        let own = if task.is_some() { in_use } else { own.map(|range| Stack { range, kind: StackKind::Thread }) };
        [here, task, own]
    }

    /// The own stack of a thread that is no worker. Its end includes the thread-local variables above it.
    fn own_stack(&self) -> Option<Range<usize>> {
        if self.id() == self.world.process {
            let main = self.world.mappings().iter().find(|mapping| mapping.is_main_stack())?;
            return Some(main.start..main.end);
        }
        let locals = self.thread_locals()?;
        let mapping = self.world.mapping(locals.start)?;
        Some(mapping.start..locals.end)
    }
}

impl fmt::Debug for Thread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id())
            .field("state", &self.state())
            .field("pc", &format_args!("{:#x}", self.pc()))
            .field("sp", &format_args!("{:#x}", self.sp()))
            .finish_non_exhaustive()
    }
}
