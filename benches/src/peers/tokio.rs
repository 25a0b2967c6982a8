//! tokio's multi-threaded runtime.
//!
//! Its tasks have no stack, and its channels no rendezvous and one receiver: ping-pong goes over `mpsc::channel(1)`, and the
//! case with several receivers is flume's. A task that has done 128 operations in a row is made to yield. A crowd waits on
//! a semaphore that is closed, which is tokio's nearest to a channel that is closed.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::tokio::{
    runtime::{Builder, Runtime},
    select,
    sync::{Barrier, Mutex, Notify, Semaphore, mpsc},
    time::sleep,
};
use anyhow::Context;

use super::of_crowd;
use crate::values::{P99, TIME, Values, one};
use crate::{
    case::{Case, Effort},
    workload::{self, BATCH, CAPACITY, CHILDREN, Crowd, SHARERS, Wave, YIELDERS, share},
};

/// A runtime.
pub struct Tokio(Runtime);

impl Tokio {
    /// Starts one.
    ///
    /// # Errors
    /// If the system has no threads for it.
    pub fn new(workers: usize) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(workers).enable_time().build();
        Ok(Self(runtime.context("tokio cannot be started")?))
    }

    /// Runs the main task on a worker: `block_on` alone would run it on this thread, which is none.
    pub fn run<T: Send + 'static>(&self, main: impl Future<Output = T> + Send + 'static) -> T {
        self.0.block_on(self.0.spawn(main)).expect("the main task does not panic")
    }
}

pub(super) fn measure(case: Case, workers: usize, effort: Effort) -> anyhow::Result<Option<Values>> {
    let tokio = Tokio::new(workers)?;
    let tasks = YIELDERS * workers as u64;
    let time = match case {
        Case::Yield => effort.time(|operations| tokio.run(yields(tasks, operations)) * workers as u32),
        Case::SpawnJoin => effort.time(|operations| tokio.run(spawn_join(BATCH, operations))),
        Case::PingPong => effort.time(|operations| tokio.run(ping_pong(operations))),
        Case::Spsc => effort.time(|operations| tokio.run(spsc(operations))),
        Case::MutexAlone => effort.time(|operations| tokio.run(mutex_alone(operations))),
        Case::MutexShared => effort.time(|operations| tokio.run(mutex_shared(operations))),
        Case::Select => effort.time(|operations| tokio.run(select_two(operations))),
        Case::Skynet => effort.time(|leaves| tokio.run(skynet(leaves))),
        Case::Parked => return Ok(Some(of_crowd(&Crowd::run(effort, |tasks| parked(&tokio, tasks))))),
        Case::Sleepers => {
            return Ok(Some(one(P99, workload::p99_milliseconds(tokio.run(sleepers(effort.operations))))));
        }
        _ => return Ok(None),
    };
    Ok(Some(one(TIME, time)))
}

/// Wall time of [`workload::yields`]. tokio defers tasks that yield until its worker has polled the driver, to give I/O and
/// timers their turn, which greenprof's yield does not.
pub async fn yields(tasks: u64, operations: u64) -> Duration {
    let gate = Arc::new(Barrier::new(tasks as usize + 1));
    let tasks: Vec<_> = (0..tasks)
        .map(|index| {
            let gate = gate.clone();
            tokio::spawn(async move {
                gate.wait().await;
                for _ in 0..share(operations, tasks, index) {
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    gate.wait().await;
    let start = Instant::now();
    for task in tasks {
        task.await.expect("a yielding task does not panic");
    }
    start.elapsed()
}

/// As [`workload::spawn_join`].
pub async fn spawn_join(batch: u64, operations: u64) -> Duration {
    let mut handles = Vec::with_capacity(batch.min(operations) as usize);
    let start = Instant::now();
    let mut left = operations;
    while left > 0 {
        let now = left.min(batch);
        handles.extend((0..now).map(|_| tokio::spawn(async {})));
        for handle in handles.drain(..) {
            handle.await.expect("an empty task does not panic");
        }
        left -= now;
    }
    start.elapsed()
}

/// As [`workload::ping_pong`] with capacity 1.
pub async fn ping_pong(operations: u64) -> Duration {
    let (there, mut partner_receives) = mpsc::channel(1);
    let (partner_sends, mut back) = mpsc::channel(1);
    let partner = tokio::spawn(async move {
        while let Some(number) = partner_receives.recv().await {
            partner_sends.send(number).await.expect("the other end lives until the partner has ended");
        }
    });
    let mut start = Instant::now();
    for number in 0..=operations {
        there.send(number).await.expect("the partner receives");
        assert_eq!(back.recv().await, Some(number), "the partner sends what it gets");
        if number == 0 {
            // One round before the clock starts: then the partner is there, and waits.
            start = Instant::now();
        }
    }
    let elapsed = start.elapsed();
    drop(there);
    partner.await.expect("the partner does not panic");
    elapsed
}

async fn spsc(operations: u64) -> Duration {
    let (sender, mut receiver) = mpsc::channel(CAPACITY);
    let start = Instant::now();
    let consumer = tokio::spawn(async move {
        let mut received = 0;
        while receiver.recv().await.is_some() {
            received += 1;
        }
        received
    });
    tokio::spawn(send_all(sender, operations));
    let received: u64 = consumer.await.expect("the consumer does not panic");
    assert_eq!(received, operations);
    start.elapsed()
}

async fn send_all(sender: mpsc::Sender<u64>, values: u64) {
    for value in 0..values {
        sender.send(value).await.expect("somebody receives");
    }
}

async fn select_two(operations: u64) -> Duration {
    let (left_sender, mut left) = mpsc::channel(CAPACITY);
    let (right_sender, mut right) = mpsc::channel(CAPACITY);
    let start = Instant::now();
    // The senders here live on: a closed channel would be ready all the time.
    tokio::spawn(send_all(left_sender.clone(), share(operations, 2, 0)));
    tokio::spawn(send_all(right_sender.clone(), share(operations, 2, 1)));
    for _ in 0..operations {
        let value = select! {
            value = left.recv() => value,
            value = right.recv() => value,
        };
        value.expect("both channels are open");
    }
    start.elapsed()
}

async fn mutex_alone(operations: u64) -> Duration {
    let mutex = Mutex::new(0_u64);
    let start = Instant::now();
    for _ in 0..operations {
        *mutex.lock().await += 1;
    }
    let elapsed = start.elapsed();
    assert_eq!(mutex.into_inner(), operations);
    elapsed
}

async fn mutex_shared(operations: u64) -> Duration {
    let mutex = Arc::new(Mutex::new(0_u64));
    let gate = Arc::new(Barrier::new(SHARERS as usize + 1));
    let tasks: Vec<_> = (0..SHARERS)
        .map(|index| {
            let (mutex, gate) = (mutex.clone(), gate.clone());
            tokio::spawn(async move {
                gate.wait().await;
                for _ in 0..share(operations, SHARERS, index) {
                    *mutex.lock().await += 1;
                }
            })
        })
        .collect();
    gate.wait().await;
    let start = Instant::now();
    for task in tasks {
        task.await.expect("a task does not panic");
    }
    let elapsed = start.elapsed();
    assert_eq!(*mutex.lock().await, operations);
    elapsed
}

async fn skynet(leaves: u64) -> Duration {
    let start = Instant::now();
    let (up, mut sum) = mpsc::channel(1);
    tokio::spawn(node(up, 0, leaves));
    assert_eq!(sum.recv().await, Some(workload::sum_of(leaves)), "every leaf is counted once");
    start.elapsed()
}

/// Boxed, because it spawns itself. The channel has room for all children, so that none of them waits.
fn node(up: mpsc::Sender<u64>, first: u64, leaves: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let mut sum = first;
        if leaves > 1 {
            let (sender, mut below) = mpsc::channel(CHILDREN as usize);
            let share = leaves / CHILDREN;
            for child in 0..CHILDREN {
                tokio::spawn(node(sender.clone(), first + child * share, share));
            }
            sum = 0;
            for _ in 0..CHILDREN {
                sum += below.recv().await.expect("a sender lives here");
            }
        }
        up.send(sum).await.expect("the parent receives");
    })
}

fn parked(tokio: &Tokio, tasks: u64) -> Wave {
    let wave = tokio.run(async move {
        let gate = Arc::new(Semaphore::new(0));
        let (arrived, woken) = (Arc::new(Countdown::new(tasks)), Arc::new(Countdown::new(tasks)));
        let before = workload::resident();
        let start = Instant::now();
        for _ in 0..tasks {
            let (gate, arrived, woken) = (gate.clone(), arrived.clone(), woken.clone());
            tokio::spawn(async move {
                arrived.done();
                let _closed = gate.acquire().await;
                woken.done();
            });
        }
        arrived.wait().await;
        let spawn = start.elapsed();
        let resident = workload::resident().saturating_sub(before);
        let start = Instant::now();
        gate.close();
        woken.wait().await;
        Wave { spawn, wake: start.elapsed(), resident }
    });
    while tokio.0.metrics().num_alive_tasks() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    wave
}

/// Waits until a number of things has been done.
struct Countdown {
    left: AtomicUsize,
    zero: Notify,
}

impl Countdown {
    fn new(count: u64) -> Self {
        Self { left: AtomicUsize::new(count as usize), zero: Notify::new() }
    }

    fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.zero.notify_one(); // remembered if nobody waits yet
        }
    }

    async fn wait(&self) {
        self.zero.notified().await;
    }
}

async fn sleepers(count: u64) -> Vec<u64> {
    let late: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let done = Arc::new(Countdown::new(count));
    for (index, duration) in workload::durations(count).enumerate() {
        let (late, done) = (late.clone(), done.clone());
        tokio::spawn(async move {
            let start = Instant::now();
            sleep(duration).await;
            late[index].store(workload::lateness(start, duration), Ordering::Relaxed);
            done.done();
        });
    }
    done.wait().await;
    late.iter().map(|late| late.load(Ordering::Relaxed)).collect()
}
