//! Numbers of the format, and how they are written.

/// What a file begins with.
pub(crate) const HEADER: &[u8; 16] = b"go 1.26 trace\0\0\0";

/// Nanoseconds of a unit of time. Whole, so that no sum of differences drifts; a power of two finer than Go's 64, and still most
/// differences take one byte.
pub(crate) const UNIT: u64 = 32;

/// Units a second.
pub(crate) const FREQUENCY: u64 = 1_000_000_000 / UNIT;

/// The most bytes of a batch's payload.
pub(crate) const MAX_BATCH: usize = 65_536;

/// The most bytes of a string.
pub(crate) const MAX_STRING: usize = 1024;

/// The most frames of a stack.
pub(crate) const MAX_FRAMES: usize = 128;

/// The thread of events that happen on none.
pub(crate) const NO_THREAD: u64 = u64::MAX;

/// Kinds of batches, of tables, and of events.
pub(crate) mod kind {
    pub(crate) const EVENT_BATCH: u8 = 1;
    pub(crate) const STACKS: u8 = 2;
    pub(crate) const STACK: u8 = 3;
    pub(crate) const STRINGS: u8 = 4;
    pub(crate) const STRING: u8 = 5;
    pub(crate) const CPU_SAMPLES: u8 = 6;
    pub(crate) const CPU_SAMPLE: u8 = 7;
    pub(crate) const FREQUENCY: u8 = 8;
    pub(crate) const PROCS_CHANGE: u8 = 9;
    pub(crate) const PROC_START: u8 = 10;
    pub(crate) const PROC_STOP: u8 = 11;
    pub(crate) const PROC_STEAL: u8 = 12;
    pub(crate) const PROC_STATUS: u8 = 13;
    pub(crate) const GO_CREATE: u8 = 14;
    pub(crate) const GO_CREATE_SYSCALL: u8 = 15;
    pub(crate) const GO_START: u8 = 16;
    pub(crate) const GO_DESTROY: u8 = 17;
    pub(crate) const GO_DESTROY_SYSCALL: u8 = 18;
    pub(crate) const GO_STOP: u8 = 19;
    pub(crate) const GO_BLOCK: u8 = 20;
    pub(crate) const GO_UNBLOCK: u8 = 21;
    pub(crate) const GO_SYSCALL_BEGIN: u8 = 22;
    pub(crate) const GO_SYSCALL_END: u8 = 23;
    pub(crate) const GO_SYSCALL_END_BLOCKED: u8 = 24;
    pub(crate) const GO_STATUS: u8 = 25;
    pub(crate) const STW_BEGIN: u8 = 26;
    pub(crate) const STW_END: u8 = 27;
    pub(crate) const GC_ACTIVE: u8 = 28;
    pub(crate) const GC_BEGIN: u8 = 29;
    pub(crate) const GC_END: u8 = 30;
    pub(crate) const GC_SWEEP_ACTIVE: u8 = 31;
    pub(crate) const GC_SWEEP_BEGIN: u8 = 32;
    pub(crate) const GC_SWEEP_END: u8 = 33;
    pub(crate) const GC_ASSIST_ACTIVE: u8 = 34;
    pub(crate) const GC_ASSIST_BEGIN: u8 = 35;
    pub(crate) const GC_ASSIST_END: u8 = 36;
    pub(crate) const HEAP_ALLOC: u8 = 37;
    pub(crate) const HEAP_GOAL: u8 = 38;
    pub(crate) const GO_LABEL: u8 = 39;
    pub(crate) const USER_TASK_BEGIN: u8 = 40;
    pub(crate) const USER_TASK_END: u8 = 41;
    pub(crate) const USER_REGION_BEGIN: u8 = 42;
    pub(crate) const USER_REGION_END: u8 = 43;
    pub(crate) const USER_LOG: u8 = 44;
    pub(crate) const GO_SWITCH: u8 = 45;
    pub(crate) const GO_SWITCH_DESTROY: u8 = 46;
    pub(crate) const GO_CREATE_BLOCKED: u8 = 47;
    pub(crate) const GO_STATUS_STACK: u8 = 48;
    pub(crate) const EXPERIMENTAL_BATCH: u8 = 49;
    pub(crate) const SYNC: u8 = 50;
    pub(crate) const CLOCK_SNAPSHOT: u8 = 51;
    pub(crate) const END_OF_GENERATION: u8 = 52;
}

/// States of a task in a status event.
pub(crate) mod task_status {
    pub(crate) const RUNNABLE: u64 = 1;
    pub(crate) const RUNNING: u64 = 2;
    pub(crate) const SYSCALL: u64 = 3;
    pub(crate) const WAITING: u64 = 4;
}

/// States of a processor in a status event.
pub(crate) mod proc_status {
    pub(crate) const RUNNING: u64 = 1;
    pub(crate) const IDLE: u64 = 2;
    pub(crate) const SYSCALL: u64 = 3;
    pub(crate) const SYSCALL_ABANDONED: u64 = 4;
}

/// The most bytes of a number.
pub(crate) const MAX_NUMBER: usize = 10;

/// Appends a number, seven bits a byte, the lowest first.
#[inline]
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Writes a number into an array, in which there must be room for it. Where the next one goes.
#[inline(always)]
pub(crate) fn put_at<const N: usize>(bytes: &mut [u8; N], mut at: usize, mut value: u64) -> usize {
    const { assert!(N.is_power_of_two()) };
    while value >= 0x80 {
        bytes[at & (N - 1)] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    bytes[at & (N - 1)] = value as u8;
    at + 1
}

/// Appends the header of a batch.
pub(crate) fn put_batch_header(bytes: &mut Vec<u8>, generation: u64, thread: u64, time: u64, size: usize) {
    bytes.push(kind::EVENT_BATCH);
    [generation, thread, time, size as u64].into_iter().for_each(|value| put(bytes, value));
}

/// Cuts text to what the format takes, at a character's end.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_STRING)]
}
