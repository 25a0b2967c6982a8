//! flume's channels between tasks of tokio, which has none with several receivers.

use std::time::{Duration, Instant};

use super::tokio::Tokio;
use crate::values::{TIME, Values, one};
use crate::{
    case::{Case, Effort},
    workload::{CAPACITY, ENDS, share},
};

pub(super) fn measure(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    let tokio = Tokio::new(workers)?;
    let time = match case {
        Case::PingPong => effort.time(|operations| tokio.run(ping_pong(operations))),
        Case::Spsc => effort.time(|operations| tokio.run(many(1, operations))),
        Case::Mpmc => effort.time(|operations| tokio.run(many(ENDS, operations))),
        _ => return Ok(None),
    };
    Ok(Some(one(TIME, time)))
}

/// Over two channels without a buffer, which tokio's own channels cannot be.
async fn ping_pong(operations: u64) -> Duration {
    let (there, partner_receives) = flume::bounded(0);
    let (partner_sends, back) = flume::bounded(0);
    let partner = tokio::spawn(async move {
        while let Ok(number) = partner_receives.recv_async().await {
            partner_sends.send_async(number).await.expect("the other end lives until the partner has ended");
        }
    });
    let mut start = Instant::now();
    for number in 0..=operations {
        there.send_async(number).await.expect("the partner receives");
        assert_eq!(back.recv_async().await, Ok(number), "the partner sends what it gets");
        if number == 0 {
            start = Instant::now();
        }
    }
    let elapsed = start.elapsed();
    drop(there);
    partner.await.expect("the partner does not panic");
    elapsed
}

async fn many(ends: u64, operations: u64) -> Duration {
    let (sender, receiver) = flume::bounded(CAPACITY);
    let start = Instant::now();
    let consumers: Vec<_> = (0..ends)
        .map(|_| {
            let receiver = receiver.clone();
            tokio::spawn(async move {
                let mut received = 0;
                while receiver.recv_async().await.is_ok() {
                    received += 1;
                }
                received
            })
        })
        .collect();
    for index in 0..ends {
        let sender = sender.clone();
        let values = share(operations, ends, index);
        tokio::spawn(async move {
            for value in 0..values {
                sender.send_async(value).await.expect("somebody receives");
            }
        });
    }
    drop(sender);
    let mut received = 0;
    for consumer in consumers {
        received += consumer.await.expect("a consumer does not panic");
    }
    assert_eq!(received, operations);
    start.elapsed()
}
