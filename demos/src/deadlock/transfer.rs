//! Accounts behind locks, and transfers between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use greenprof_runtime::{
    sleep,
    sync::{Mutex, MutexGuard},
};

/// In which order a transfer locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// First the account that it takes from.
    AsAsked,
    /// First the account with the smaller number.
    ByNumber,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    A,
    B,
}

/// An account's money, behind its lock.
pub(super) struct Money(Mutex<i64>);

impl Money {
    pub(super) fn balance(&self) -> i64 {
        *self.0.lock()
    }
}

/// Both accounts.
pub(super) struct Bank {
    pub(super) a: Money,
    pub(super) b: Money,
    /// Transfers that have their first lock. Only this: it makes the bad moment come each time, and is no primitive.
    have_one: AtomicUsize,
}

impl Bank {
    pub(super) fn new(balance: i64) -> Arc<Self> {
        let (a, b) = (Money(Mutex::new(balance)), Money(Mutex::new(balance)));
        Arc::new(Self { a, b, have_one: AtomicUsize::new(0) })
    }

    fn account(&self, which: Account) -> &Money {
        match which {
            Account::A => &self.a,
            Account::B => &self.b,
        }
    }

    /// Waits, on a plain thread, until both transfers have a lock each, which happens only if they lock as they were asked.
    pub(super) fn until_both_have_one(&self, order: Order) {
        while order == Order::AsAsked && !self.both_have_one() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn both_have_one(&self) -> bool {
        // Relaxed: nothing else is read because of it.
        self.have_one.load(Ordering::Relaxed) == 2
    }
}

/// Moves money from an account to the other.
#[inline(never)]
pub(super) fn transfer(bank: &Bank, from: Account, amount: i64, order: Order) {
    let to = if from == Account::A { Account::B } else { Account::A };
    let (mut source, mut target) = match (order, from) {
        (Order::AsAsked, _) => {
            let source = bank.account(from).0.lock();
            // In the wild, both come here at the same time once in a long while; here each time.
            bank.have_one.fetch_add(1, Ordering::Relaxed);
            while !bank.both_have_one() {
                sleep(Duration::from_millis(1));
            }
            (source, bank.account(to).0.lock())
        }
        (Order::ByNumber, Account::A) => both(bank),
        (Order::ByNumber, Account::B) => {
            let (a, b) = both(bank);
            (b, a)
        }
    };
    *source -= amount;
    *target += amount;
}

/// Both, `a` first.
fn both(bank: &Bank) -> (MutexGuard<'_, i64>, MutexGuard<'_, i64>) {
    (bank.a.0.lock(), bank.b.0.lock())
}

/// Reads an account.
#[inline(never)]
pub(super) fn statement(bank: &Bank) {
    std::hint::black_box(bank.a.balance());
}
