//! What the black-box tests share: a small HTTP client, Go's tools, decoded profiles, leaked tasks, binaries of other
//! builds, and the public API as text.

pub mod api;
pub mod build;
pub mod client;
pub mod go;
pub mod leaks;
pub mod perfetto;
pub mod stress;
pub mod trace;

pub use greenprof_benches::accuracy::pprof;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::{Mutex, MutexGuard};

/// CPU sampling belongs to the process, so the tests of one binary that use it go one after the other.
pub fn cpu_profiler() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock()
}

/// Ends the endless loops also when an assertion fails, or the runtime's drop would wait for them for ever.
pub struct StopOnDrop(pub Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
