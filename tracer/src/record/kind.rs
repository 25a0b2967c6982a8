//! The records in a ring.
//!
//! The first word is `ticks << 8 | kind`. The second is `run << 55 | extra << 44 | task`, where `extra` is a stack, as the table
//! says, and `run` is how often the task has been resumed, of which the lowest bits do to tell events of one task apart.
//! Further words follow for some. Text is in words, eight bytes each, the last one padded.
//!
//! | kind | second word | further words |
//! |---|---|---|
//! | `THREAD` | the kernel's thread id | runtime `<< 32 \|` index of the worker, or all ones |
//! | `STACK` | number of addresses `<< 32 \|` slot | hash, addresses |
//! | `ORIGIN` | bytes of the name `<< 32 \|` slot | closure's name (address, length), spawn site (address), name |
//! | `LOST` | how many | |
//! | `CREATE` | task, run, stack | labels `<< 32 \|` slot of the origin |
//! | `START` | task, run | |
//! | `YIELD`, `WOKEN`, `WAIT + reason` | task, run, stack | |
//! | `LABELS` | task | labels |
//! | `BLOCKING` | task, stack | |
//! | `END`, `UNBLOCKING` | task | |
//! | `SLEEP`, `WOKE`, `WORKER_START`, `WORKER_END` | 0 | |
//! | `STOP_WORLD`, `RELEASE_WORLD`, `SEARCH_BEGIN`, `SEARCH_END` | task or 0, stack | |
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
pub(crate) const SEARCH_BEGIN: u8 = 24;
pub(crate) const SEARCH_END: u8 = 25;
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

/// Bits of a stack's number.
const STACK_BITS: u32 = 11;
const STACK_MASK: u64 = (1 << STACK_BITS) - 1;
const _: () = assert!(super::stack::SLOTS <= STACK_MASK as usize, "slots are numbered from 1");

/// Bits that are left for a run.
pub(crate) const RUN_BITS: u32 = 64 - TASK_BITS - STACK_BITS;

pub(crate) const fn subject(task: u64, stack: u32) -> u64 {
    (stack as u64 & STACK_MASK) << TASK_BITS | task & TASK_MASK
}

/// The same with a run.
pub(crate) const fn subject_in(task: u64, stack: u32, run: u64) -> u64 {
    run << (TASK_BITS + STACK_BITS) | subject(task, stack)
}

pub(crate) const fn task_of(subject: u64) -> u64 {
    subject & TASK_MASK
}

pub(crate) const fn stack_of(subject: u64) -> u32 {
    (subject >> TASK_BITS & STACK_MASK) as u32
}

pub(crate) const fn run_of(subject: u64) -> u16 {
    (subject >> (TASK_BITS + STACK_BITS)) as u16
}

/// Words that hold so many bytes.
pub(crate) const fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// The words of the record that these begin with.
pub(crate) fn length(words: &[u64]) -> usize {
    let text = |bytes: u64| words_of(bytes as usize);
    match kind_of(words[0]) {
        THREAD | CREATE | LABELS | TASK_END => 3,
        STACK => 3 + (words[1] >> 32) as usize,
        ORIGIN => 5 + text(words[1] >> 32),
        TASK_BEGIN => 5 + text(words[4]),
        REGION_BEGIN | REGION_END => 4 + text(words[3]),
        LOG => 4 + text(words[3] >> 32) + text(words[3] & u64::from(u32::MAX)),
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_subject_do_not_touch() {
        for (task, stack, run) in [(TASK_MASK, 0, 0), (0, STACK_MASK as u32, 0), (0, 0, (1 << RUN_BITS) - 1), (5, 6, 7)]
        {
            let subject = subject_in(task, stack, run);
            assert_eq!((task_of(subject), stack_of(subject), u64::from(run_of(subject))), (task, stack, run));
        }
        assert_eq!(run_of(subject_in(0, 0, 1 << RUN_BITS | 3)), 3, "only the lowest bits are kept");
        assert_eq!(ticks_of(head(WAIT + 3, 99)), 99);
        assert_eq!(kind_of(head(WAIT + 3, 99)), WAIT + 3);
    }
}
