//! The job repaired: one buffer, made large enough at once, for all lines; a pool keeps it for the next task.

use std::{fmt::Write, sync::Mutex};

/// Longer than any key, so that the buffer never grows.
const CAPACITY: usize = 256;

/// Buffers that nobody uses at the moment. The lock guards the list; nothing waits for a task while it is held.
static POOL: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Goes over the lines so often, and adds up the hashes of their keys.
pub fn keys(lines: &[String], passes: usize) -> u64 {
    let mut buffer = take();
    let mut sum = 0_u64;
    for _ in 0..passes {
        for line in lines {
            key(line, &mut buffer);
            sum = sum.wrapping_add(hash(&buffer));
        }
    }
    give(buffer);
    sum
}

#[inline(never)]
fn take() -> String {
    let pooled = POOL.lock().ok().and_then(|mut pool| pool.pop());
    pooled.unwrap_or_else(|| String::with_capacity(CAPACITY))
}

fn give(buffer: String) {
    if let Ok(mut pool) = POOL.lock() {
        pool.push(buffer);
    }
}

/// Writes the key of a line over what the buffer held.
#[inline(never)]
fn key(line: &str, key: &mut String) {
    key.clear();
    for (number, field) in line.split(' ').enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(key, "{number}=");
        key.extend(field.chars().map(|c| c.to_ascii_uppercase()));
        key.push(';');
    }
}

/// The hash of a key: FNV-1a.
pub(super) fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
