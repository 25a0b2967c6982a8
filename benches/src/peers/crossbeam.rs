//! crossbeam-channel between threads of the operating system. One worker means one processor.

use std::{
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::std::use_processors;
use crate::values::{TIME, Values, one};
use crate::{
    case::{Case, Effort},
    workload::{CAPACITY, ENDS, share},
};

pub(super) fn measure(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    use_processors(workers)?;
    let time = match case {
        Case::PingPong => effort.time(ping_pong),
        Case::Spsc => effort.time(|operations| many(1, operations)),
        Case::Mpmc => effort.time(|operations| many(ENDS, operations)),
        Case::Select => effort.time(select_two),
        _ => return Ok(None),
    };
    Ok(Some(one(TIME, time)))
}

fn ping_pong(operations: u64) -> Duration {
    let (there, partner_receives) = bounded(0);
    let (partner_sends, back) = bounded(0);
    let partner = thread::spawn(move || {
        partner_receives.iter().for_each(|number: u64| partner_sends.send(number).expect("the other end receives"));
    });
    let round = |number: u64| {
        there.send(number).expect("the partner receives");
        assert_eq!(back.recv(), Ok(number), "the partner sends what it gets");
    };
    round(0);
    let start = Instant::now();
    (1..=operations).for_each(round);
    let elapsed = start.elapsed();
    drop(there);
    partner.join().expect("the partner does not panic");
    elapsed
}

fn many(ends: u64, operations: u64) -> Duration {
    let (sender, receiver): (Sender<u64>, Receiver<u64>) = bounded(CAPACITY);
    let start = Instant::now();
    let consumers: Vec<_> = (0..ends)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().count() as u64)
        })
        .collect();
    for index in 0..ends {
        let sender = sender.clone();
        let values = share(operations, ends, index);
        thread::spawn(move || (0..values).for_each(|value| sender.send(value).expect("somebody receives")));
    }
    drop(sender);
    let received: u64 = consumers.into_iter().map(|thread| thread.join().expect("a consumer does not panic")).sum();
    assert_eq!(received, operations);
    start.elapsed()
}

fn select_two(operations: u64) -> Duration {
    let start = Instant::now();
    let [(_left_open, left), (_right_open, right)] = [0, 1].map(|index| {
        let (sender, receiver) = bounded(CAPACITY);
        // A closed channel would be ready all the time.
        let open = sender.clone();
        let values = share(operations, 2, index);
        thread::spawn(move || (0..values).for_each(|value| sender.send(value).expect("somebody receives")));
        (open, receiver)
    });
    for _ in 0..operations {
        select! {
            recv(left) -> value => value,
            recv(right) -> value => value,
        }
        .expect("both channels are open");
    }
    start.elapsed()
}
