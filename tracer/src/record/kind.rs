//! The records in a ring.
//!
//! The first word is `ticks << 8 | kind`. The second is `extra << 44 | task`, where `extra` is a stack or a set of labels, as
//! the table says; further words follow for some. Text is in words, eight bytes each, the last one padded.
//!
//! | kind | second word | further words |
//! |---|---|---|
//! | `THREAD` | the kernel's thread id | runtime `<< 32 \|` index of the worker, or all ones |
//! | `STACK` | number of addresses `<< 32 \|` slot | hash, addresses |
//! | `ORIGIN` | bytes of the name `<< 32 \|` slot | closure's name (address, length), spawn site (address), name |
//! | `LOST` | how many | |
//! | `CREATE` | task, stack | labels `<< 32 \|` slot of the origin |
//! | `START`, `LABELS` | task, labels | |
//! | `YIELD`, `WOKEN`, `BLOCKING`, `WAIT + reason` | task, stack | |
//! | `END`, `UNBLOCKING` | task | |
//! | `SEARCH`, `SLEEP`, `WOKE`, `WORKER_START`, `WORKER_END` | 0 | |
//! | `STOP_WORLD`, `RELEASE_WORLD` | task or 0, stack | |
//! | `TASK_BEGIN` | task, stack | user task, parent, bytes, name |
//! | `TASK_END` | task, stack | user task |
//! | `REGION_BEGIN`, `REGION_END` | task, stack | user task, bytes, name |
//! | `LOG` | task, stack | user task, bytes of the category `<< 32 \|` bytes of the message, both texts |

pub(crate) const THREAD: u8 = 1;
pub(crate) const STACK: u8 = 2;
pub(crate) const ORIGIN: u8 = 3;
pub(crate) const LOST: u8 = 4;
pub(crate) const CREATE: u8 = 5;
pub(crate) const START: u8 = 6;
pub(crate) const YIELD: u8 = 7;
pub(crate) const END: u8 = 8;
pub(crate) const WOKEN: u8 = 9;
pub(crate) const LABELS: u8 = 10;
pub(crate) const BLOCKING: u8 = 11;
pub(crate) const UNBLOCKING: u8 = 12;
pub(crate) const SLEEP: u8 = 13;
pub(crate) const WOKE: u8 = 14;
pub(crate) const WORKER_START: u8 = 15;
pub(crate) const WORKER_END: u8 = 16;
pub(crate) const STOP_WORLD: u8 = 17;
pub(crate) const RELEASE_WORLD: u8 = 18;
pub(crate) const TASK_BEGIN: u8 = 19;
pub(crate) const TASK_END: u8 = 20;
pub(crate) const REGION_BEGIN: u8 = 21;
pub(crate) const REGION_END: u8 = 22;
pub(crate) const LOG: u8 = 23;
/// Plus the index of the reason.
pub(crate) const WAIT: u8 = 64;

/// Bits of a task's number: ids of half a year, at a million tasks a second.
pub(crate) const TASK_BITS: u32 = 44;
const TASK_MASK: u64 = (1 << TASK_BITS) - 1;

pub(crate) const fn head(kind: u8, ticks: u64) -> u64 {
    ticks << 8 | kind as u64
}

pub(crate) const fn kind_of(head: u64) -> u8 {
    head as u8
}

pub(crate) const fn ticks_of(head: u64) -> u64 {
    head >> 8
}

pub(crate) const fn subject(task: u64, extra: u32) -> u64 {
    (extra as u64) << TASK_BITS | task & TASK_MASK
}

pub(crate) const fn task_of(subject: u64) -> u64 {
    subject & TASK_MASK
}

pub(crate) const fn extra_of(subject: u64) -> u32 {
    (subject >> TASK_BITS) as u32
}

/// Words that hold so many bytes.
pub(crate) const fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// The words of a record, given its first ones by `word`.
pub(crate) fn length(word: impl Fn(u64) -> u64) -> u64 {
    let text = |bytes: u64| words_of(bytes as usize) as u64;
    match kind_of(word(0)) {
        THREAD | CREATE | TASK_END => 3,
        STACK => 3 + (word(1) >> 32),
        ORIGIN => 5 + text(word(1) >> 32),
        TASK_BEGIN => 5 + text(word(4)),
        REGION_BEGIN | REGION_END => 4 + text(word(3)),
        LOG => 4 + text(word(3) >> 32) + text(word(3) & u64::from(u32::MAX)),
        _ => 2,
    }
}
