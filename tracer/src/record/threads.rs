//! Which thread writes into which ring.
//!
//! A ring is made for a thread at its first event and given back when the thread ends; another thread then continues in
//! it. So there are as many as there were ever threads with events at the same time, and readers walk a list that only grows.

use std::{cell::Cell, ptr};

use greenprof_runtime::{heap, world};
use parking_lot::Mutex;

use super::{ring::Ring, writer::Writer};

/// The most rings: 1 MiB of address space each. Events of further threads are lost, and counted.
pub(crate) const MAX_RINGS: usize = 12_288;

/// All rings ever made, and the writers without a thread. Guards both lists.
static THREADS: Mutex<Threads> = Mutex::new(Threads { rings: Vec::new(), unused: Vec::new(), refused: 0 });

struct Threads {
    rings: Vec<&'static Ring>,
    unused: Vec<Box<Writer>>,
    /// Threads that got no ring.
    refused: u64,
}

thread_local! {
    /// Null before the first event, and at the thread's very end.
    static WRITER: Cell<*const Writer> = const { Cell::new(ptr::null()) };
    static LEASE: Lease = const { Lease(Cell::new(None)) };
}

/// Gives the writer back when its thread ends.
struct Lease(Cell<Option<Box<Writer>>>);

impl Drop for Lease {
    fn drop(&mut self) {
        WRITER.set(ptr::null());
        if let Some(writer) = self.0.take() {
            heap::untracked(|| THREADS.lock().unused.push(writer));
        }
    }
}

/// The writer of the calling thread. The reference must not be kept across a wait; not inlined for the same reason.
#[inline(never)]
pub(crate) fn writer<'a>() -> Option<&'a Writer> {
    // SAFETY: null, or the writer in this thread's lease, which clears the pointer before it gives the writer away.
    unsafe { WRITER.get().as_ref() }.or_else(take)
}

#[cold]
fn take<'a>() -> Option<&'a Writer> {
    heap::untracked(|| {
        LEASE
            .try_with(|lease| {
                let mut writer = unused().or_else(make)?;
                // SAFETY: the calling thread's id.
                let thread = unsafe { libc::gettid() };
                let worker = world::workers().into_iter().find(|worker| worker.thread_id() == thread);
                writer.begin_thread(thread, worker.map(|worker| (worker.runtime_id(), worker.index())));
                let at = ptr::from_ref(&*writer);
                lease.0.set(Some(writer));
                WRITER.set(at);
                // SAFETY: the box is in the lease, and stays there until the thread ends.
                Some(unsafe { &*at })
            })
            .ok()
            .flatten()
    })
}

/// A writer whose ring has been read to the end, so that there is room to say whose it is now.
fn unused() -> Option<Box<Writer>> {
    let mut threads = THREADS.lock();
    let at = threads.unused.iter().position(|writer| writer.ring().is_empty())?;
    Some(threads.unused.swap_remove(at))
}

fn make() -> Option<Box<Writer>> {
    let mut threads = THREADS.lock();
    let ring = if threads.rings.len() < MAX_RINGS { Ring::leak() } else { None };
    match ring {
        Some(ring) => threads.rings.push(ring),
        None => threads.refused += 1,
    }
    ring.map(|ring| Box::new(Writer::new(ring)))
}

/// Gives the rings from the `from`th on to `each`, and how many events or threads were lost for want of one.
pub(crate) fn rings_from(from: usize, each: impl FnMut(&'static Ring)) -> u64 {
    let threads = THREADS.lock();
    threads.rings[from.min(threads.rings.len())..].iter().copied().for_each(each);
    threads.refused
}
