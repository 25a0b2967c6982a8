//! The control block: what the runtime knows of a task. It lies at the top of the task's stack.
//!
//! Blocks are type-stable: once made, the memory is a control block for the life of the process, used by one task after
//! another. So a late waker or a profiler that looks at a block which has moved on reads another task's fields, sees by
//! the generation that it did, and nothing worse. That is why every field is an atomic or is owned as stated.
//!
//! # Who writes what
//! - the spawner, before the task is started: all of `About`, `sp`, `entry`;
//! - the task and its joiner: `completion`;
//! - the worker that runs the task: `epoch`, and `sp` through the switch;
//! - the task itself: `wait_reason`, `waiting_since`, `waits_on`, `labels`, `locals`;
//! - who has seized the task, and then the task: `evicted`;
//! - the owner of the list the task is in (injector, free list): `next`, `ahead`, `batch`, `timed`, `runnable_since`.

use std::{
    ops::Range,
    panic::Location,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use super::{TaskId, WaitReason, completion::Completion, local, park::ParkWord};
use crate::{
    scheduler::Shared,
    sync::Waiter,
    sys::{
        atomic::{self, fence},
        memory::prefetch,
    },
};

/// Return addresses kept of the stack that spawned a task. The first is the runtime's own, without inlining the first six.
pub(crate) const SPAWN_FRAMES: usize = if cfg!(debug_assertions) { 11 } else { 5 };

/// Bytes of a task's name that are kept. Names lie in the block, so that reading one never follows a pointer.
pub(crate) const NAME_BYTES: usize = 48;

/// In the first cache line is what waking, queueing and resuming a task touch, in the second what it touches when it waits
/// and when it ends, and from the third on what else is told of it at its spawn.
#[repr(C, align(64))]
pub(crate) struct Control {
    pub(crate) park: ParkWord,
    /// The saved stack pointer; meaningful while `epoch` is even.
    pub(crate) sp: AtomicPtr<u8>,
    epoch: atomic::AtomicU64,
    /// Link of the list that holds the block: the injector's while runnable, the free list's while unused.
    pub(crate) next: AtomicPtr<Control>,
    /// In a chain: the block some places ahead, as a hint.
    pub(crate) ahead: AtomicPtr<Control>,
    pub(crate) runtime: AtomicPtr<Shared>,
    /// The task's first function; null once it has begun.
    pub(crate) entry: AtomicPtr<()>,
    /// The worker that alone may run the task, plus 1; 0 if any may.
    pinned: AtomicU32,
    pub(crate) wait_reason: AtomicU8,
    /// Whether `runnable_since` says when the task, which is in a queue, became runnable. Written by who has the task.
    timed: AtomicBool,
    /// Whether the task is to unwind from its wait. Set by who has seized it, taken by the task when it is resumed.
    pub(super) evicted: AtomicBool,
    pub(crate) completion: Completion,
    /// Where the closure lies; once the task has begun, the lower end of what is the runtime's on the stack.
    pub(crate) closure: AtomicPtr<u8>,
    /// See [`On`]; meaningful while the task waits.
    pub(crate) waits_on: AtomicUsize,
    /// The task's task-locals; null until it uses one.
    pub(crate) locals: AtomicPtr<local::Values>,
    pub(crate) waiting_since: AtomicU64,
    /// The stack's lowest usable address; written once, when the slot is made.
    pub(crate) stack_low: AtomicUsize,
    pub(crate) labels: AtomicU32,
    pub(crate) about: About,
    /// Links of the first block of a batch, to other batches.
    pub(crate) batch: BatchLinks,
    /// The stack's whole stride; written with `stack_low`.
    pub(crate) stack_size: AtomicUsize,
    runnable_since: AtomicU64,
}

/// A cache line's bytes, on the processors that this runs on.
const LINE: usize = 64;

/// The lines that a spawn and the first switch to the task write. Without inlining more callers are kept.
const SPAWN_LINES: usize = if cfg!(debug_assertions) { 5 } else { 4 };

/// The lines of a stack that are fetched before its task is resumed: those of the runtime's own frames, and of the waiter.
const RESUME_LINES: usize = 8;

/// How many of them are below the saved stack pointer if the task has not begun.
const FIRST_LINES: usize = 6;

/// The lines of a stack that are fetched before it is walked: what a task has that waits a few calls deep.
const FRAME_LINES: usize = 8;

// Loom's atomics are larger.
#[cfg(not(loom))]
const _: () = {
    assert!(std::mem::offset_of!(Control, completion) <= LINE);
    assert!(std::mem::offset_of!(Control, stack_low) <= 2 * LINE);
    assert!(std::mem::offset_of!(Control, about) + std::mem::offset_of!(About, name) <= SPAWN_LINES * LINE);
};

/// What a task waits on, in one word, for those who look from outside.
///
/// ```text
///   address of a waiter, or 4 * number of a task │ 2 if the waiter has lent something │ 1 if a timer ends the wait
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct On(usize);

const TIMED: usize = 1;
const LENDS: usize = 2;
const FLAGS: usize = TIMED | LENDS;

impl On {
    /// Nothing that anybody could bring about.
    pub(crate) const NOTHING: Self = Self(0);

    /// A waiter in a queue. Of a select: any of its waiters.
    pub(crate) fn waiter(waiter: *const Waiter) -> Self {
        Self(waiter as usize)
    }

    /// The end of a task.
    pub(crate) fn end_of(task: TaskId) -> Self {
        Self(task.get() as usize * (FLAGS + 1))
    }

    pub(crate) fn timed(self) -> Self {
        Self(self.0 | TIMED)
    }

    /// The wait must not be unwound: others use what the waiter has lent until it is over.
    pub(crate) fn lending(self) -> Self {
        Self(self.0 | LENDS)
    }

    pub(crate) fn lends(self) -> bool {
        self.0 & LENDS != 0
    }

    pub(crate) fn is_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    /// The waiter, if it is one; null if it is nothing.
    pub(crate) fn as_waiter(self) -> *const Waiter {
        (self.0 & !FLAGS) as *const Waiter
    }

    /// The number of the task, if it is the end of one.
    pub(crate) fn as_task(self) -> u64 {
        (self.0 / (FLAGS + 1)) as u64
    }

    pub(crate) fn bits(self) -> usize {
        self.0
    }

    pub(crate) fn from_bits(bits: usize) -> Self {
        Self(bits)
    }
}

/// How the first block of a batch is linked to the batches before and after it.
#[derive(Default)]
pub(crate) struct BatchLinks {
    pub(crate) older: AtomicPtr<Control>,
    pub(crate) newer: AtomicPtr<Control>,
    pub(crate) tail: AtomicPtr<Control>,
    pub(crate) length: AtomicUsize,
}

/// What is told of a task at its spawn and never changes while it lives.
#[repr(C)]
pub(crate) struct About {
    pub(crate) id: AtomicU64,
    pub(crate) parent: AtomicU64,
    spawn_site: AtomicPtr<Location<'static>>,
    /// A function that gives the name of the closure's type; null before the first task.
    closure_name: AtomicPtr<()>,
    /// Return addresses; a 0 ends them.
    pub(super) spawn_stack: [AtomicUsize; SPAWN_FRAMES],
    pub(crate) runtime_id: AtomicU32,
    name_length: AtomicU8,
    name: [AtomicU64; NAME_BYTES / 8],
}

/// A task of a known generation: what a waker holds. Cheap to copy, never dangling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskRef {
    pub(crate) control: NonNull<Control>,
    pub(crate) generation: u32,
}

// SAFETY: control blocks are never unmapped and are made of atomics.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    pub(crate) fn control(&self) -> &'static Control {
        // SAFETY: control blocks are type-stable and never unmapped, and only shared references to them are made.
        unsafe { self.control.as_ref() }
    }
}

impl Control {
    /// Makes a block in fresh, zeroed memory.
    ///
    /// # Safety
    /// `at` must be aligned, writable, and known to nobody else.
    pub(crate) unsafe fn init(at: NonNull<Control>, stack_low: usize, stack_size: usize) {
        // SAFETY: the caller gives us the memory.
        unsafe {
            at.write(Control {
                park: ParkWord::new(),
                sp: AtomicPtr::new(ptr::null_mut()),
                epoch: atomic::AtomicU64::new(0),
                next: AtomicPtr::new(ptr::null_mut()),
                ahead: AtomicPtr::new(ptr::null_mut()),
                completion: Completion::new(),
                batch: BatchLinks::default(),
                runtime: AtomicPtr::new(ptr::null_mut()),
                pinned: AtomicU32::new(0),
                entry: AtomicPtr::new(ptr::null_mut()),
                closure: AtomicPtr::new(ptr::null_mut()),
                stack_low: AtomicUsize::new(stack_low),
                stack_size: AtomicUsize::new(stack_size),
                wait_reason: AtomicU8::new(0),
                timed: AtomicBool::new(false),
                evicted: AtomicBool::new(false),
                labels: AtomicU32::new(0),
                waiting_since: AtomicU64::new(0),
                runnable_since: AtomicU64::new(0),
                waits_on: AtomicUsize::new(0),
                locals: AtomicPtr::new(ptr::null_mut()),
                about: About {
                    id: AtomicU64::new(0),
                    parent: AtomicU64::new(0),
                    runtime_id: AtomicU32::new(0),
                    name_length: AtomicU8::new(0),
                    name: [const { AtomicU64::new(0) }; NAME_BYTES / 8],
                    spawn_site: AtomicPtr::new(ptr::null_mut()),
                    spawn_stack: [const { AtomicUsize::new(0) }; SPAWN_FRAMES],
                    closure_name: AtomicPtr::new(ptr::null_mut()),
                },
            });
        }
    }

    /// Fetches what a spawn on this block will write, while the caller does something else.
    #[inline]
    pub(crate) fn fetch_to_spawn(&self) {
        // The line below the block is the top of the stack, where the closure goes.
        let top = ptr::from_ref(self).cast::<u8>().wrapping_sub(LINE);
        (0..=SPAWN_LINES).for_each(|line| prefetch(top.wrapping_add(line * LINE)));
    }

    /// Fetches what is read of a task when it is looked at from outside.
    #[inline]
    pub(crate) fn fetch_to_look(&self) {
        (0..SPAWN_LINES).for_each(|line| prefetch(ptr::from_ref(self).cast::<u8>().wrapping_add(line * LINE)));
    }

    /// Fetches the innermost frames of a task that is not running. The block's first line is read here, and should have been
    /// fetched.
    #[inline]
    pub(crate) fn fetch_frames(&self) {
        // Relaxed: only a hint, and a prefetch may go anywhere.
        let sp = self.sp.load(Ordering::Relaxed);
        (0..FRAME_LINES).for_each(|line| prefetch(sp.wrapping_add(line * LINE)));
    }

    /// Fetches what resuming the task and ending it will touch. Its first line is read here, and should have been fetched.
    #[inline]
    pub(crate) fn fetch_to_run(&self) {
        // One that has not begun will write below what was put there for it, another goes back through its frames.
        let below = if self.is_fresh() { FIRST_LINES * LINE } else { 0 };
        let lowest = self.sp.load(Ordering::Relaxed).wrapping_sub(below);
        (0..RESUME_LINES).for_each(|line| prefetch(lowest.wrapping_add(line * LINE)));
        prefetch(ptr::from_ref(self).cast::<u8>().wrapping_add(LINE));
    }

    /// The stack's range: from the lowest usable address to the control block.
    #[inline]
    pub(crate) fn stack(&self) -> Range<usize> {
        // Relaxed: written once, before the block could be found.
        self.stack_low.load(Ordering::Relaxed)..ptr::from_ref(self) as usize
    }

    /// The worker that alone may run the task.
    #[inline]
    pub(crate) fn pinned(&self) -> Option<usize> {
        // Relaxed: written before the task was started.
        (self.pinned.load(Ordering::Relaxed) as usize).checked_sub(1)
    }

    pub(crate) fn set_pinned(&self, worker: Option<usize>) {
        self.pinned.store(worker.map_or(0, |worker| worker as u32 + 1), Ordering::Relaxed);
    }

    /// Notes when the task became runnable. For who is about to queue it.
    pub(crate) fn set_runnable_since(&self, now: u64) {
        // Relaxed, here and below: the queue's hand-over orders it.
        self.runnable_since.store(now, Ordering::Relaxed);
        self.timed.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has noted when the task became runnable. For who has taken it out of a queue, as is the next.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.timed.load(Ordering::Relaxed)
    }

    /// When the task became runnable, once.
    pub(crate) fn take_runnable_since(&self) -> u64 {
        self.timed.store(false, Ordering::Relaxed);
        self.runnable_since.load(Ordering::Relaxed)
    }

    /// Whether the task has never run. For whoever has it in a queue.
    pub(crate) fn is_fresh(&self) -> bool {
        // Relaxed: the queue's hand-over orders it.
        !self.entry.load(Ordering::Relaxed).is_null()
    }

    /// The task's first function, once. Called by the task itself.
    pub(crate) fn take_entry(&self) -> *mut () {
        let entry = self.entry.load(Ordering::Relaxed);
        self.entry.store(ptr::null_mut(), Ordering::Relaxed);
        entry
    }

    #[inline]
    pub(crate) fn wait_reason(&self) -> WaitReason {
        // Relaxed: a reader validates what it read by epoch and generation.
        WaitReason::from_index(self.wait_reason.load(Ordering::Relaxed))
    }

    /// Called by a worker before it switches to the task: from here on its stack may change.
    pub(crate) fn begin_run(&self) {
        // Relaxed: only the worker that holds the task writes the epoch.
        let epoch = self.epoch.load(Ordering::Relaxed);
        debug_assert!(epoch.is_multiple_of(2));
        self.epoch.store(epoch + 1, Ordering::Relaxed);
        // Release: the odd epoch becomes visible before any change of the stack; pairs with the fence in `still`.
        fence(Ordering::Release);
    }

    /// Called by the worker when the task has left and its context is saved.
    pub(crate) fn end_run(&self) {
        let epoch = self.epoch.load(Ordering::Relaxed);
        // Release: pairs with the Acquire in `epoch`: an even epoch means that the stack is as the task left it.
        self.epoch.store(epoch + 1, Ordering::Release);
    }

    /// A number that changes whenever the task runs; odd while it does.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether the task has not run since [`Control::epoch`] gave `epoch`, so that what was read from its stack in
    /// between is one consistent state.
    pub(crate) fn still(&self, epoch: u64) -> bool {
        // Acquire: keeps the reads before it from moving behind the load; pairs with the fence in `begin_run`.
        fence(Ordering::Acquire);
        self.epoch.load(Ordering::Relaxed) == epoch
    }
}

// All Relaxed below: a spawner writes these before `ParkWord::start` (Release), readers come after `ParkWord::load`
// (Acquire) and look at the generation again afterwards.
impl About {
    #[inline]
    pub(crate) fn set_name(&self, name: &str) {
        self.name_length.store(0, Ordering::Relaxed);
        if !name.is_empty() {
            self.copy_from(name);
        }
    }

    fn copy_from(&self, name: &str) {
        let mut end = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; NAME_BYTES];
        bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
        for (word, chunk) in self.name.iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
        self.name_length.store(end as u8, Ordering::Relaxed);
    }

    /// Copies the name and returns its length. Safe in a signal handler.
    pub(crate) fn copy_name(&self, bytes: &mut [u8; NAME_BYTES]) -> usize {
        for (word, chunk) in self.name.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *chunk = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        usize::from(self.name_length.load(Ordering::Relaxed)).min(NAME_BYTES)
    }

    /// The name, or nothing if the block was being reused and the bytes are not text.
    pub(crate) fn name<'a>(&self, bytes: &'a mut [u8; NAME_BYTES]) -> Option<&'a str> {
        if self.name_length.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let length = self.copy_name(bytes);
        str::from_utf8(&bytes[..length]).ok().filter(|name| !name.is_empty())
    }

    pub(crate) fn set_spawn_site(&self, site: &'static Location<'static>) {
        self.spawn_site.store(ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
    }

    pub(crate) fn set_closure_name(&self, name: fn() -> &'static str) {
        self.closure_name.store(name as *mut (), Ordering::Relaxed);
    }

    pub(crate) fn closure_name(&self) -> &'static str {
        let name = self.closure_name.load(Ordering::Relaxed);
        if name.is_null() {
            return "";
        }
        // SAFETY: a function stored by `set_closure_name`.
        let name = unsafe { std::mem::transmute::<*mut (), fn() -> &'static str>(name) };
        name()
    }

    pub(crate) fn spawn_site(&self) -> Option<&'static Location<'static>> {
        // SAFETY: null, or a reference with static lifetime stored by `set_spawn_site`.
        unsafe { self.spawn_site.load(Ordering::Relaxed).as_ref() }
    }

    pub(crate) fn spawn_stack<'a>(&self, addresses: &'a mut [usize; SPAWN_FRAMES]) -> &'a [usize] {
        let mut length = 0;
        for address in
            self.spawn_stack.iter().map(|frame| frame.load(Ordering::Relaxed)).take_while(|frame| *frame != 0)
        {
            addresses[length] = address;
            length += 1;
        }
        &addresses[..length]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_a_character() {
        let mut memory = Box::new(std::mem::MaybeUninit::<Control>::uninit());
        let at = NonNull::from(memory.as_mut()).cast();
        // SAFETY: fresh memory of the right size and alignment.
        let control = unsafe {
            Control::init(at, 0, 0);
            at.as_ref()
        };
        let mut bytes = [0; NAME_BYTES];
        assert_eq!(control.about.name(&mut bytes), None);
        let long = "ä".repeat(40);
        control.about.set_name(&long);
        assert_eq!(control.about.name(&mut bytes).unwrap(), "ä".repeat(NAME_BYTES / 2));
        control.about.set_name("x");
        assert_eq!(control.about.name(&mut bytes).unwrap(), "x");
    }

    #[test]
    fn a_small_parked_task_fits_its_page() {
        assert!(size_of::<Control>() <= 512, "{} bytes", size_of::<Control>());
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::{
        sys::model::check,
        task::park::{ParkState, Unpark},
    };
    use loom::{sync::Arc, thread};

    fn control() -> Control {
        let mut memory = std::mem::MaybeUninit::uninit();
        let at = NonNull::from(&mut memory).cast();
        // SAFETY: fresh memory of the right size and alignment, which `init` fills.
        unsafe {
            Control::init(at, 0, 0);
            memory.assume_init()
        }
    }

    /// Two wakers of a task race. One of them makes it runnable; whoever that is runs it to its end and starts the next task
    /// in the same block, which waits for somebody else. The other waker may come at any time and must not wake that.
    #[test]
    fn a_late_waker_does_not_reach_the_next_task() {
        check(3, 100, || {
            let control = Arc::new(control());
            let first = control.park.start();
            let wakers = [(); 2].map(|()| {
                let control = control.clone();
                thread::spawn(move || {
                    if control.park.unpark(first) == Unpark::Schedule {
                        run_on(&control, first);
                    }
                })
            });
            if !control.park.commit_park() {
                run_on(&control, first);
            }
            wakers.into_iter().for_each(|waker| waker.join().unwrap());
            assert_eq!(control.park.load(), (first + 1, ParkState::Parked));
            assert_eq!(control.park.unpark(first + 1), Unpark::Schedule);
        });
    }

    fn run_on(control: &Control, first: u32) {
        control.park.finish();
        assert_eq!(control.park.start(), first + 1);
        assert!(control.park.commit_park(), "nobody has woken the second task");
    }

    /// A block is used again while somebody reads what was told of its task. If the generation is the same before and after,
    /// it has read one task's fields.
    #[test]
    fn a_reader_tells_one_task_from_the_next() {
        check(3, 40, || {
            let control = Arc::new(control());
            let fields = Arc::new([(); 2].map(|()| atomic::AtomicU32::new(1)));
            let generation = control.park.start();
            assert_eq!(generation, 1);
            let worker = {
                let (control, fields) = (control.clone(), fields.clone());
                thread::spawn(move || {
                    control.park.finish();
                    // As a spawner does: Relaxed, before the start.
                    fence(Ordering::Release);
                    fields.iter().for_each(|field| field.store(2, Ordering::Relaxed));
                    control.park.start();
                })
            };
            let before = control.park.load();
            let read = [0, 1].map(|n| fields[n].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let after = control.park.load();
            if before == after && before.1 == ParkState::Active {
                assert_eq!(read, [before.0; 2]);
            }
            worker.join().unwrap();
        });
    }

    /// An optimistic reader of a stack, while a worker runs the task twice: what it accepts is the state between two runs.
    #[test]
    fn a_reader_of_the_stack_sees_one_state() {
        check(3, 200, || {
            let control = Arc::new(control());
            let stack = Arc::new([(); 2].map(|()| atomic::AtomicU32::new(0)));
            let worker = {
                let (control, stack) = (control.clone(), stack.clone());
                thread::spawn(move || {
                    for run in 1..=2 {
                        control.begin_run();
                        stack.iter().for_each(|word| word.store(run, Ordering::Relaxed));
                        control.end_run();
                    }
                })
            };
            let epoch = control.epoch();
            let read = [0, 1].map(|n| stack[n].load(Ordering::Relaxed));
            if epoch.is_multiple_of(2) && control.still(epoch) {
                assert_eq!(read, [(epoch / 2) as u32; 2]);
            }
            worker.join().unwrap();
        });
    }
}
