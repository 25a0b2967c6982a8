//! The stopped world: what it shows of threads and tasks, and how it answers to those who cannot be stopped.

#![cfg(not(loom))]

mod late;
mod lookup;
mod process;
mod request;
mod view;

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::world::Patience;

/// The world belongs to the process: one test at a time, so that one that blocks the signal does not disturb others.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Long enough for a loaded machine.
pub(crate) const PATIENT: Patience = Patience { deadline: Duration::from_secs(5), attempts: 3 };

pub(crate) fn thread_id() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

/// A thread that does something until it is dropped.
pub(crate) struct Companion {
    pub(crate) id: i32,
    end: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Companion {
    pub(crate) fn new(body: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let id = Arc::new(AtomicI32::new(0));
        let thread = {
            let (end, id) = (end.clone(), id.clone());
            thread::spawn(move || {
                id.store(thread_id(), Ordering::Release);
                body(&end);
            })
        };
        while id.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        Self { id: id.load(Ordering::Relaxed), end, thread: Some(thread) }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) fn sleep_until(end: &AtomicBool) {
    while !end.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(1));
    }
}
