//! Ctrl-C: ends a program at once, or asks it to end in order, if it has said that it can.
//!
//! SIGINT and SIGTERM are blocked in the first thread, before there are others, which inherit that; one thread waits for
//! them. So no code runs in a signal handler, and no system call of a worker is interrupted.

use std::{
    io, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

/// What a shell reports for a program that was ended by SIGINT.
const ENDED_BY_INTERRUPT: i32 = 130;

/// Tells when the program is to end.
#[derive(Debug)]
pub struct Interrupt {
    in_order: Arc<AtomicBool>,
    asked: mpsc::Receiver<()>,
}

impl Interrupt {
    /// Starts to listen. To be called before any other thread is started.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn listen() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals.thread_block()?;
        let (ask, asked) = mpsc::channel();
        let in_order = Arc::new(AtomicBool::new(false));
        let listener = in_order.clone();
        thread::Builder::new().name("interrupt".into()).spawn(move || {
            while signals.wait().is_ok() {
                // Relaxed: nothing else is read because of it. The second signal finds it false.
                if !listener.swap(false, Ordering::Relaxed) || ask.send(()).is_err() {
                    process::exit(ENDED_BY_INTERRUPT);
                }
            }
        })?;
        Ok(Self { in_order, asked })
    }

    /// From now on the first signal is told by [`Interrupt::wait`]; the second ends the program.
    pub fn end_in_order(&self) {
        self.in_order.store(true, Ordering::Relaxed);
    }

    /// Waits for a signal, at most so long; whether one came.
    pub fn wait(&self, timeout: Duration) -> bool {
        // Disconnected: nobody listens any more, which is no reason to go on for ever.
        !matches!(self.asked.recv_timeout(timeout), Err(RecvTimeoutError::Timeout))
    }
}
