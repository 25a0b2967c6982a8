//! Models of channels and selects, of the real code but for the kernel: no value is lost or doubled, nobody waits for ever.

use loom::thread::{self, JoinHandle};

use super::{Chan, SendError};
use crate::{
    select,
    sys::{
        clock,
        model::{Checked, check},
    },
};

/// A value that loom checks: whoever receives it must come after whoever has sent it.
struct Value(Checked);

impl Value {
    fn new(number: u32) -> Self {
        let value = Checked::default();
        value.add(number);
        Self(value)
    }

    fn number(&self) -> u32 {
        self.0.add(0);
        self.0.read()
    }
}

fn spawn_sender(chan: &Chan<Value>, numbers: &'static [u32]) -> JoinHandle<Vec<u32>> {
    let chan = chan.clone();
    thread::spawn(move || {
        let send = |number| chan.send(Value::new(number)).err().map(|SendError(value)| value.number());
        numbers.iter().filter_map(|number| send(*number)).collect()
    })
}

#[test]
fn rendezvous() {
    check(3, 40, || {
        let chan = Chan::new();
        let sender = spawn_sender(&chan, &[1]);
        assert_eq!(chan.recv().unwrap().number(), 1);
        assert!(sender.join().unwrap().is_empty());
    });
}

/// The second value may be pushed, wait outside, or be handed over.
#[test]
fn capacity_one_keeps_the_order() {
    check(3, 300, || {
        let chan = Chan::with_capacity(1);
        let sender = spawn_sender(&chan, &[1, 2, 3]);
        assert_eq!([(); 3].map(|()| chan.recv().unwrap().number()), [1, 2, 3]);
        assert!(sender.join().unwrap().is_empty());
    });
}

#[test]
fn two_senders_and_one_receiver() {
    check(2, 1_000, || {
        let chan = Chan::new();
        let senders = [spawn_sender(&chan, &[1]), spawn_sender(&chan, &[2])];
        let mut received = [(); 2].map(|()| chan.recv().unwrap().number());
        received.sort_unstable();
        assert_eq!(received, [1, 2]);
        assert!(senders.into_iter().all(|sender| sender.join().unwrap().is_empty()));
    });
}

/// A value is either received, or given back to its sender.
fn close_against_send_and_receive(capacity: usize) {
    let chan = Chan::with_capacity(capacity);
    let sender = spawn_sender(&chan, &[1]);
    let closer = {
        let chan = chan.clone();
        thread::spawn(move || assert!(chan.close()))
    };
    let received: Vec<_> = chan.iter().map(|value| value.number()).collect();
    let given_back = sender.join().unwrap();
    closer.join().unwrap();
    assert_eq!([received, given_back].concat(), [1]);
}

#[test]
fn close_of_a_rendezvous() {
    check(2, 1_000, || close_against_send_and_receive(0));
}

#[test]
fn close_of_a_buffer() {
    check(2, 1_000, || close_against_send_and_receive(1));
}

/// Nobody receives, so only the close can end the wait of a sender.
#[test]
fn close_against_a_sender() {
    check(3, 20, || {
        let chan = Chan::new();
        let sender = spawn_sender(&chan, &[1]);
        assert!(chan.close() && !chan.close());
        assert_eq!(sender.join().unwrap(), [1]);
    });
}

/// Of two channels one is chosen, and what waits on the other stays there.
#[test]
fn select_takes_one_and_leaves_the_other() {
    check(2, 100, || {
        let chans = [Chan::new(), Chan::new()];
        let senders = [spawn_sender(&chans[0], &[0]), spawn_sender(&chans[1], &[1])];
        let first = select! {
            recv(chans[0]) -> value => value,
            recv(chans[1]) -> value => value,
        };
        let first = first.unwrap().number();
        let other = 1 - first;
        assert_eq!(chans[other as usize].recv().unwrap().number(), other);
        assert!(senders.into_iter().all(|sender| sender.join().unwrap().is_empty()));
    });
}

/// Two selects that meet on two channels agree on one of them.
#[test]
fn select_against_select() {
    check(3, 20, || {
        let chans = [Chan::new(), Chan::new()];
        let sender = {
            let [first, second] = chans.clone();
            thread::spawn(move || {
                // In the other order.
                select! {
                    send(second, Value::new(1)) -> sent => sent.map(|()| 1).ok(),
                    send(first, Value::new(0)) -> sent => sent.map(|()| 0).ok(),
                }
            })
        };
        let received = select! {
            recv(chans[0]) -> value => value,
            recv(chans[1]) -> value => value,
        };
        assert_eq!(Some(received.unwrap().number()), sender.join().unwrap());
        assert!(chans.iter().all(|chan| chan.try_recv().is_err()), "nothing is left");
    });
}

/// A timeout that meets a sender: the select has the value, or the sender still has it.
#[test]
fn select_times_out_against_a_sender() {
    check(3, 20, || {
        clock::set(1, 1_000);
        let chan = Chan::new();
        let sender = spawn_sender(&chan, &[7]);
        let value = select! {
            recv(chan) -> value => value,
            timeout(std::time::Duration::from_nanos(1_500)) => None,
        };
        let value = value.or_else(|| chan.recv());
        assert_eq!(value.unwrap().number(), 7);
        assert!(sender.join().unwrap().is_empty());
    });
}
