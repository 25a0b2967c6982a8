//! The smallest leaks, as Go tests its own detector with.

mod chan_recv;
mod chan_send;
mod mutex_heap;
mod mutex_stack;
mod nil_recv;
mod nil_send;
mod no_leak_global;
mod rwmutex_lock;
mod select_no_cases;
mod select_no_cases_main;
mod spawn_gc;

use super::program::Program;

/// All of them.
pub const PROGRAMS: &[&Program] = &[
    &nil_recv::PROGRAM,
    &nil_send::PROGRAM,
    &select_no_cases::PROGRAM,
    &select_no_cases_main::PROGRAM,
    &chan_recv::PROGRAM,
    &chan_send::PROGRAM,
    &mutex_stack::PROGRAM,
    &mutex_heap::PROGRAM,
    &rwmutex_lock::PROGRAM,
    &no_leak_global::PROGRAM,
    &spawn_gc::PROGRAM,
];

/// Where Go's tests come from.
const GO: &str = "what Go 1.27 tests its leak profile with";
