//! The stack and the labels of the code that a sample belongs to, captured on the spot.

use std::{
    mem::MaybeUninit,
    ops::ControlFlow,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use greenprof_runtime::{labels::LabelSet, world::caller};

use super::StackHash;

/// Frames kept of each stack; Go's number.
const MAX_FRAMES: usize = 128;

/// Room for the frames of a stack.
pub(crate) struct Frames([MaybeUninit<usize>; MAX_FRAMES]);

impl Frames {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; MAX_FRAMES])
    }
}

/// A stack, innermost first, and whose it is.
pub(crate) struct Captured<'a> {
    pub(crate) frames: &'a [usize],
    pub(crate) hash: StackHash,
    pub(crate) labels: LabelSet,
    /// Whether it has more frames than are kept.
    pub(crate) is_cut: bool,
}

/// The return addresses of the callers of the function that this is inlined into. Neither allocates nor locks.
#[inline(always)]
pub(crate) fn capture(room: &mut Frames) -> Captured<'_> {
    let (mut count, mut is_cut) = (0, false);
    let mut hash = StackHash::EMPTY;
    let caller = caller::walk(|address| {
        if count == MAX_FRAMES {
            is_cut = true;
            return ControlFlow::Break(());
        }
        room.0[count].write(address);
        count += 1;
        hash.push(address);
        ControlFlow::Continue(())
    });
    // SAFETY: the first `count` were written.
    let frames = unsafe { room.0[..count].assume_init_ref() };
    Captured { frames, hash, labels: caller.labels, is_cut }
}

/// In a forked child, where another thread's lock may be held for ever.
static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Makes [`forked`] true in children that are forked from now on.
pub(crate) fn forbid_in_forked_child() {
    static REGISTERED: Once = Once::new();
    // SAFETY: a function that lives as long as the program. Without memory for the entry, a child that samples before
    // its `exec` could wait for a lock.
    REGISTERED.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    });
}

/// Whether this is a forked child: then no table may be locked.
pub(crate) fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}
