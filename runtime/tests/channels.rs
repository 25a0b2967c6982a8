//! Channels and selects: order, hand-over, closing, fairness, and what must never get lost.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenprof_runtime::{
    Runtime, select, sleep, spawn,
    sync::{
        Chan, RecvTimeoutError, TryRecvError, TrySendError,
        channel::{self, RecvError},
    },
    task::WaitReason,
    world::{self, TaskState},
    yield_now,
};

fn run<T: Send>(workers: usize, main: impl FnOnce() -> T + Send) -> T {
    Runtime::builder().workers(workers).build().expect("threads").run(main)
}

/// Waits until so many tasks of this runtime wait for `reason`.
fn until_waiting(count: usize, reason: WaitReason) {
    let runtime = greenprof_runtime::Handle::current().expect("a task").runtime_id();
    let start = Instant::now();
    loop {
        let tasks = world::tasks(1);
        let waiting = |task: &&world::TaskInfo| task.runtime_id == runtime && task.state == TaskState::Waiting(reason);
        if tasks.iter().filter(waiting).count() == count {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{count} tasks should wait for {reason}: {tasks:?}");
        yield_now();
    }
}

#[test]
fn values_arrive_in_order_whatever_the_capacity() {
    for capacity in [0, 1, 3, 1000] {
        run(2, || {
            let chan = Chan::with_capacity(capacity);
            let sender = chan.clone();
            let task = spawn(move || {
                (0..5000).for_each(|n| sender.send(n).unwrap());
                sender.close();
            });
            assert!(chan.iter().eq(0..5000));
            assert_eq!(chan.recv(), None, "closed stays closed");
            task.join().unwrap();
        });
    }
}

#[test]
fn waiting_receivers_are_served_first_come_first_served() {
    run(1, || {
        let chan = Chan::new();
        let tasks: Vec<_> = (0..5)
            .map(|i| {
                let chan = chan.clone();
                let task = spawn(move || chan.recv().unwrap());
                until_waiting(i + 1, WaitReason::ChanReceive);
                task
            })
            .collect();
        (0..5).for_each(|n| chan.send(n).unwrap());
        assert!(tasks.into_iter().map(|task| task.join().unwrap()).eq(0..5));
    });
}

#[test]
fn waiting_senders_are_served_first_come_first_served() {
    for capacity in [0, 2] {
        run(1, || {
            let chan = Chan::with_capacity(capacity);
            (0..capacity).for_each(|n| chan.send(n).unwrap());
            let tasks: Vec<_> = (0..5)
                .map(|n| {
                    let chan = chan.clone();
                    let task = spawn(move || chan.send(capacity + n).unwrap());
                    until_waiting(n + 1, WaitReason::ChanSend);
                    task
                })
                .collect();
            assert!((0..capacity + 5).all(|n| chan.recv() == Some(n)));
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    }
}

#[test]
fn close_wakes_everybody_and_gives_values_back() {
    run(2, || {
        let chan = Chan::new();
        let senders: Vec<_> = (0..50)
            .map(|i| {
                let chan = chan.clone();
                spawn(move || chan.send(format!("value {i}")).unwrap_err().0)
            })
            .collect();
        until_waiting(50, WaitReason::ChanSend);
        assert!(chan.close());
        assert!(!chan.close());
        let back: HashSet<_> = senders.into_iter().map(|task| task.join().unwrap()).collect();
        assert_eq!(back.len(), 50);
        assert!(matches!(chan.try_send(String::new()), Err(TrySendError::Closed(_))));
        assert_eq!(chan.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn what_is_left_in_a_channel_is_dropped_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let value = || Counted(dropped.clone());
    let chan = Chan::with_capacity(8);
    (0..5).for_each(|_| chan.send(value()).unwrap());
    drop(chan.recv());
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    let other = chan.clone();
    drop(chan);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    drop(other);
    assert_eq!(dropped.load(Ordering::Relaxed), 5);
    let (sender, receiver) = channel::unbounded();
    (0..100).for_each(|_| sender.send(value()).unwrap());
    drop(receiver);
    assert_eq!(dropped.load(Ordering::Relaxed), 105, "without a receiver they go at once");
    assert!(sender.send(value()).is_err());
    assert_eq!(dropped.load(Ordering::Relaxed), 106);
    // An arm that is not chosen gives its value up as well.
    let nil = Chan::nil();
    select! {
        send(nil, value()) -> _ => { panic!("nil") },
        default => {},
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 107);
}

#[test]
fn halves_disconnect() {
    run(2, || {
        let (sender, receiver) = channel::rendezvous::<u32>();
        let second = sender.clone();
        let task = spawn(move || receiver.iter().collect::<Vec<_>>());
        sender.send(1).unwrap();
        drop(sender);
        second.send(2).unwrap();
        drop(second);
        assert_eq!(task.join().unwrap(), [1, 2]);

        let (sender, receiver) = channel::bounded(2);
        sender.send(1).unwrap();
        drop(sender);
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Err(RecvError)));

        let (sender, receiver) = channel::rendezvous();
        let blocked = spawn(move || sender.send("back").unwrap_err().0);
        until_waiting(1, WaitReason::ChanSend);
        drop(receiver);
        assert_eq!(blocked.join().unwrap(), "back");
    });
}

#[test]
fn unbounded_channels_grow_and_keep_order() {
    let (sender, receiver) = channel::unbounded();
    let mut next = 0;
    for round in 0..50 {
        (0..round * 7).for_each(|i| sender.send(round * 1000 + i).unwrap());
        while next % 1000 < round * 7 / 2 {
            assert!(receiver.try_recv().is_ok());
            next += 1;
        }
        next = 0;
    }
    let rest: Vec<i32> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
    assert!(rest.is_sorted() && !rest.is_empty());
}

#[test]
fn nil_channels_wait_for_ever() {
    run(1, || {
        spawn(|| Chan::<u8>::nil().recv());
        spawn(|| Chan::nil().send(1));
        spawn(|| -> () {
            select! {}
        });
        spawn(|| {
            let nil = Chan::<u8>::nil();
            select! { recv(nil) -> _ => {} }
        });
        until_waiting(1, WaitReason::ChanReceiveNil);
        until_waiting(1, WaitReason::ChanSendNil);
        until_waiting(2, WaitReason::SelectNoCases);
        assert_eq!(Chan::<u8>::nil().try_recv(), Err(TryRecvError::Empty));
        assert!(std::panic::catch_unwind(|| Chan::<u8>::nil().close()).is_err());
    });
}

#[test]
fn select_takes_what_is_ready_and_else_the_default() {
    let (a, b) = (Chan::with_capacity(1), Chan::<&str>::with_capacity(1));
    let look = || {
        select! {
            recv(a) -> value => format!("a: {value:?}"),
            recv(b) -> value => format!("b: {value:?}"),
            default => "nothing".to_owned(),
        }
    };
    assert_eq!(look(), "nothing");
    b.send("x").unwrap();
    assert_eq!(look(), "b: Some(\"x\")");
    a.send(1).unwrap();
    assert_eq!(look(), "a: Some(1)");
    a.close();
    assert_eq!(look(), "a: None");
    let sent = select! {
        send(b, "y") -> sent => sent.is_ok(),
        default => false,
    };
    assert!(sent && b.recv() == Some("y"));
    let refused = select! {
        send(a, 5) -> sent => sent.unwrap_err().0,
    };
    assert_eq!(refused, 5);
}

#[test]
fn select_times_out_and_leaves_nothing_behind() {
    run(2, || {
        let (chan, start) = (Chan::<u8>::new(), Instant::now());
        let timed_out = select! {
            recv(chan) -> _ => false,
            timeout(Duration::from_millis(20)) => true,
        };
        assert!(timed_out && start.elapsed() >= Duration::from_millis(20));
        assert!(matches!(chan.try_send(1), Err(TrySendError::Full(1))), "no receiver is left in the queue");
        let sender = chan.clone();
        let task = spawn(move || sender.send(7));
        let got = select! {
            recv(chan) -> value => value,
            timeout(Duration::from_secs(60)) => None,
        };
        assert_eq!(got, Some(7));
        task.join().unwrap().unwrap();
    });
    // On a plain thread as well.
    let chan = Chan::<u8>::new();
    let timed_out = select! {
        recv(chan) -> _ => false,
        timeout(Duration::from_millis(5)) => true,
    };
    assert!(timed_out);
}

#[test]
fn a_receive_with_a_timeout_takes_a_value_or_leaves_nothing_behind() {
    run(2, || {
        let (sender, receiver) = channel::bounded(1);
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
        sender.send(1).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(1));
        let chan = Chan::new();
        let far = chan.clone();
        let task = spawn(move || (0..2000).for_each(|n| far.send(n).unwrap()));
        let mut next = 0;
        while next < 2000 {
            match chan.recv_timeout(Duration::from_micros(next % 50)) {
                Ok(n) => {
                    assert_eq!(n, next, "none is lost to a receive that gave up");
                    next += 1;
                }
                Err(error) => assert_eq!(error, RecvTimeoutError::Timeout),
            }
        }
        task.join().unwrap();
        drop(sender);
        assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Closed));
    });
}

#[test]
fn select_is_fair_among_ready_arms() {
    const ROUNDS: usize = 6000;
    let chans: [Chan<()>; 3] = std::array::from_fn(|_| Chan::new());
    chans.iter().for_each(|chan| {
        chan.close();
    });
    let [a, b, c] = &chans;
    // One arm that is never ready must not give its turns to its neighbour.
    let never = Chan::<()>::new();
    let mut chosen = [0; 3];
    for _ in 0..ROUNDS {
        select! {
            recv(a) -> _ => chosen[0] += 1,
            recv(never) -> _ => unreachable!(),
            recv(b) -> _ => chosen[1] += 1,
            recv(c) -> _ => chosen[2] += 1,
        }
    }
    for count in chosen {
        // Six standard deviations of a binomial with a third.
        let expected = ROUNDS as f64 / 3.0;
        assert!((count as f64 - expected).abs() < 6.0 * (ROUNDS as f64 * 2.0 / 9.0).sqrt(), "{chosen:?}");
    }
}

#[test]
fn selects_meet_selects() {
    // Two tasks that each offer to send to the other and to receive from it: exactly one of both happens per round.
    run(2, || {
        const ROUNDS: usize = 3000;
        let (there, back) = (Chan::new(), Chan::new());
        let (there2, back2) = (there.clone(), back.clone());
        let other = spawn(move || {
            let mut sum = (0, 0);
            for n in 0..ROUNDS {
                select! {
                    recv(there2) -> value => sum.0 += value.unwrap(),
                    send(back2, n) -> sent => { sent.unwrap(); sum.1 += n; }
                }
            }
            sum
        });
        let mut sum = (0, 0);
        for n in 0..ROUNDS {
            select! {
                send(there, n) -> sent => { sent.unwrap(); sum.0 += n; }
                recv(back) -> value => sum.1 += value.unwrap(),
            }
        }
        assert_eq!(other.join().unwrap(), sum);
    });
}

#[test]
fn a_select_does_not_meet_itself() {
    run(1, || {
        let chan = Chan::new();
        let got = select! {
            send(chan, 1) -> _ => "sent",
            recv(chan) -> _ => "received",
            timeout(Duration::from_millis(5)) => "nothing",
        };
        assert_eq!(got, "nothing");
    });
}

#[test]
fn nothing_is_lost_or_doubled_among_selects_and_plain_operations() {
    const EACH: usize = 4000;
    for workers in [1, 2] {
        run(workers, || {
            let chans: Vec<Chan<usize>> = [0, 1, 5].map(Chan::with_capacity).into();
            let senders: Vec<_> = (0..4)
                .map(|s| {
                    let chans = chans.clone();
                    spawn(move || {
                        for n in 0..EACH {
                            let value = s * EACH + n;
                            match n % 3 {
                                0 => chans[n % chans.len()].send(value).unwrap(),
                                _ => select! {
                                    send(chans[0], value) -> sent => sent.unwrap(),
                                    send(chans[1], value) -> sent => sent.unwrap(),
                                    send(chans[2], value) -> sent => sent.unwrap(),
                                },
                            }
                        }
                    })
                })
                .collect();
            let done = Chan::<()>::new();
            let receivers: Vec<_> = (0..3)
                .map(|_| {
                    let (chans, done) = (chans.clone(), done.clone());
                    spawn(move || {
                        let mut got = Vec::new();
                        loop {
                            select! {
                                recv(chans[0]) -> value => got.push(value.unwrap()),
                                recv(chans[1]) -> value => got.push(value.unwrap()),
                                recv(chans[2]) -> value => got.push(value.unwrap()),
                                recv(done) -> _ => return got,
                                timeout(Duration::from_secs(30)) => panic!("stuck with {} values", got.len()),
                            }
                        }
                    })
                })
                .collect();
            senders.into_iter().for_each(|task| task.join().unwrap());
            while chans.iter().any(|chan| !chan.is_empty()) {
                sleep(Duration::from_millis(1));
            }
            done.close();
            let mut all: Vec<_> = receivers.into_iter().flat_map(|task| task.join().unwrap()).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..4 * EACH));
        });
    }
}
