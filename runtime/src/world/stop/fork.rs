//! A copy of the stopped process, in which nothing moves for as long as it is looked at, while the process itself goes on.
//!
//! ```text
//!   requester   stop ── clone ── release ─────────────────── wait, reap
//!                         └───── copy: look at memory ── end
//! ```
//!
//! The copy is made by the bare system call: no handler of `pthread_atfork` runs, and the C library does not know of it. It
//! has one thread, on a copy of the requester's stack; the others' stacks, registers and thread-local variables are there as
//! memory. It tells what it has found through a shared mapping that was made before the stop.
//!
//! For the program it does not exist: its end gives no SIGCHLD, `wait` does not see it (only `__WALL` and `__WCLONE` would), and it
//! ends when the thread does that has asked for it.

use std::{io, ops::Range, time::Duration};

use super::{Stopped, mappings, since, table::Table};
use crate::sys::{clock, raw};

/// A copy of the process that has not been waited for. Dropping it ends the copy.
#[derive(Debug)]
pub struct Fork {
    /// A descriptor that stands for the process, so that its number is never mistaken for another's.
    handle: i32,
    cloning: Duration,
}

/// How a copy of the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The look returned; or somebody else has waited for it, so that nobody knows.
    Returned,
    /// It did not: it has panicked, or met memory that the copy does not have.
    Failed,
    /// The time was over. It has been killed.
    Killed,
}

impl Stopped<'_> {
    /// Copies the process, and calls `look` in the copy, which ends with it: nothing that `look` writes to private memory is
    /// seen here. The rules for `look` are those of this module's closures, and it must not use what was made ready for
    /// the process alone, as its lock. Returns at once: let the world go on, and then [`Fork::wait`].
    ///
    /// The copy has no open files but those that it opens itself, and shares all memory that is mapped as shared: see
    /// [`Stopped::differs`].
    ///
    /// Costs what the kernel takes to copy the tables of pages: some 0.1 ms a megabyte of memory in pages of 4 KiB.
    /// After it each page costs the process a fault, when it first writes to it.
    ///
    /// # Errors
    /// The stop is not complete, or what the kernel says: EAGAIN if there are too many processes, ENOMEM, EPERM behind a filter of system
    /// calls. `look` has not been called then.
    pub fn fork(&self, look: impl FnOnce(&Self)) -> io::Result<Fork> {
        if !self.complete() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let (table, bytes) = (std::ptr::from_ref(self.held.table) as usize, size_of::<Table>());
        let parent = raw::process_id();
        let began = clock::now();
        // Every other thread is stopped: no other child is made meanwhile that would find the table.
        let kept = raw::advise(table, bytes, libc::MADV_KEEPONFORK);
        let mut handle = -1;
        let result = if kept == 0 { raw::clone_process(&mut handle) } else { kept };
        if result == 0 {
            self.in_copy(parent, look);
        }
        let wiped = raw::advise(table, bytes, libc::MADV_WIPEONFORK);
        let cloning = since(began);
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result as i32));
        }
        let fork = Fork { handle, cloning };
        match wiped {
            0 => Ok(fork),
            error => Err(io::Error::from_raw_os_error(-error as i32)),
        }
    }

    /// What the copy does. Never returns into the process's code.
    fn in_copy(&self, parent: i32, look: impl FnOnce(&Self)) -> ! {
        /// Also where `look` panics.
        struct End(i32);
        impl Drop for End {
            fn drop(&mut self) {
                raw::exit(self.0)
            }
        }
        let mut end = End(1);
        raw::become_private();
        // The process may have ended before the kernel was told that the copy should with it.
        if raw::parent_process_id() == parent {
            self.readable.set(raw::process_id());
            look(self);
            end.0 = 0;
        }
        drop(end);
        unreachable!("the process has ended")
    }

    /// In a copy: gives each range of memory that is not as it was in the process, because it is shared with it and writable,
    /// or is wiped in children. What children do not get at all is not readable in the copy. `false`: it could not be found
    /// out. Some 10 us a mapping, and 20 us a megabyte of memory.
    pub fn differs(&self, mut range: impl FnMut(Range<usize>)) -> bool {
        /// Longer than any line: a path, and what stands before it.
        const BUFFER: usize = 8192;
        let Ok(file) = raw::File::open(c"/proc/self/smaps") else { return false };
        let mut buffer = [0; BUFFER];
        let (mut filled, mut mapping, mut any) = (0, None, false);
        loop {
            let Ok(length) = usize::try_from(file.read(&mut buffer[filled..])) else { return false };
            if length == 0 {
                return any && filled == 0;
            }
            filled += length;
            let mut line = 0;
            while let Some(end) = buffer[line..filled].iter().position(|byte| *byte == b'\n') {
                let text = &buffer[line..line + end];
                line += end + 1;
                if let Some(flags) = text.strip_prefix(b"VmFlags:") {
                    let Some((start, end, shared)) = mapping.take() else { return false };
                    any = true;
                    if shared || flags.split(|byte| *byte == b' ').any(|flag| flag == b"wf") {
                        range(start..end);
                    }
                } else if let Some(next) = mappings::parse(text) {
                    mapping = Some((next.start, next.end, next.is_shared() && next.is_writable()));
                }
            }
            buffer.copy_within(line..filled, 0);
            filled -= line;
            if filled == buffer.len() {
                return false;
            }
        }
    }
}

impl Fork {
    /// How long the process took to be copied: a part of the stop.
    pub fn cloning(&self) -> Duration {
        self.cloning
    }

    /// Waits for the end of the copy, or ends it when `limit` is over. Nothing of it is left afterwards.
    pub fn wait(self, limit: Duration) -> Ended {
        let deadline = clock::after(limit);
        loop {
            let rest = Duration::from_nanos(deadline.saturating_sub(clock::now()));
            let milliseconds = rest.as_micros().div_ceil(1000).min(i32::MAX as u128) as libc::c_int;
            let mut handle = libc::pollfd { fd: self.handle, events: libc::POLLIN, revents: 0 };
            // SAFETY: one record, which outlives the call.
            let ready = unsafe { libc::poll(&mut handle, 1, milliseconds) };
            match ready {
                1.. => return self.reap(),
                0 if clock::now() >= deadline => break,
                _ => {}
            }
        }
        self.kill();
        self.reap();
        Ended::Killed
    }

    fn kill(&self) {
        // SAFETY: a signal to the process that the descriptor stands for.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.handle, libc::SIGKILL, 0, 0) };
    }

    /// Waits for the end, and takes what is left of it from the kernel.
    fn reap(&self) -> Ended {
        // SAFETY: all-zero is a valid `siginfo_t`.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        loop {
            // `__WCLONE`: it is a child without a signal for its end.
            let options = libc::WEXITED | libc::__WCLONE;
            // SAFETY: the kernel writes to `info`.
            let result = unsafe { libc::waitid(libc::P_PIDFD, self.handle as libc::id_t, &mut info, options) };
            if result == 0 {
                // SAFETY: of a child's end, as `waitid` gives it.
                let status = unsafe { info.si_status() };
                return if info.si_code == libc::CLD_EXITED && status == 0 { Ended::Returned } else { Ended::Failed };
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                // The program waits for children of all kinds, and was first.
                Some(libc::ECHILD) => return Ended::Returned,
                _ => return Ended::Failed,
            }
        }
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        // Of one that has been reaped nothing is left, and neither does anything.
        self.kill();
        self.reap();
        // SAFETY: the descriptor is this value's own.
        unsafe { libc::close(self.handle) };
    }
}
