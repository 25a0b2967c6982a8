//! goker/cockroach_35931: communication, channel.
//!
//! Bug: to cancel a flow, a message is pushed into the channel of each of its inputs. One of them is full, and nobody
//! consumes it.
//!
//! Leaks: `canceller`: chan send. In Rust: no, if the consumers own the receivers.

use std::collections::HashMap;

use greenprof_runtime::sync::{Chan, Mutex, channel};

use crate::leaks::prelude::*;

pub const PROGRAM: Program = Program {
    id: "goker/cockroach_35931",
    origin: "https://github.com/cockroachdb/cockroach/pull/35931",
    what: "Cancelling pushes a message into every input; one is full and has no consumer.",
    fix: "Cancel by closing, or push without waiting.",
    forms: &[
        Form::natural(run, LEAKS),
        Form::forced(run, LEAKS),
        Form::rust(rust, &[], "the consumers own the receivers; there are none, so the push fails"),
    ],
};

const LEAKS: &[Site] = &[Site("canceller", ChanSend, 1)];

type Row = Result<u32, &'static str>;

trait Input: Send {
    fn push(&self, row: Row);
}

impl Input for Chan<Row> {
    fn push(&self, row: Row) {
        self.send(row).expect("nobody closes it");
    }
}

fn run(scene: &Scene) {
    scene.spawn("canceller", || {
        let (left, right) = (Chan::with_capacity(1), Chan::<Row>::with_capacity(1));
        left.push(Ok(7));
        let streams: Mutex<HashMap<u32, Box<dyn Input>>> = Mutex::default();
        streams.lock().insert(1, Box::new(left));
        streams.lock().insert(2, Box::new(right));
        let inputs: Vec<Box<dyn Input>> = streams.lock().drain().map(|(_, input)| input).collect();
        inputs.iter().for_each(|input| input.push(Err("the flow was cancelled")));
    });
    scene.settled();
}

fn rust(scene: &Scene) {
    scene.spawn("canceller", || {
        let ((left, left_rows), (right, right_rows)) = (channel::bounded::<Row>(1), channel::bounded::<Row>(1));
        left.send(Ok(7)).expect("there is room");
        // The consumers have gone.
        drop((left_rows, right_rows));
        [left, right].iter().for_each(|input| _ = input.send(Err("the flow was cancelled")));
    });
    scene.settled();
}
