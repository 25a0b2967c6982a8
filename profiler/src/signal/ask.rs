//! Asking a thread where it stands.
//!
//! One question at a time: [`ask`] numbers it, sends the signal with the number, and waits for the answer up to a
//! deadline. The state word decides between a handler that comes late and an asker that has given up:
//!
//! ```text
//!   number, ASKED ── handler ─▶ number, ANSWERING ── handler ─▶ number, ANSWERED
//!         └───────── asker, deadline passed ─▶ number, WITHDRAWN
//! ```
//!
//! A handler that finds another number or another state does nothing. Once it has begun, the asker waits for the end:
//! a handler is never interrupted for long.

use std::{
    mem,
    ops::ControlFlow,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use greenprof_runtime::world::WorkerThread;
use parking_lot::Mutex;

use super::{
    QueuedInfo,
    context::Registers,
    stack::{self, Place},
};

/// Frames of an answer.
const FRAMES: usize = 128;

const ASKED: u64 = 0;
const ANSWERING: u64 = 1;
const ANSWERED: u64 = 2;
const WITHDRAWN: u64 = 3;

/// The question under way, and the answer to it. All fields but the state are written before a change of the state
/// (Release) and read after it was seen (Acquire).
struct Exchange {
    /// `number << 2 | state`.
    state: AtomicU64,
    /// Of the thread that is asked; null if it is no worker.
    worker: AtomicPtr<WorkerThread>,
    task: AtomicU64,
    sp: AtomicUsize,
    thread_pointer: AtomicUsize,
    frames: AtomicUsize,
    stack: [AtomicUsize; FRAMES],
}

static EXCHANGE: Exchange = Exchange {
    state: AtomicU64::new(WITHDRAWN),
    worker: AtomicPtr::new(ptr::null_mut()),
    task: AtomicU64::new(0),
    sp: AtomicUsize::new(0),
    thread_pointer: AtomicUsize::new(0),
    frames: AtomicUsize::new(0),
    stack: [const { AtomicUsize::new(0) }; FRAMES],
};

/// Held by whoever asks.
static ASKING: Mutex<()> = Mutex::new(());

/// What a thread answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The task that it was running; 0 if it was on its own stack.
    pub(crate) task: u64,
    /// Of the interrupted code.
    pub(crate) sp: usize,
    /// See [`Registers::thread_pointer`].
    pub(crate) thread_pointer: usize,
    /// Addresses, innermost first; the first is exact. Empty if the thread was on no known stack.
    pub(crate) stack: Vec<usize>,
}

/// Asks a thread of this process; nothing if it does not answer within `patience`, or does not exist.
///
/// The handler must be installed. A thread that sleeps in the kernel is woken for it; most system calls restart.
pub(crate) fn ask(thread: i32, worker: Option<&'static WorkerThread>, patience: Duration) -> Option<Answer> {
    let _asking = ASKING.lock();
    let exchange = &EXCHANGE;
    let number = (exchange.state.load(Ordering::Relaxed) >> 2) as u32;
    let number = number.wrapping_add(1);
    let state = |state: u64| u64::from(number) << 2 | state;
    exchange.worker.store(worker.map_or(ptr::null_mut(), |w| ptr::from_ref(w).cast_mut()), Ordering::Relaxed);
    // Release: pairs with the Acquire in `answer`.
    exchange.state.store(state(ASKED), Ordering::Release);
    if !send(thread, number) {
        exchange.state.store(state(WITHDRAWN), Ordering::Relaxed);
        return None;
    }
    let start = Instant::now();
    loop {
        // Acquire: pairs with the Release in `answer`.
        let now = exchange.state.load(Ordering::Acquire);
        if now == state(ANSWERED) {
            break;
        }
        if now == state(ASKED) && start.elapsed() > patience {
            let withdrawn =
                exchange.state.compare_exchange(now, state(WITHDRAWN), Ordering::Relaxed, Ordering::Relaxed);
            if withdrawn.is_ok() {
                return None;
            }
        }
        std::thread::yield_now();
    }
    let frames = exchange.frames.load(Ordering::Relaxed).min(FRAMES);
    Some(Answer {
        task: exchange.task.load(Ordering::Relaxed),
        sp: exchange.sp.load(Ordering::Relaxed),
        thread_pointer: exchange.thread_pointer.load(Ordering::Relaxed),
        stack: exchange.stack[..frames].iter().map(|address| address.load(Ordering::Relaxed)).collect(),
    })
}

fn send(thread: i32, number: u32) -> bool {
    let info = QueuedInfo {
        signal: libc::SIGPROF,
        error: 0,
        code: libc::SI_QUEUE,
        _padding: 0,
        _source: std::process::id() as i32,
        overrun: 0,
        value: super::value_for(number),
    };
    // SAFETY: an all-zero siginfo is a valid one; the queued form fits into it.
    let mut full: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: see above; the call only reads the siginfo.
    unsafe {
        ptr::from_mut(&mut full).cast::<QueuedInfo>().write(info);
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, libc::getpid(), thread, libc::SIGPROF, &full) == 0
    }
}

/// The handler's part.
pub(super) fn answer(number: u32, registers: &Registers) {
    let exchange = &EXCHANGE;
    let state = |state: u64| u64::from(number) << 2 | state;
    // Acquire: pairs with the Release in `ask`.
    let begun = exchange.state.compare_exchange(state(ASKED), state(ANSWERING), Ordering::Acquire, Ordering::Relaxed);
    if begun.is_err() {
        return;
    }
    // SAFETY: null, or a worker's record, which is never freed.
    let worker = unsafe { exchange.worker.load(Ordering::Relaxed).as_ref() };
    let thread = worker.map_or(0..0, WorkerThread::stack);
    let place = Place::find(registers, worker, &thread);
    let mut frames = 0;
    // SAFETY: this is the handler, and the place is that of the registers.
    unsafe {
        stack::walk(registers, &place, |address| match exchange.stack.get(frames) {
            Some(slot) => {
                slot.store(address, Ordering::Relaxed);
                frames += 1;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        });
    }
    exchange.frames.store(frames, Ordering::Relaxed);
    exchange.task.store(place.task.unwrap_or(0), Ordering::Relaxed);
    exchange.sp.store(registers.sp, Ordering::Relaxed);
    exchange.thread_pointer.store(registers.thread_pointer, Ordering::Relaxed);
    // Release: pairs with the Acquire in `ask`.
    exchange.state.store(state(ANSWERED), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_answers_and_a_missing_one_does_not() {
        super::super::install().unwrap();
        // SAFETY: gettid has no preconditions.
        let own = unsafe { libc::gettid() };
        let marker = 0_u8;
        let answer = ask(own, None, Duration::from_secs(5)).expect("the calling thread answers at once");
        assert!(answer.sp < ptr::from_ref(&marker) as usize + (1 << 20));
        assert_eq!(answer.task, 0);
        assert!(ask(i32::MAX - 1, None, Duration::from_secs(5)).is_none());
    }

    #[test]
    fn a_thread_that_blocks_the_signal_lets_the_deadline_pass() {
        super::super::install().unwrap();
        let (give, take) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: the set is initialised before it is used, and only this thread's mask changes.
            unsafe {
                let mut set = mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGPROF);
                libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
                give.send(libc::gettid()).unwrap();
            }
            let _ = wait.recv();
        });
        let blocked = take.recv().unwrap();
        assert!(ask(blocked, None, Duration::from_millis(20)).is_none());
        drop(end);
        thread.join().unwrap();
        // The question that was withdrawn does not confuse the next one.
        // SAFETY: gettid has no preconditions.
        assert!(ask(unsafe { libc::gettid() }, None, Duration::from_secs(5)).is_some());
    }
}
