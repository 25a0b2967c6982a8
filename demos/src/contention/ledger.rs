//! The hot lock: clerks book amounts in a ledger, and write each into a journal, which takes its time.

use std::{sync::Arc, time::Duration};

use greenprof_runtime::{JoinHandle, sleep, spawn, sync::Mutex};

use super::Version;

/// Tasks that book.
const CLERKS: u64 = 8;

/// Amounts that each books in a round.
const AMOUNTS: u64 = 40;

/// How long the journal takes.
const JOURNAL: Duration = Duration::from_micros(200);

/// The function that others wait for.
pub(super) const HOT: &str = "greenprof_demos::contention::ledger::book_and_write";

/// What a round books.
pub(super) const SUM: u64 = CLERKS * AMOUNTS * (AMOUNTS + 1) / 2;

#[derive(Default)]
struct Ledger {
    sum: u64,
    bookings: u64,
}

/// Stands for a disk.
fn write_journal() {
    sleep(JOURNAL);
}

/// Keeps the ledger locked while the journal is written, though the journal does not need it.
#[inline(never)]
fn book_and_write(ledger: &Mutex<Ledger>, amount: u64) {
    let mut ledger = ledger.lock();
    ledger.sum += amount;
    ledger.bookings += 1;
    write_journal();
}

/// Keeps the ledger locked for two additions.
#[inline(never)]
fn book_then_write(ledger: &Mutex<Ledger>, amount: u64) {
    let mut locked = ledger.lock();
    locked.sum += amount;
    locked.bookings += 1;
    drop(locked);
    write_journal();
}

/// All clerks book their amounts. To be called in a task; gives the ledger's sum.
pub(super) fn round(version: Version) -> u64 {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let clerks: Vec<JoinHandle<()>> = (0..CLERKS)
        .map(|_| {
            let ledger = ledger.clone();
            spawn(move || {
                for amount in 1..=AMOUNTS {
                    match version {
                        Version::Before => book_and_write(&ledger, amount),
                        Version::After => book_then_write(&ledger, amount),
                    }
                }
            })
        })
        .collect();
    clerks.into_iter().for_each(|clerk| clerk.join().expect("a clerk does not panic"));
    let ledger = ledger.lock();
    assert_eq!(ledger.bookings, CLERKS * AMOUNTS, "nothing is booked twice");
    ledger.sum
}
