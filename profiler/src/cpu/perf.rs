//! The second clock: `perf_event_open` with the kernel's `cpu-clock`, one event for each thread.
//!
//! The kernel looks at CPU timers in its tick only, so timers give no more distinct stacks a second than there are ticks.
//! This event has a high-resolution timer of its own, which runs while its thread does. At each overflow it sends
//! SIGPROF to that thread.
//!
//! The signal brings the event's file descriptor along and nothing else, so a table leads from there to the slot. A
//! signal that comes late may find that the descriptor is another event's by now: the slot knows its thread, and the
//! handler compares.
//!
//! # What a sample stands for
//! A pending signal absorbs others: a thread that is in one system call for 50 periods gets one signal, on the way out.
//! So the handler reads the thread's CPU clock, and the sample stands for all periods since the last one. Where the
//! kernel's time may not be sampled (`perf_event_paranoid` is 2), this would charge it to whatever runs next in the
//! program. There each sample stands for one period, and the rest is a sample of its own without a stack.

use std::{
    fmt, fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use perf_event_open_sys::{
    bindings::{PERF_COUNT_SW_CPU_CLOCK, PERF_FLAG_FD_CLOEXEC, PERF_TYPE_SOFTWARE, perf_event_attr},
    ioctls, perf_event_open,
};

/// Descriptors that can be told apart. A thread whose event gets a higher one has a timer instead.
const MAX_DESCRIPTORS: usize = 1 << 16;

/// By descriptor: the slot's number plus one, or 0.
static SLOTS: [AtomicU32; MAX_DESCRIPTORS] = [const { AtomicU32::new(0) }; MAX_DESCRIPTORS];

/// Commands of fcntl, as the kernel numbers them; the bindings lack them.
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
const F_OWNER_TID: libc::c_int = 0;

#[repr(C)]
struct Owner {
    kind: libc::c_int,
    thread: libc::pid_t,
}

/// What an event may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The thread's time in the program and in the kernel.
    Everything,
    /// The thread's time in the program.
    User,
}

/// Why there are no events.
#[derive(Debug)]
pub(super) struct NotPermitted(io::Error);

impl fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "perf_event_open: {}", self.0)?;
        match fs::read_to_string("/proc/sys/kernel/perf_event_paranoid") {
            Ok(level) => write!(f, "; kernel.perf_event_paranoid is {}", level.trim()),
            Err(_) => Ok(()),
        }
    }
}

/// What the process may do, found by trying it on the calling thread.
pub(super) fn permitted() -> Result<Reach, NotPermitted> {
    let period = Duration::from_secs(1);
    open(0, period, Reach::Everything)
        .map(|_| Reach::Everything)
        .or_else(|_| open(0, period, Reach::User).map(|_| Reach::User))
        .map_err(NotPermitted)
}

/// A thread's event; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Event(OwnedFd);

impl Event {
    /// Has `thread` interrupted after each `period` of its CPU time.
    pub(super) fn arm(thread: i32, slot: u32, period: Duration, reach: Reach) -> io::Result<Self> {
        let event = Event(open(thread, period, reach)?);
        let descriptor = event.0.as_raw_fd();
        let Some(entry) = entry(descriptor) else { return Err(io::ErrorKind::Unsupported.into()) };
        let owner = Owner { kind: F_OWNER_TID, thread };
        // SAFETY: an own descriptor; the third argument is what each command takes.
        unsafe {
            check(libc::fcntl(descriptor, F_SETOWN_EX, &owner))?;
            check(libc::fcntl(descriptor, F_SETSIG, libc::SIGPROF))?;
            check(libc::fcntl(descriptor, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK))?;
        }
        // Release: pairs with the Acquire in `slot_of`.
        entry.store(slot + 1, Ordering::Release);
        // SAFETY: an own descriptor, of an event.
        check(unsafe { ioctls::ENABLE(descriptor, 0) })?;
        Ok(event)
    }

    /// The thread's CPU time since the event was armed, the kernel's included; zero if it cannot be read.
    pub(super) fn counted(&self) -> Duration {
        let mut count = [0; size_of::<u64>()];
        match nix::unistd::read(&self.0, &mut count) {
            Ok(read) if read == count.len() => Duration::from_nanos(u64::from_ne_bytes(count)),
            _ => Duration::ZERO,
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // Before the descriptor is closed, and may become another event's.
        if let Some(entry) = entry(self.0.as_raw_fd()) {
            entry.store(0, Ordering::Release);
        }
    }
}

/// The slot of the event that has sent a signal.
pub(super) fn slot_of(descriptor: RawFd) -> Option<u32> {
    // Acquire: pairs with the Release in `Event::arm`.
    entry(descriptor)?.load(Ordering::Acquire).checked_sub(1)
}

fn entry(descriptor: RawFd) -> Option<&'static AtomicU32> {
    SLOTS.get(usize::try_from(descriptor).ok()?)
}

/// An event that is not yet enabled.
fn open(thread: i32, period: Duration, reach: Reach) -> io::Result<OwnedFd> {
    let mut attributes = perf_event_attr {
        type_: PERF_TYPE_SOFTWARE,
        size: size_of::<perf_event_attr>() as u32,
        config: PERF_COUNT_SW_CPU_CLOCK as u64,
        ..perf_event_attr::default()
    };
    attributes.__bindgen_anon_1.sample_period = period.as_nanos() as u64;
    attributes.__bindgen_anon_2.wakeup_events = 1;
    attributes.set_disabled(1);
    attributes.set_exclude_hv(1);
    attributes.set_exclude_kernel((reach == Reach::User).into());
    // SAFETY: valid attributes; any thread, any processor, no group.
    let descriptor = unsafe { perf_event_open(&mut attributes, thread, -1, -1, PERF_FLAG_FD_CLOEXEC.into()) };
    check(descriptor)?;
    // SAFETY: just opened, and known to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
