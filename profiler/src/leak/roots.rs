//! Roots: what is reachable without a task, and how each of them is to be taken.

use std::{io, slice};

use greenprof_runtime::world::{
    WorkerThread, for_each_module,
    stop::{StackKind, Stopped, Thread, ThreadState},
};
use libc::dl_phdr_info;

use super::{
    caller::Caller,
    external,
    mark::{Marker, PRECISE, Root, Rule},
    memory::Stack,
    report::Incomplete,
};

/// Writable segments of modules: a program with some hundred libraries has as many.
const MAX_SEGMENTS: usize = 16_384;

/// Where the variables of all modules lie, and memory that the program has marked ([`external`]). Found out before the stop, for it takes the loader's lock.
pub(super) struct Modules {
    segments: Stack<(usize, usize)>,
    overflow: bool,
    /// How many modules have been loaded and unloaded, and how often external memory was marked.
    changes: (u64, u64, u64),
}

impl Modules {
    pub(super) fn list() -> io::Result<Self> {
        let mut modules = Self { segments: Stack::new(MAX_SEGMENTS)?, overflow: false, changes: (0, 0, 0) };
        for_each_module(|module, size| {
            modules.add(module, size);
            true
        });
        let changes = external::each(|range| {
            modules.overflow |= !modules.segments.push((range.start, range.end));
        });
        modules.changes.2 = changes;
        Ok(modules)
    }

    pub(super) fn segments(&self) -> &[(usize, usize)] {
        self.segments.values()
    }

    /// Whether modules were loaded or unloaded since.
    pub(super) fn have_changed(&self) -> io::Result<bool> {
        Ok(self.changes != Self::list()?.changes)
    }

    fn add(&mut self, info: &dl_phdr_info, size: usize) {
        if size >= size_of::<dl_phdr_info>() {
            (self.changes.0, self.changes.1) = (info.dlpi_adds, info.dlpi_subs);
        }
        // SAFETY: the loader gives the module's own program headers.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W != 0) {
            let start = info.dlpi_addr as usize + header.p_vaddr as usize;
            self.overflow |= !self.segments.push((start, start + header.p_memsz as usize));
        }
    }
}

/// Marks what all roots lead to, but for tasks. Why that may not be all, if so.
pub(super) fn mark(
    world: &Stopped<'_>,
    marker: &mut Marker<'_>,
    modules: &Modules,
    caller: &Caller,
) -> Option<Incomplete> {
    let mut incomplete = modules.overflow.then_some(Incomplete::Table);
    for (start, end) in modules.segments.values() {
        marker.range(*start..*end, PRECISE, Root::Variables);
    }
    if world.mappings().is_empty() {
        incomplete = Some(Incomplete::Mappings);
    }
    let mut missed = 0;
    for thread in world.threads() {
        match thread.state() {
            // The detector itself.
            ThreadState::Requester | ThreadState::Dead | ThreadState::OfKernel => {}
            ThreadState::Missed(_) => missed += 1,
            ThreadState::Stopped => {
                if !mark_thread(marker, &thread, Some(caller).filter(|caller| caller.thread == thread.id())) {
                    incomplete = incomplete.or(Some(Incomplete::ThreadLocals));
                }
            }
        }
    }
    if !world.timers(|owner| marker.word(0, owner, PRECISE)) {
        incomplete = incomplete.or(Some(Incomplete::Busy));
    }
    if missed > 0 || !world.complete() {
        incomplete = Some(Incomplete::Threads(missed));
    }
    incomplete
}

/// `false`: some of its thread-local variables were not found.
fn mark_thread(marker: &mut Marker<'_>, thread: &Thread<'_>, caller: Option<&Caller>) -> bool {
    // A closure is put onto a new stack without system calls.
    let new_stacks = caller.is_none() && !is_in_system_call(thread.pc());
    // Who has asked for the detection is not in the middle of anything else.
    let program = Rule { plain: caller.is_none(), stacks: true, new_stacks };
    // What a worker knows of tasks, on its own stack, are their saved stack pointers, which wake nobody.
    let scheduler = Rule { plain: true, stacks: false, new_stacks };
    let worker = thread.worker();
    let is_own = |kind| worker.is_some() && kind == StackKind::Thread;
    let is_empty = worker.is_none() && thread.is_idle_timer_thread();
    let has_values = |kind| if is_own(kind) { worker.is_some_and(WorkerThread::fires) } else { !is_empty };
    let rule = |kind| if is_own(kind) { scheduler } else { program };
    let innermost = thread.stacks().next().map_or(StackKind::Other, |stack| stack.kind);
    if has_values(innermost) {
        let root = Root::Registers(thread.id());
        match caller {
            Some(caller) => marker.values(&caller.at.words, rule(innermost), root),
            None => {
                marker.values(thread.registers(), rule(innermost), root);
                marker.values(thread.extended_registers(), rule(innermost), root);
            }
        }
    }
    for mut stack in thread.stacks().filter(|stack| has_values(stack.kind)) {
        if let Some(caller) = caller.filter(|caller| stack.range.contains(&caller.at.sp)) {
            stack.range.start = caller.at.sp;
        }
        marker.range(stack.range, rule(stack.kind), Root::Stack(thread.id()));
    }
    if let Some(locals) = thread.thread_locals() {
        marker.range(locals, PRECISE, Root::Locals(thread.id()));
    }
    thread.dynamic_thread_locals(|block| marker.range(block, PRECISE, Root::Locals(thread.id())))
}

/// Whether a thread was stopped in the kernel, where it was at its own request, or is about to go there: a call that is made
/// again after the handler begins anew.
fn is_in_system_call(pc: usize) -> bool {
    const LENGTH: usize = if cfg!(target_arch = "x86_64") { 2 } else { 4 };
    let is_call = |at: usize| {
        // SAFETY: the thread was about to execute what is at `pc`, so that page is there. An instruction that begins or ends on
        // another one is not looked at.
        at >> 12 == pc >> 12
            && (at + LENGTH - 1) >> 12 == pc >> 12
            && unsafe {
                if cfg!(target_arch = "x86_64") {
                    (at as *const [u8; 2]).read() == [0x0f, 0x05]
                } else {
                    (at as *const u32).read_unaligned() & 0xffe0_001f == 0xd400_0001
                }
            }
    };
    pc >= LENGTH && (is_call(pc - LENGTH) || is_call(pc))
}
