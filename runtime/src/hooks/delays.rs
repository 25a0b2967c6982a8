//! How long those who are in a lock's queue have waited, all together, without looking at each of them.
//!
//! With `n` waiters that have come at times whose sum is `S`, all have waited `n * now - S` together. When that is
//! charged to an unlocker, it is as if all had come just then: `S = n * now`. So each nanosecond of each waiter is
//! charged once, to the unlock that ends the hold in which it passed. Go estimates the same sum from the first and the
//! last waiter of its queue.
//!
//! A reader-writer lock's core has no room for that. Its waiters are charged when they are woken, as a whole, to who
//! wakes them: [`all_of`].

use super::{Interest, real};
use crate::sys::clock;

/// Guarded by the lock of the queue. Waiters that came while nobody wanted to know have the time 0 and are not counted.
#[derive(Default)]
pub(crate) struct Delays {
    waiters: u32,
    /// The sum of the times from which on the waiters have not been charged; wraps around.
    since: u64,
    /// When the waiters were charged last.
    charged: u64,
}

impl Delays {
    /// A waiter that has come at a time has entered the queue.
    #[inline]
    pub(crate) fn entered(&mut self, came: u64) {
        if came != 0 {
            self.waiters += 1;
            self.since = self.since.wrapping_add(came.max(self.charged));
        }
    }

    /// A waiter that had come at a time has left the queue.
    #[inline]
    pub(crate) fn left(&mut self, came: u64) {
        if came != 0 {
            self.waiters -= 1;
            self.since = self.since.wrapping_sub(came.max(self.charged));
        }
    }

    /// What the waiters have waited and nobody was charged with; nothing if nobody wants to know, or nobody waits.
    #[inline]
    pub(crate) fn charge(&mut self) -> Option<u64> {
        if real::wanted(Interest::CONTENTION) { self.charge_now() } else { None }
    }

    #[cold]
    #[inline(never)]
    fn charge_now(&mut self) -> Option<u64> {
        (self.waiters > 0).then(|| self.charge_at(clock::now()))
    }

    fn charge_at(&mut self, now: u64) -> u64 {
        let all = u64::from(self.waiters).wrapping_mul(now);
        let delay = all.wrapping_sub(self.since);
        (self.since, self.charged) = (all, now);
        delay
    }
}

/// What those who came at `times` have waited, if somebody wants to know, and any of them was counted.
#[inline]
pub(crate) fn all_of(times: impl Iterator<Item = u64>) -> Option<u64> {
    if !real::wanted(Interest::CONTENTION) {
        return None;
    }
    let now = clock::now();
    times.filter(|came| *came != 0).map(|came| now.saturating_sub(came)).reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of all waiters: at each charge the same sum, whoever came, left or was not counted before.
        #[test]
        fn each_nanosecond_is_charged_once(
            steps in prop::collection::vec((0..4_u32, 1..1_000_000_u64, any::<prop::sample::Index>()), 1..60)
        ) {
            let mut delays = Delays::default();
            // When each has come, and from when on it was not charged.
            let mut waiters: Vec<(u64, u64)> = Vec::new();
            let mut now = u64::MAX / 3;
            for (step, passed, who) in steps {
                now += passed;
                match step {
                    0 => {
                        waiters.push((now, now));
                        delays.entered(now);
                    }
                    1 if !waiters.is_empty() => {
                        let (came, _) = waiters.swap_remove(who.index(waiters.len()));
                        delays.left(came);
                    }
                    2 => {
                        delays.entered(0);
                        delays.left(0);
                    }
                    _ => {
                        let expected: u64 = waiters.iter().map(|(_, since)| now - since).sum();
                        waiters.iter_mut().for_each(|(_, since)| *since = now);
                        prop_assert_eq!(delays.charge_at(now), expected);
                    }
                }
            }
        }
    }
}
