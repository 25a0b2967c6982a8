//! The recording end of a ring: what a thread keeps for itself between two events.

use std::{
    cell::Cell,
    ops::{ControlFlow, Range},
};

use greenprof_runtime::{
    hooks::TaskView,
    world::{caller, unwind},
};

use super::{
    clock,
    kind::{self, head, subject_in, words_of},
    ring::{Ring, WAKE_EVERY},
    stack::{Cache, Walk},
};
use crate::engine;

pub(crate) struct Writer {
    ring: &'static Ring,
    /// Words written.
    at: Cell<u64>,
    /// Up to where there was room at the last look.
    limit: Cell<u64>,
    /// Records lost since the last one that found room.
    lost: Cell<u64>,
    /// When the last task left; 0 if something has happened since.
    left: Cell<u64>,
    /// The stack of the task that runs here.
    task_stack: Cell<(usize, usize)>,
    stacks: Cache,
    origins: Cache,
}

impl Writer {
    pub(super) fn new(ring: &'static Ring) -> Self {
        Self {
            ring,
            at: Cell::new(0),
            limit: Cell::new(0),
            lost: Cell::new(0),
            left: Cell::new(0),
            task_stack: Cell::new((0, 0)),
            stacks: Cache::new(),
            origins: Cache::new(),
        }
    }

    pub(super) fn ring(&self) -> &'static Ring {
        self.ring
    }

    /// The calling thread writes from now on. The ring must be empty.
    pub(super) fn begin_thread(&mut self, thread: i32, worker: Option<(u32, usize)>) {
        self.at.set(self.ring.written());
        self.limit.set(self.ring.limit());
        self.left.set(0);
        self.task_stack.set((0, 0));
        let worker = worker.map_or(u64::MAX, |(runtime, index)| u64::from(runtime) << 32 | index as u64);
        self.write([head(kind::THREAD, clock::ticks()), thread as u64, worker]);
    }

    /// Whether a record of so many words can be written, after one about losses if there were any.
    #[inline(always)]
    fn has_room(&self, words: u64) -> bool {
        (self.at.get() + words <= self.limit.get() && self.lost.get() == 0) || self.make_room(words)
    }

    #[cold]
    #[inline(never)]
    fn make_room(&self, words: u64) -> bool {
        self.limit.set(self.ring.limit());
        let lost = self.lost.get();
        let all = words + if lost > 0 { 2 } else { 0 };
        if self.at.get() + all > self.limit.get() {
            self.lost.set(lost + 1);
            engine::wake();
            return false;
        }
        if lost > 0 {
            self.lost.set(0);
            self.write([head(kind::LOST, clock::ticks()), lost]);
        }
        true
    }

    /// Writes a record's first words, for which there is room, without publishing them.
    #[inline(always)]
    fn put<const N: usize>(&self, words: [u64; N]) {
        let at = self.at.get();
        for (i, word) in words.into_iter().enumerate() {
            self.ring.put(at + i as u64, word);
        }
        self.at.set(at + N as u64);
    }

    /// Lets the reader have what was written since `before`.
    #[inline(always)]
    fn publish(&self, before: u64) {
        let at = self.at.get();
        self.ring.publish(at);
        if before / WAKE_EVERY != at / WAKE_EVERY {
            engine::wake();
        }
    }

    #[inline(always)]
    fn write<const N: usize>(&self, words: [u64; N]) {
        let before = self.at.get();
        self.put(words);
        self.publish(before);
    }

    /// Records an event of fixed length.
    #[inline(always)]
    pub(crate) fn record<const N: usize>(&self, words: [u64; N]) {
        if self.has_room(N as u64) {
            self.write(words);
        }
    }

    /// Records an event with texts at its end.
    pub(crate) fn record_text<const N: usize>(&self, words: [u64; N], texts: &[&str]) {
        let length = N + texts.iter().map(|text| words_of(text.len())).sum::<usize>();
        if self.has_room(length as u64) {
            let before = self.at.get();
            self.put(words);
            texts.iter().for_each(|text| self.put_text(text));
            self.publish(before);
        }
    }

    fn put_text(&self, text: &str) {
        for chunk in text.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            self.put([u64::from_le_bytes(bytes)]);
        }
    }

    /// The number of a stack that was walked: 0 for none, else one more than its slot. Written if it is a new one.
    #[inline(always)]
    fn number(&self, walk: &Walk) -> u32 {
        let hash = walk.hash();
        let (slot, known) = self.stacks.find(hash);
        if hash == 0 || !known && !self.define(walk, hash, slot) {
            return 0;
        }
        slot as u32 + 1
    }

    #[cold]
    #[inline(never)]
    fn define(&self, walk: &Walk, hash: u64, slot: usize) -> bool {
        let room = self.has_room(3 + walk.length() as u64);
        if room {
            let before = self.at.get();
            self.put([head(kind::STACK, clock::ticks()), (walk.length() as u64) << 32 | slot as u64, hash]);
            walk.addresses().for_each(|address| self.put([address as u64]));
            self.publish(before);
            self.stacks.set(slot, hash);
        }
        room
    }

    /// The calling code's stack. `skip` addresses are left out, which lie in the hooks.
    #[inline(always)]
    pub(crate) fn own_stack(&self) -> u32 {
        let mut walk = Walk::new();
        let at = frame_pointer();
        let (low, high) = self.task_stack.get();
        if (low..high).contains(&at) {
            // SAFETY: this runs on the stack of the task that was resumed here, from here up.
            unsafe { unwind::walk(at, &(at..high), |address| walk.push(address)) };
        } else {
            caller::walk(|address| walk.push(address));
        }
        self.number(&walk)
    }

    /// The stack of a task that has just left.
    #[inline(always)]
    pub(crate) fn left_stack(&self, task: &TaskView) -> u32 {
        let mut walk = Walk::new();
        task.walk(|address| walk.push(address));
        self.number(&walk)
    }

    /// Where a task comes from: its name, its closure, its place of spawning.
    pub(crate) fn origin(&self, task: &TaskView) -> u64 {
        let closure = task.closure_name();
        let site = task.spawn_site().map_or(0, |site| std::ptr::from_ref(site).addr());
        let name = task.name().unwrap_or_default();
        let mut key = Walk::new();
        let _ = [closure.as_ptr().addr(), closure.len(), site, name.len()]
            .into_iter()
            .chain(name.as_bytes().chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | *byte as usize)))
            .try_for_each(|word| {
                if key.push(word).is_continue() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        let hash = key.hash();
        let (slot, known) = self.origins.find(hash);
        if !known {
            let words = 5 + words_of(name.len());
            if !self.has_room(words as u64) {
                return u64::from(u32::MAX);
            }
            let before = self.at.get();
            let second = (name.len() as u64) << 32 | slot as u64;
            let closure = (closure.as_ptr().addr() as u64, closure.len() as u64);
            self.put([head(kind::ORIGIN, clock::ticks()), second, closure.0, closure.1, site as u64]);
            self.put_text(&name);
            self.publish(before);
            self.origins.set(slot, hash);
        }
        slot as u64
    }

    /// A task runs here from now on.
    #[inline(always)]
    pub(crate) fn resumed(&self, stack: Range<usize>) {
        self.task_stack.set((stack.start, stack.end));
    }

    /// The time of a task's departure.
    #[inline(always)]
    pub(crate) fn leave(&self) -> u64 {
        let now = clock::ticks();
        self.left.set(now);
        self.task_stack.set((0, 0));
        now
    }

    /// The worker does something else than to switch to the next task.
    #[inline(always)]
    pub(crate) fn detour(&self) {
        self.left.set(0);
    }

    /// The time of a task's start: that of the departure before it, if the worker only switched.
    #[inline(always)]
    pub(crate) fn start(&self) -> u64 {
        match self.left.replace(0) {
            0 => clock::ticks(),
            left => left,
        }
    }

    /// Records a scheduling event.
    #[inline(always)]
    pub(crate) fn event(&self, kind: u8, ticks: u64, task: &TaskView, stack: u32) {
        self.record([head(kind, ticks), subject_in(task.id().get(), stack, task.runs())]);
    }
}

/// The frame pointer of the function that this is inlined into.
#[inline(always)]
fn frame_pointer() -> usize {
    let frame_pointer;
    // SAFETY: reads a register.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, rbp", out(reg) frame_pointer, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov {}, x29", out(reg) frame_pointer, options(nomem, nostack, preserves_flags));
    }
    frame_pointer
}
