//! Which threads the process has, where their stacks are, and their timers.

use std::{fs, io, ops::Range, time::Duration};

use greenprof_runtime::world::{self, WorkerThread};
use nix::{
    sys::{
        signal::{SigEvent, SigevNotify, Signal},
        time::TimeSpec,
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
};

use crate::signal::{self, ask};

/// How long a thread may take to tell where its stack is. One that blocks the signal is sampled without its callers.
const PATIENCE: Duration = Duration::from_millis(10);

/// The kernel's ids of all threads of the process.
pub(super) fn ids() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc/self/task")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The worker that runs on a thread, if one does.
pub(super) fn worker(thread: i32) -> Option<&'static WorkerThread> {
    world::workers().into_iter().find(|worker| worker.thread_id() == thread)
}

/// The stack of a thread that is no worker, found from where its stack pointer is; empty if that cannot be found.
pub(super) fn foreign_stack(thread: i32) -> Range<usize> {
    stack_pointer(thread).map_or(0..0, |(sp, thread_pointer)| stack_around(sp, thread_pointer))
}

/// The stack that a stack pointer is on; empty if that cannot be found. A thread pointer of 0 is unknown.
pub(super) fn stack_around(sp: usize, thread_pointer: usize) -> Range<usize> {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return 0..0 };
    let Some(mapping) = maps.lines().filter_map(writable_range).find(|range| range.contains(&sp)) else {
        return 0..0;
    };
    // The kernel joins mappings that lie next to each other, and the upper one may go away before the thread does. A
    // thread's own memory lies at the upper end of its stack, so what is below it is the stack.
    let end = if (sp..mapping.end).contains(&thread_pointer) { thread_pointer } else { mapping.end };
    mapping.start..end
}

fn writable_range(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    fields.next()?.starts_with("rw").then_some(address(start)?..address(end)?)
}

/// A thread's stack pointer and thread pointer (0 if unknown). One that sleeps in the kernel is not woken for it.
fn stack_pointer(thread: i32) -> Option<(usize, usize)> {
    if let Ok(text) = fs::read_to_string(format!("/proc/self/task/{thread}/syscall"))
        && let Some(sp) = sleeping_stack_pointer(&text)
    {
        return Some((sp, 0));
    }
    ask::ask(thread, None, PATIENCE).map(|answer| (answer.sp, answer.thread_pointer))
}

/// The stack pointer in `/proc/self/task/*/syscall`: the last but one field; only of a thread that sleeps.
fn sleeping_stack_pointer(text: &str) -> Option<usize> {
    let fields: Vec<_> = text.split_ascii_whitespace().collect();
    let [.., sp, _pc] = fields.as_slice() else { return None };
    usize::from_str_radix(sp.strip_prefix("0x")?, 16).ok().filter(|sp| *sp != 0)
}

/// The clock that counts a thread's CPU time, by the kernel's id. (`pthread_getcpuclockid` gives the same, from a handle
/// that only the thread's creator has.)
fn cpu_clock(thread: i32) -> ClockId {
    const PER_THREAD: libc::clockid_t = 4;
    const SCHEDULER_TIME: libc::clockid_t = 2;
    ClockId::from_raw((!thread) << 3 | PER_THREAD | SCHEDULER_TIME)
}

/// Arms a timer that interrupts `thread` after `first`, and then after each `period`, of its CPU time.
pub(super) fn arm(thread: i32, slot: u32, first: Duration, period: Duration) -> nix::Result<Timer> {
    let event = SigEvent::new(SigevNotify::SigevThreadId {
        signal: Signal::SIGPROF,
        thread_id: thread,
        si_value: signal::value_for(slot) as libc::intptr_t,
    });
    let mut timer = Timer::new(cpu_clock(thread), event)?;
    let expiration = Expiration::IntervalDelayed(TimeSpec::from_duration(first), TimeSpec::from_duration(period));
    timer.set(expiration, TimerSetTimeFlags::empty())?;
    Ok(timer)
}

/// The CPU time of a thread so far.
pub(super) fn cpu_time(thread: i32) -> nix::Result<Duration> {
    nix::time::clock_gettime(cpu_clock(thread)).map(Duration::from)
}

/// The CPU time of the whole process so far.
pub(super) fn process_cpu() -> Duration {
    nix::time::clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_pointer_of_a_sleeping_thread_is_read() {
        assert_eq!(sleeping_stack_pointer("running\n"), None);
        let line = "202 0x7f 0x80 0x2 0x0 0x0 0xffffffff 0x7ffd1234 0x7f5678\n";
        assert_eq!(sleeping_stack_pointer(line), Some(0x7ffd_1234));
        assert_eq!(sleeping_stack_pointer("-1 0x7ffd1234 0x7f5678\n"), Some(0x7ffd_1234));
        assert_eq!(sleeping_stack_pointer("-1 0x0 0x0\n"), None);
    }

    #[test]
    fn only_writable_mappings_are_stacks() {
        assert_eq!(writable_range("7f00-8f00 rw-p 0 00:00 0 [stack]"), Some(0x7f00..0x8f00));
        assert_eq!(writable_range("7f00-8f00 r-xp 0 00:00 0 /bin/x"), None);
        assert_eq!(writable_range("nonsense"), None);
    }

    #[test]
    fn own_and_sleeping_stacks_are_found() {
        signal::install().unwrap();
        let (give, take) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            let local = 0_u8;
            // SAFETY: gettid has no preconditions.
            give.send((unsafe { libc::gettid() }, std::ptr::from_ref(&local) as usize)).unwrap();
            let _ = wait.recv();
        });
        let (thread, address) = take.recv().unwrap();
        assert!(foreign_stack(thread).contains(&address));
        let local = 0_u8;
        // SAFETY: gettid has no preconditions.
        let own = foreign_stack(unsafe { libc::gettid() });
        assert!(own.contains(&(std::ptr::from_ref(&local) as usize)));
        drop(end);
        sleeper.join().unwrap();
        assert!(foreign_stack(i32::MAX - 1).is_empty());
    }
}
