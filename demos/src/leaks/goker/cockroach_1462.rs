//! goker/cockroach_1462: mixed, channel and wait group.
//!
//! Bug: a consumer leaves when it is told to stop, while the producer is already in a plain send to it. The producer never
//! says that it is done, and who stops them waits for both.
//!
//! Leaks: `producer`: chan send, `stopper`: sync.WaitGroup.Wait. In Rust: no.

use greenprof_runtime::{
    select,
    sync::{Chan, TryRecvError, WaitGroup, channel},
    yield_now,
};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_1462",
    origin: "https://github.com/cockroachdb/cockroach/pull/1462",
    what: "A consumer stops while the producer is in a plain send to it; who stops them waits for both.",
    fix: "Select between the send and the stop.",
    forms: &[
        Form::natural(run, LEAKS).instances(50),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the consumer's receiver is dropped when it leaves: the send fails"),
    ],
};

const LEAKS: &[Site] = &[Site("producer", ChanSend, 1), Site("stopper", WaitGroupWait, 1)];

fn run(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("stopper", move || {
        let (events, stop, workers) = (Chan::new(), Chan::<()>::new(), WaitGroup::new());
        let (took_one, stopped) = (stage.gate(), stage.gate());
        workers.add(2);
        let (theirs, told, group) = (events.clone(), stop.clone(), workers.clone());
        stage.spawn("producer", move || {
            while told.try_recv() == Err(TryRecvError::Empty) {
                theirs.send(7).expect("nobody closes it");
            }
            group.done();
        });
        let (told, group, forced) = (stop.clone(), workers.clone(), stage.forced());
        let (took, go_on) = (took_one.clone(), stopped.clone());
        stage.spawn("consumer", move || {
            loop {
                select! {
                    recv(events) -> _ => {
                        took.open();
                        go_on.pass();
                        // The select would choose between the two at random.
                        if forced {
                            break;
                        }
                    }
                    recv(told) -> _ => break,
                }
            }
            group.done();
        });
        yield_now();
        took_one.pass();
        stage.until("producer", ChanSend, 1);
        stop.close();
        stopped.open();
        workers.wait();
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    let stage = scene.clone();
    scene.spawn("stopper", move || {
        let ((theirs, events), (stop, told)) = (channel::rendezvous(), channel::rendezvous::<()>());
        let (took_one, stopped, workers) = (stage.gate(), stage.gate(), WaitGroup::new());
        workers.add(2);
        let group = workers.clone();
        stage.spawn("producer", move || {
            while theirs.send(7).is_ok() {}
            group.done();
        });
        let (took, go_on, group) = (took_one.clone(), stopped.clone(), workers.clone());
        stage.spawn("consumer", move || {
            _ = events.recv();
            took.open();
            go_on.pass();
            _ = told.recv();
            drop(events);
            group.done();
        });
        took_one.pass();
        stage.until("producer", ChanSend, 1);
        drop(stop);
        stopped.open();
        workers.wait();
    });
    scene.settled();
}
