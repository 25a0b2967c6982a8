//! The CPU time of the threads that serve the port, those that have ended included.

use std::{cell::Cell, sync::LazyLock, time::Duration};

use nix::time::ClockId;
use parking_lot::Mutex;

/// The threads of one purpose. The lock guards both.
#[derive(Default)]
struct Threads {
    alive: Vec<ClockId>,
    ended: Duration,
}

static PORT: LazyLock<Mutex<Threads>> = LazyLock::new(Mutex::default);

thread_local! {
    static OWN: Cell<Option<ClockId>> = const { Cell::new(None) };
}

fn read(clock: ClockId) -> Duration {
    nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// Counts the calling thread from now on.
pub(crate) fn enter() {
    // SAFETY: gettid has no preconditions.
    let thread = unsafe { libc::gettid() };
    // How the kernel makes a clock's id from a thread's: a per-thread clock (4) of scheduler time (2).
    let clock = ClockId::from_raw((!thread) << 3 | 4 | 2);
    OWN.set(Some(clock));
    PORT.lock().alive.push(clock);
}

/// To be called by a thread that has entered, at its end.
pub(crate) fn leave() {
    let Some(own) = OWN.take() else { return };
    let mut port = PORT.lock();
    port.alive.retain(|clock| *clock != own);
    port.ended += read(own);
}

/// CPU time of all that have entered.
pub(crate) fn cpu_time() -> Duration {
    let port = PORT.lock();
    port.ended + port.alive.iter().map(|clock| read(*clock)).sum::<Duration>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_s_time_stays_when_it_has_ended() {
        let before = cpu_time();
        std::thread::spawn(|| {
            enter();
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            leave();
        })
        .join()
        .expect("no panic");
        assert!(cpu_time() > before);
    }
}
